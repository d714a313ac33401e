//go:build !kqemu

package tcpserver

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The system reports how many bytes it holds only up to an urgent one.
func TestReadAllTakesWhatLiesBehindUrgentByte(t *testing.T) {
	for size := 3; size <= 7; size++ {
		socket, conn := acceptFrom(t, &TcpServer{ReadBufferSize: size})
		raw, err := conn.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			err = unix.Sendto(int(fd), []byte("abcde!"), unix.MSG_OOB, nil)
		}))
		require.NoError(t, err)
		_, err = conn.Write([]byte("fghijklmnopq"))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return socket.ready.has(shortReads) }, time.Minute, time.Millisecond)
		require.Equal(t, "abcdefghijklmnopq", string(socket.ReadAll()), "the read buffer has %d bytes", size)
	}
}
