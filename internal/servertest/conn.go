package servertest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Server is what [Listen] needs of a *tcpserver.TcpServer.
type Server interface {
	Listen(network, address string) error
	Unref()
	Close() error
}

// Listen starts server on a free port of 127.0.0.1 and returns it. The end of the test closes it. Wait does not wait
// for it after that: another test's Wait must not hang on work that was left to an executor that is gone.
func Listen[S Server](t testing.TB, server S) S {
	t.Helper()
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() {
		server.Unref()
		server.Close()
	})
	return server
}

// Dial connects to addr with package net. The end of the test closes the connection.
func Dial(t testing.TB, addr net.Addr) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// Accept waits for a connection. The end of the test closes it.
func Accept[S io.Closer](t testing.TB, server interface {
	AcceptSocket(ctx context.Context) (S, error)
}) S {
	t.Helper()
	socket, err := server.AcceptSocket(Context(t))
	require.NoError(t, err)
	t.Cleanup(func() { socket.Close() })
	return socket
}

// FreePort returns a TCP port of 127.0.0.1 that is free at this moment.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Reset closes conn so that its peer gets a reset.
func Reset(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
}

// RequireReset checks that err, from reading a connection of package net, reports a reset. Where [ResetsAreSeen] is
// false, an end of stream is accepted too.
func RequireReset(t testing.TB, err error) {
	t.Helper()
	if (err == nil || err == io.EOF) && !ResetsAreSeen() {
		return
	}
	require.ErrorIs(t, err, ErrReset)
}

// ResetsAreSeen tries whether package net reports every reset. Wine reports some as an end of stream: those that
// something other than the read noticed first.
var ResetsAreSeen = sync.OnceValue(func() bool {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return true
	}
	defer l.Close()
	for range 20 {
		if !resetIsSeen(l) {
			return false
		}
	}
	return true
})

func resetIsSeen(l net.Listener) bool {
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return true
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		return true
	}
	far.Write(make([]byte, 1<<20)) // more than one read takes
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	_, err = io.Copy(io.Discard, near)
	return err != nil
}
