//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver_test

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// All descriptors of a connection share its non-blocking mode, so that another process can clear it. That must not
// block this one.
func TestSocketInBlockingModeBlocksNobody(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	raw, err := socket.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = systemBlock(fd) }))
	require.NoError(t, err)

	_, err = socket.TryRead(make([]byte, 1))
	require.Equal(t, tcpserver.ErrWouldBlock, err)
	require.Zero(t, socket.BytesAvailable())
	runtime.GC()
	fillSendQueue(t, socket, conn)
	require.NotZero(t, socket.BytesToWrite())
	reading := mustBlock(t, readByte(socket))
	writeString(t, conn, "x")
	require.NoError(t, receive(t, reading))
}

// A program that has the listener's descriptor may change its mode, too.
func TestListenerInBlockingModeBlocksNobody(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = systemBlock(fd) }))
	require.NoError(t, err)
	for range 3 {
		connect(t, server)
		require.True(t, server.IsListening()) // the loop holds no lock
	}
}

// Each lingering close occupies a thread, and a program may have only a limited number of threads.
func TestClosingManyLingeringSocketsHoldsFewThreads(t *testing.T) {
	// This test is not parallel: it counts goroutines.
	server := listen(t, new(tcpserver.TcpServer))
	const sockets = 60
	var all []*tcpserver.TcpSocket
	for range sockets {
		socket, conn := connect(t, server)
		require.NoError(t, conn.SetReadBuffer(4<<10))
		require.NoError(t, socket.SetWriteBuffer(4<<10))
		raw, err := socket.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			for err == nil {
				_, err = syscall.Write(int(fd), make([]byte, 1<<10))
			}
		}))
		require.NoError(t, socket.SetLinger(1))
		all = append(all, socket)
	}
	before := runtime.NumGoroutine()
	for _, socket := range all {
		require.NoError(t, socket.Close())
		require.Equal(t, tcpserver.StateUnconnected, socket.State())
	}
	require.Less(t, runtime.NumGoroutine(), before+20)
}

// Data that a raw read leaves unread wakes a Read that began meanwhile.
func TestRawReadLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	raw, err := socket.SyscallConn()
	require.NoError(t, err)
	taken, leave := make(chan struct{}), make(chan struct{})
	over := mustBlock(t, func() error {
		return raw.Read(func(fd uintptr) bool {
			n, _, _ := syscall.Recvfrom(int(fd), make([]byte, 5), 0)
			if n <= 0 {
				return false
			}
			taken <- struct{}{}
			<-leave
			return true
		})
	})
	writeString(t, conn, "0123456789")
	receive(t, taken)
	reading := mustBlock(t, readByte(socket))
	close(leave)
	require.NoError(t, receive(t, over))
	require.NoError(t, receive(t, reading))
}
