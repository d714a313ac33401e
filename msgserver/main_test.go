package msgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

// causeOf returns the error inside a *ClientError, and any other error as it is.
func causeOf(err error) error {
	var of *ClientError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	return servertest.Receive(t, from)
}

func never[T any](t testing.TB, from <-chan T) {
	t.Helper()
	servertest.ReceiveNothing(t, from)
}

func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	servertest.Eventually(t, condition)
}

// serve runs serve on a new server until the test ends, and returns the server.
func serve(t testing.TB, serve func(context.Context, *tcpserver.TcpServer) error) *tcpserver.TcpServer {
	t.Helper()
	server := new(tcpserver.TcpServer)
	serveOn(t, server, serve)
	return server
}

// serveOn is like serve with a given server, which is not listening yet.
func serveOn(t testing.TB, server *tcpserver.TcpServer, serve func(context.Context, *tcpserver.TcpServer) error) {
	t.Helper()
	servertest.Listen(t, server)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, server) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, receive(t, ended), context.Canceled)
		require.Zero(t, server.ConnectionCount())
		require.False(t, server.IsListening())
	})
}

// A client is the client's end of a connection.
type client struct {
	net.Conn
	t     testing.TB
	lines *bufio.Reader
}

func dial(t testing.TB, server *tcpserver.TcpServer) *client {
	t.Helper()
	conn := servertest.Dial(t, server.Addr())
	return &client{conn, t, bufio.NewReader(conn)}
}

func (c *client) send(s string) {
	c.t.Helper()
	_, err := c.Write([]byte(s))
	require.NoError(c.t, err)
}

// line waits for a line and returns it with its end.
func (c *client) line() string {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(servertest.Patience)))
	s, err := c.lines.ReadString('\n')
	require.NoError(c.t, err)
	return s
}

// ended waits until the server has closed or reset the connection.
func (c *client) ended() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(servertest.Patience)))
	for {
		if _, err := c.lines.ReadByte(); err != nil {
			require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
			return
		}
	}
}

// dialPort connects to port as soon as a server listens there.
func dialPort(t testing.TB, port int) *client {
	t.Helper()
	var conn net.Conn
	eventually(t, func() (ok bool) {
		var err error
		conn, err = net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	return &client{conn, t, bufio.NewReader(conn)}
}

// mustBeCut reads conn to its end and checks that this is a reset: a client must not take a part for the whole.
func mustBeCut(t *testing.T, conn io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); servertest.ResetsAreSeen() {
		require.Error(t, err)
	}
}
