package tcpserver_test

import (
	"context"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// listen starts server on a free port of 127.0.0.1. The end of the test closes it.
func listen(t testing.TB, server *tcpserver.TcpServer) *tcpserver.TcpServer {
	t.Helper()
	return servertest.Listen(t, server)
}

// dial connects to server with package net. The end of the test closes the connection.
func dial(t testing.TB, server *tcpserver.TcpServer) *net.TCPConn {
	t.Helper()
	return servertest.Dial(t, server.Addr())
}

// take waits for a connection. The end of the test closes it.
func take(t testing.TB, server *tcpserver.TcpServer) *tcpserver.TcpSocket {
	t.Helper()
	return servertest.Accept(t, server)
}

// connect makes a connection to server and returns both ends.
func connect(t testing.TB, server *tcpserver.TcpServer) (*tcpserver.TcpSocket, *net.TCPConn) {
	t.Helper()
	conn := dial(t, server)
	socket := take(t, server)
	require.Equal(t, conn.LocalAddr().String(), socket.RemoteAddr().String())
	return socket, conn
}

// pair makes a connection to a server of its own and returns both ends.
func pair(t testing.TB) (*tcpserver.TcpSocket, *net.TCPConn) {
	t.Helper()
	return connect(t, listen(t, new(tcpserver.TcpServer)))
}

// The rest are short names for package servertest, which documents them.

const patience = servertest.Patience

var (
	errPeerReset  = servertest.ErrReset
	errRefused    = servertest.ErrRefused
	errWouldBlock = servertest.ErrWouldBlock
	errShut       = servertest.ErrShutdown
)

func within(t testing.TB) context.Context { return servertest.Context(t) }

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	return servertest.Receive(t, from)
}

func skip(t testing.TB, why ...any) {
	t.Helper()
	servertest.Skip(t, why...)
}

func reset(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	servertest.Reset(t, conn)
}

func mustBeReset(t testing.TB, err error) {
	t.Helper()
	servertest.RequireReset(t, err)
}

func resetsAreSeen() bool               { return servertest.ResetsAreSeen() }
func leaked(goroutines, files int) bool { return servertest.Leaked(goroutines, files) }
func openFiles() int                    { return servertest.OpenFiles() }
func systemBlock(fd uintptr) error      { return servertest.SetBlocking(fd) }

func systemRead(fd uintptr, p []byte) (int, error)  { return servertest.ReadFD(fd, p) }
func systemWrite(fd uintptr, p []byte) (int, error) { return servertest.WriteFD(fd, p) }

func systemGetInt(fd uintptr, level, option int) (int, error) {
	return servertest.GetsockoptInt(fd, level, option)
}

func reusePort(network, address string, c syscall.RawConn) error {
	return servertest.ReusePort(network, address, c)
}

func exclusive(network, address string, c syscall.RawConn) error {
	return servertest.ExclusiveAddress(network, address, c)
}
