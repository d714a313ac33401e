package tcpserver_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// patience is how long a test waits for what must happen. No test depends on its value.
const patience = 20 * time.Second

// within returns a context that ends after patience, or with the test.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// listen starts server on a free port of 127.0.0.1. The test's end closes it.
func listen(t testing.TB, server *tcpserver.TcpServer) *tcpserver.TcpServer {
	t.Helper()
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { server.Close() })
	return server
}

// dial connects to server with the standard library. The test's end closes the connection.
func dial(t testing.TB, server *tcpserver.TcpServer) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// take waits for a connection. The test's end closes it.
func take(t testing.TB, server *tcpserver.TcpServer) *tcpserver.TcpSocket {
	t.Helper()
	socket, err := server.AcceptSocket(within(t))
	require.NoError(t, err)
	t.Cleanup(func() { socket.Close() })
	return socket
}

// connect makes a connection to server and returns both ends.
func connect(t testing.TB, server *tcpserver.TcpServer) (*tcpserver.TcpSocket, *net.TCPConn) {
	t.Helper()
	conn := dial(t, server)
	socket := take(t, server)
	require.Equal(t, conn.LocalAddr().String(), socket.RemoteAddr().String())
	return socket, conn
}

// pair makes a connection to a server of its own.
func pair(t testing.TB) (*tcpserver.TcpSocket, *net.TCPConn) {
	t.Helper()
	return connect(t, listen(t, new(tcpserver.TcpServer)))
}

// receive waits for a value.
func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// reset ends conn so that its peer gets a reset.
func reset(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
}
