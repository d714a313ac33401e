package tcpserver_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// pollerWithLoops returns a poller with n loops, which ends with its last user.
func pollerWithLoops(t testing.TB, n int) *tcpserver.Poller {
	t.Helper()
	poller, err := tcpserver.NewPoller(n)
	require.NoError(t, err)
	return poller
}

// A lockedBuffer collects the output of a Logger.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// quiet is how long a test waits to see that something does not happen.
const quiet = 60 * time.Millisecond

// until waits until cond returns true.
func until(t testing.TB, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, patience, time.Millisecond)
}

// untilPending waits until n connections are pending.
func untilPending(t testing.TB, server *tcpserver.TcpServer, n int) {
	t.Helper()
	until(t, func() bool { return server.PendingConnections() == n })
}

// mustNotAccept checks that no connection is accepted for a while.
func mustNotAccept(t testing.TB, server *tcpserver.TcpServer) {
	t.Helper()
	before := server.Stats().Accepted
	time.Sleep(quiet)
	require.Equal(t, before, server.Stats().Accepted, "a connection was accepted")
}

// dialMany makes n connections to server, one after the other.
func dialMany(t testing.TB, server *tcpserver.TcpServer, n int) []*net.TCPConn {
	t.Helper()
	conns := make([]*net.TCPConn, n)
	for i := range conns {
		conns[i] = dial(t, server)
	}
	return conns
}

// mustTake takes the next connections and checks that they are those of clients, in this order.
func mustTake(t testing.TB, server *tcpserver.TcpServer, clients ...*net.TCPConn) {
	t.Helper()
	for _, client := range clients {
		require.Equal(t, client.LocalAddr().String(), take(t, server).RemoteAddr().String())
	}
}

// roundTrip checks that a few bytes arrive in each direction.
func roundTrip(t testing.TB, a, b net.Conn) {
	t.Helper()
	for _, c := range []struct{ from, to net.Conn }{{a, b}, {b, a}} {
		_, err := c.from.Write([]byte("hello"))
		require.NoError(t, err)
		buf := make([]byte, 5)
		_, err = io.ReadFull(c.to, buf)
		require.NoError(t, err)
		require.Equal(t, "hello", string(buf))
	}
}

// canceledContext returns a context that is already canceled.
func canceledContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A signalingContext sends to begun when a wait on it is about to begin, which is when Done is called.
type signalingContext struct {
	context.Context
	begun chan struct{}
}

// newSignalingContext returns a signalingContext that ends after patience, or with the test.
func newSignalingContext(t testing.TB) signalingContext {
	return signalingContext{within(t), make(chan struct{}, 100)}
}

func (c signalingContext) Done() <-chan struct{} {
	select {
	case c.begun <- struct{}{}:
	default:
	}
	return c.Context.Done()
}

// logLines receives the records that a text handler of slog writes, one by one.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// heapInUse returns how many bytes of the heap are in use.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // a sync.Pool is emptied by two collections
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// newPoller returns a poller with that many loops, which is closed at the end of the test.
func newPoller(t testing.TB, loops int) *tcpserver.Poller {
	t.Helper()
	poller, err := tcpserver.NewPoller(loops)
	require.NoError(t, err)
	t.Cleanup(func() { poller.Close() })
	return poller
}

// serveEcho is a NewConnectionHandler that takes the connection and echoes what it receives.
func serveEcho(server *tcpserver.TcpServer) {
	if socket := server.NextPendingConnection(); socket != nil {
		socket.SetHandlers(&tcpserver.SocketHandlers{
			ReadyRead: func(socket *tcpserver.TcpSocket) { socket.Send(socket.ReadAll()) },
		})
	}
}

// mustEcho checks that the server echoes what conn sends.
func mustEcho(t testing.TB, conn net.Conn) {
	t.Helper()
	_, err := conn.Write([]byte("hello"))
	require.NoError(t, err)
	buf := make([]byte, 5)
	_, err = io.ReadFull(conn, buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf))
}
