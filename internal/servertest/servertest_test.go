package servertest

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

// connect returns both ends of a connection.
func connect(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	a = Dial(t, l.Addr())
	conn, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return a, conn.(*net.TCPConn)
}

func TestResetReachesThePeer(t *testing.T) {
	a, b := connect(t)
	Reset(t, a)
	_, err := b.Read(make([]byte, 1))
	RequireReset(t, err)
}

func TestDescriptorIsReadAndWritten(t *testing.T) {
	a, b := connect(t)
	raw, err := a.SyscallConn()
	require.NoError(t, err)
	p := make([]byte, 10)
	n := 0
	control := func(f func(fd uintptr)) { require.NoError(t, raw.Control(f)) }

	control(func(fd uintptr) { _, err = WriteFD(fd, []byte("ping")) })
	require.NoError(t, err)
	_, err = io.ReadFull(b, p[:4])
	require.NoError(t, err)
	require.Equal(t, "ping", string(p[:4]))

	require.NoError(t, b.CloseWrite())
	control(func(fd uintptr) { err = SetBlocking(fd) })
	require.NoError(t, err)
	control(func(fd uintptr) { n, err = ReadFD(fd, p) })
	require.NoError(t, err, "the end of the stream, for which it waited")
	require.Zero(t, n)

	require.NoError(t, a.CloseWrite())
	control(func(fd uintptr) { _, err = WriteFD(fd, p) })
	require.ErrorIs(t, err, ErrShutdown)
}

func TestLeakedGoroutineIsReported(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), OpenFiles()
	end := make(chan struct{})
	for range 10 { // more than goroutines of other tests can be ending
		go func() { <-end }()
	}
	var report strings.Builder
	require.True(t, leaked(50*time.Millisecond, &report, goroutines, files))
	require.Contains(t, report.String(), t.Name())
	close(end)
	require.False(t, Leaked(goroutines, files))
}

func TestModuleRootHasTheModule(t *testing.T) {
	_, err := os.Stat(filepath.Join(moduleRoot(t), "docs", "platforms.md"))
	require.NoError(t, err)
}
