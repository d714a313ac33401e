package msgserver

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// TestMain fails if a goroutine is left over.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // fuzzing has goroutines of its own
	}
	for end := time.Now().Add(5 * time.Second); code == 0 && runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, "goroutines are left over")
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			code = 1
		}
	}
	os.Exit(code)
}

const patience = time.Minute

// causeOf returns what is wrong with the client that err is about, or err if it is about none.
func causeOf(err error) error {
	var of *ClientError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
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

// never makes sure that nothing comes for a moment.
func never[T any](t testing.TB, from <-chan T) {
	t.Helper()
	select {
	case v := <-from:
		require.FailNow(t, "came", "%v", v)
	case <-time.After(50 * time.Millisecond):
	}
}

// serve runs what serves on a server of its own until the test ends, and returns the server.
func serve(t testing.TB, serve func(context.Context, *tcpserver.TcpServer) error) *tcpserver.TcpServer {
	t.Helper()
	server := new(tcpserver.TcpServer)
	serveOn(t, server, serve)
	return server
}

// serveOn is serve with a server that is not listening yet.
func serveOn(t testing.TB, server *tcpserver.TcpServer, serve func(context.Context, *tcpserver.TcpServer) error) {
	t.Helper()
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
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

// A client is the other end of a connection.
type client struct {
	net.Conn
	t     testing.TB
	lines *bufio.Reader
}

func dial(t testing.TB, server *tcpserver.TcpServer) *client {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return &client{conn, t, bufio.NewReader(conn)}
}

func (c *client) send(s string) {
	c.t.Helper()
	_, err := c.Write([]byte(s))
	require.NoError(c.t, err)
}

// line waits for a line.
func (c *client) line() string {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	s, err := c.lines.ReadString('\n')
	require.NoError(c.t, err)
	return s
}

// ended waits until the server has ended the connection.
func (c *client) ended() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	for {
		if _, err := c.lines.ReadByte(); err != nil {
			require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
			return
		}
	}
}

// eventually waits for a condition that nobody announces.
func eventually(t testing.TB, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, patience, time.Millisecond)
}

// freePort returns a port that is free at this moment.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// dialPort connects as soon as somebody listens.
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

// mustBeCut reads conn to its end, and wants that to be a reset: what is cut off does not end like something whole.
func mustBeCut(t *testing.T, conn io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); resetsAreSeen() {
		require.Error(t, err)
	}
}

// resetsAreSeen tries whether package net tells resets. Under Wine some are told as an end of stream.
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
	far.Write(make([]byte, 1<<20)) // more than a read takes
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	_, err = io.Copy(io.Discard, near)
	return err != nil
}
