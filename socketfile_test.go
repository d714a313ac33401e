package tcpserver_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// socketPath returns a path in a new directory that is short enough for a unix socket.
func socketPath(t testing.TB) string {
	dir, err := os.MkdirTemp("", "tcpserver")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// needUnix skips the test on systems without unix sockets.
func needUnix(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", socketPath(t))
	if err != nil {
		skip(t, "no unix sockets: ", err)
	}
	l.Close()
}

// listenUnix starts server on path. It skips the test on systems without unix sockets.
func listenUnix(t testing.TB, server *tcpserver.TcpServer, path string) {
	t.Helper()
	needUnix(t)
	err := server.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
}

func TestUnixSocketServesConnections(t *testing.T) {
	path := socketPath(t)
	var server tcpserver.TcpServer
	listenUnix(t, &server, path)
	assert.Equal(t, &net.UnixAddr{Name: path, Net: "unix"}, server.Addr())
	assert.Zero(t, server.Port())

	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer conn.Close()
	socket := take(t, &server)
	assert.Equal(t, server.Addr(), socket.LocalAddr())
	assert.Equal(t, &net.UnixAddr{Net: "unix"}, socket.RemoteAddr())
	require.ErrorIs(t, socket.SetNoDelay(true), errors.ErrUnsupported)
	_, err = conn.Write([]byte("Hello\n"))
	require.NoError(t, err)
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	line, ok := socket.ReadLine()
	require.True(t, ok)
	require.NoError(t, socket.Send(line))
	got := make([]byte, len(line))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	assert.Equal(t, "Hello\n", string(got))

	require.NoError(t, server.Close())
	assert.NoFileExists(t, path)
	_, err = conn.Write([]byte("still here"))
	assert.NoError(t, err, "the connection must outlive the server")
}

func TestRemoteAddrIsNameOfUnixPeer(t *testing.T) {
	path := socketPath(t)
	var server tcpserver.TcpServer
	listenUnix(t, &server, path)
	name := &net.UnixAddr{Name: path + ".client", Net: "unix"}
	conn, err := net.DialUnix("unix", name, server.Addr().(*net.UnixAddr))
	require.NoError(t, err)
	defer conn.Close()
	assert.Equal(t, name, take(t, &server).RemoteAddr())
}

func TestBoundUnixSocketRefusesConnectionsAndCloseRemovesFile(t *testing.T) {
	needUnix(t)
	path := socketPath(t)
	var server tcpserver.TcpServer
	require.NoError(t, server.Bind("unix", path))
	_, err := net.Dial("unix", path)
	require.ErrorIs(t, err, errRefused)
	require.NoError(t, server.ListenBound())
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	conn.Close()
	require.NoError(t, server.Close())
	assert.NoFileExists(t, path)
}

func TestInvalidUnixPathReturnsErrInvalidAddress(t *testing.T) {
	var server tcpserver.TcpServer
	for _, bad := range []string{"", strings.Repeat("x", 200), "a\x00b"} {
		err := server.Listen("unix", bad)
		require.ErrorIs(t, err, tcpserver.ErrInvalidAddress)
		assert.ErrorContains(t, err, bad)
	}
}

func TestListenOnUnusableUnixPathReturnsSystemError(t *testing.T) {
	needUnix(t)
	var server tcpserver.TcpServer
	path := socketPath(t)
	require.ErrorIs(t, server.Listen("unix", filepath.Join(path, "no", "such", "directory")), fs.ErrNotExist)

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.ErrorIs(t, server.Listen("unix", path), syscall.EADDRINUSE)
	assert.FileExists(t, path, "Listen must not remove an existing file")
}

func TestListenOnLongestUnixPath(t *testing.T) {
	path := socketPath(t)
	path += strings.Repeat("x", 103-len(path))
	var server tcpserver.TcpServer
	listenUnix(t, &server, path)
	assert.Equal(t, path, server.Addr().String())
}

func TestCloseKeepsSocketFileOfAnotherServer(t *testing.T) {
	path := socketPath(t)
	var first, second tcpserver.TcpServer
	listenUnix(t, &first, path)
	require.NoError(t, os.Remove(path))
	listenUnix(t, &second, path)
	require.NoError(t, first.Close())
	assert.FileExists(t, path)
}

func TestSocketModeSetsPermissions(t *testing.T) {
	needUnix(t)
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o777} {
		path := socketPath(t)
		server := tcpserver.TcpServer{SocketMode: mode}
		err := server.Listen("unix", path)
		if errors.Is(err, errors.ErrUnsupported) {
			skip(t, "files have no permission bits: ", err)
		}
		require.NoError(t, err)
		t.Cleanup(func() { server.Close() })
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm())
	}
}

// canDial reports whether a client can connect to path.
func canDial(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func TestSetUnlinkOnCloseWorksInAnyState(t *testing.T) {
	needUnix(t)
	for _, bound := range []bool{false, true} {
		path := socketPath(t)
		var server tcpserver.TcpServer
		open := server.Listen
		if bound {
			open = server.Bind
		}
		server.SetUnlinkOnClose(false)
		require.NoError(t, open("unix", path))
		require.NoError(t, server.Close())
		require.FileExists(t, path)
		require.NoError(t, os.Remove(path))

		require.NoError(t, open("unix", path))
		require.NoError(t, server.Close())
		require.FileExists(t, path, "the setting must survive Close and Listen")
		require.NoError(t, os.Remove(path))

		require.NoError(t, open("unix", path))
		server.SetUnlinkOnClose(true)
		require.NoError(t, server.Close())
		require.NoFileExists(t, path)
	}
}

func TestUnixPathIsFreeOnceIsListeningReturnsFalse(t *testing.T) {
	needUnix(t)
	path := socketPath(t)
	for i := range 200 {
		var server tcpserver.TcpServer
		has, open := server.IsListening, server.Listen
		if i%2 == 0 {
			has, open = server.IsBound, server.Bind
		}
		require.NoError(t, open("unix", path))
		done := make(chan struct{})
		go func() { server.Close(); close(done) }()
		for has() {
			runtime.Gosched()
		}
		var next tcpserver.TcpServer
		require.NoError(t, next.Listen("unix", path))
		<-done
		require.NoError(t, next.Close())
	}
}

// FuzzListenUnix checks that package net listens on every path and abstract name on which a server does, at the same
// address. Listening leaves no file.
func FuzzListenUnix(f *testing.F) {
	needUnix(f)
	dir := filepath.Dir(socketPath(f))
	f.Add("name", false)
	f.Add("@name", false)
	f.Add("name", true)
	f.Add("\x00name", true)
	f.Add("na\x00me", true)
	f.Add("..", false)
	f.Add(strings.Repeat("n", 100), true)
	f.Fuzz(func(t *testing.T, name string, abstract bool) {
		path := filepath.Join(dir, "x"+strings.ReplaceAll(name, "/", ""))
		if abstract && strings.HasPrefix(name, "\x00") {
			path = "\x00" + dir + name[1:]
		} else if abstract {
			path = "@" + dir + name
		}
		var server tcpserver.TcpServer
		if server.Listen("unix", path) != nil {
			return
		}
		addr := server.Addr()
		require.NoError(t, server.Close())
		l, err := net.Listen("unix", path)
		require.NoError(t, err)
		require.Equal(t, l.Addr(), addr)
		require.NoError(t, l.Close())
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, files)
	})
}
