package tcpserver_test

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// patience is how long a test waits for what must happen. No test depends on its value.
const patience = time.Minute

// within returns a context that ends after patience, or with the test.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// listen starts server on a free port of 127.0.0.1. The test's end closes it; Wait, in other tests, does not wait for
// what its executor, if that has ended before, has left undone.
func listen(t testing.TB, server *tcpserver.TcpServer) *tcpserver.TcpServer {
	t.Helper()
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() {
		server.Unref()
		server.Close()
	})
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

// skip skips the test because the system cannot do what it needs. That is to be found in docs/platforms.md.
func skip(t testing.TB, why ...any) {
	t.Helper()
	page, err := os.ReadFile("docs/platforms.md")
	require.NoError(t, err)
	name, _, _ := strings.Cut(t.Name(), "/")
	require.Contains(t, string(page), name)
	t.Skip(why...)
}

// mustBeReset wants err, of reading from a connection of package net, to be that of a reset.
func mustBeReset(t testing.TB, err error) {
	t.Helper()
	if (err == nil || err == io.EOF) && !resetsAreSeen() {
		return
	}
	require.ErrorIs(t, err, errPeerReset)
}

// resetsAreSeen tries whether package net tells resets. Under Wine some are told as an end of stream: those that
// something else than the read has noticed first.
var resetsAreSeen = sync.OnceValue(func() bool {
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
	far.Write(make([]byte, mib)) // more than a read takes
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	_, err = io.Copy(io.Discard, near)
	return err != nil
}

// reset ends conn so that its peer gets a reset.
func reset(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
}
