package tcpserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"math"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// quiet is how long a test watches that something does not happen.
const quiet = 60 * time.Millisecond

// until waits until cond holds.
func until(t testing.TB, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, patience, time.Millisecond)
}

// untilPending waits until n connections are pending.
func untilPending(t testing.TB, server *tcpserver.TcpServer, n int) {
	t.Helper()
	until(t, func() bool { return server.PendingConnections() == n })
}

// acceptsNone sees that no connection is accepted for a while.
func acceptsNone(t testing.TB, server *tcpserver.TcpServer) {
	t.Helper()
	before := server.Stats().Accepted
	time.Sleep(quiet)
	require.Equal(t, before, server.Stats().Accepted, "accepted all the same")
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

// takes takes the connections of these clients, in this order.
func takes(t testing.TB, server *tcpserver.TcpServer, clients ...*net.TCPConn) {
	t.Helper()
	for _, client := range clients {
		require.Equal(t, client.LocalAddr().String(), take(t, server).RemoteAddr().String())
	}
}

// roundTrip sends a few bytes each way.
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

// endOf reads from conn until its end and returns the error; nil is an end of stream.
func endOf(t testing.TB, conn net.Conn) error {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	return err
}

func TestMaxPendingConnectionsDefaultsTo30(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	require.Equal(t, 30, server.MaxPendingConnections())
	clients := dialMany(t, server, 40)
	untilPending(t, server, 30)
	require.False(t, server.IsAccepting())
	acceptsNone(t, server)

	// Each that is taken lets one more in; the order is that of the clients.
	takes(t, server, clients[:3]...)
	untilPending(t, server, 30)
	takes(t, server, clients[3:]...)
	require.True(t, server.IsAccepting())
	require.Nil(t, server.NextPendingConnection())
	require.EqualValues(t, 40, server.Stats().Accepted)
}

func TestNextPendingConnectionDoesNotEndPause(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	before := dialMany(t, server, 2)
	untilPending(t, server, 2)
	server.PauseAccepting()
	after := dialMany(t, server, 3)
	takes(t, server, before...)
	require.Nil(t, server.NextPendingConnection())
	require.False(t, server.IsAccepting())
	acceptsNone(t, server)

	server.ResumeAccepting()
	takes(t, server, after...)
}

func TestPauseAndResumeAcceptingWorkInAnyState(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	server.ResumeAccepting()
	server.PauseAccepting()
	server.PauseAccepting()
	require.False(t, server.IsAccepting())

	// One from before Listen counts, and one that is set stays over Close.
	for range 2 {
		listen(t, server)
		require.True(t, server.IsListening())
		require.False(t, server.IsAccepting())
		dial(t, server)
		acceptsNone(t, server)
		require.NoError(t, server.Close())
		server.PauseAccepting()
	}

	// Two pauses are ended by one resume, on a closed server too.
	server.ResumeAccepting()
	require.False(t, server.IsAccepting())
	listen(t, server)
	require.True(t, server.IsAccepting())
	takes(t, server, dial(t, server))
}

func TestIsAcceptingFollowsPauseQueueAndClose(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	is := func(want bool, state string) {
		t.Helper()
		require.Equal(t, want, server.IsAccepting(), state)
	}
	is(false, "never listened")
	listen(t, server)
	is(true, "listening")
	server.PauseAccepting()
	is(false, "paused")
	server.ResumeAccepting()
	is(true, "resumed")
	server.SetMaxPendingConnections(1)
	client := dial(t, server)
	untilPending(t, server, 1)
	is(false, "full")
	server.PauseAccepting()
	takes(t, server, client)
	is(false, "paused when the queue was drained")
	server.ResumeAccepting()
	is(true, "drained")
	server.SetMaxPendingConnections(0)
	is(false, "limit 0")
	server.SetMaxPendingConnections(1)
	is(true, "limit raised")
	require.NoError(t, server.Close())
	is(false, "closed")
}

func TestRaisingMaxPendingConnectionsTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	server.SetMaxPendingConnections(1)
	clients := dialMany(t, server, 5)
	untilPending(t, server, 1)
	acceptsNone(t, server)
	server.SetMaxPendingConnections(3)
	untilPending(t, server, 3)
	acceptsNone(t, server)
	server.SetMaxPendingConnections(30)
	untilPending(t, server, 5)
	takes(t, server, clients...)
}

func TestLoweringMaxPendingConnectionsKeepsQueuedConnections(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	clients := dialMany(t, server, 5)
	untilPending(t, server, 5)
	server.SetMaxPendingConnections(2)
	require.Equal(t, 5, server.PendingConnections())
	clients = append(clients, dial(t, server))
	takes(t, server, clients[:3]...)
	require.False(t, server.IsAccepting())
	acceptsNone(t, server)
	takes(t, server, clients[3:]...)
}

func TestMaxPendingConnectionsOfZeroCanBeRaised(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, -1, math.MinInt} {
		server := new(tcpserver.TcpServer)
		server.SetMaxPendingConnections(limit)
		require.Zero(t, server.MaxPendingConnections())
		listen(t, server)
		clients := dialMany(t, server, 2)
		acceptsNone(t, server)
		server.SetMaxPendingConnections(1)
		takes(t, server, clients...)
	}
}

func TestWaitForNewConnectionReturnsAtOnceIfConnectionIsPending(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	dial(t, server)
	untilPending(t, server, 1)
	// Again too, because waiting takes nothing.
	for range 2 {
		require.NoError(t, server.WaitForNewConnection(within(t)))
	}
	take(t, server)
}

// hasEnded returns a context that has ended.
func hasEnded() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestCanceledContextWinsOverPendingConnection(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	dialMany(t, server, 3)
	untilPending(t, server, 3)
	require.Equal(t, context.Canceled, server.WaitForNewConnection(hasEnded()))
	socket, err := server.AcceptSocket(hasEnded())
	require.Equal(t, context.Canceled, err)
	require.Nil(t, socket)
	for range server.Connections(hasEnded()) {
		require.Fail(t, "a connection after the context's end")
	}

	// The end comes while there is always one more to be had.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	taken := 0
	for socket := range server.Connections(ctx) {
		socket.Close()
		cancel()
		taken++
	}
	require.Equal(t, 1, taken)
	require.Equal(t, 2, server.PendingConnections())
}

func TestCanceledContextWinsOverReadySocket(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	say(t, conn, "hello")
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	require.Equal(t, context.Canceled, socket.WaitForReadyRead(hasEnded()))
	require.Equal(t, context.Canceled, socket.WaitForBytesWritten(hasEnded()))
	require.NoError(t, socket.Abort())
	require.Equal(t, context.Canceled, socket.WaitForDisconnected(hasEnded()))
	require.NoError(t, socket.WaitForDisconnected(within(t)))
}

func TestWaitForNewConnectionReturnsContextError(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	server.PauseAccepting()
	dial(t, server)
	ctx, cancel := context.WithTimeout(context.Background(), quiet)
	defer cancel()
	require.Equal(t, context.DeadlineExceeded, server.WaitForNewConnection(ctx))
	require.Equal(t, 0, server.PendingConnections(), "waiting has ended the pause")

	// The other's wait goes on.
	ctx, cancel = context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.WaitForNewConnection(ctx) }()
	other := make(chan error, 1)
	go func() { other <- server.WaitForNewConnection(within(t)) }()
	cancel()
	require.Equal(t, context.Canceled, receive(t, ended))
	server.ResumeAccepting()
	require.NoError(t, receive(t, other))
}

func TestCloseEndsWaitsForConnections(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	for range 20 {
		listen(t, server)
		ended := make(chan error, 4)
		go func() { ended <- server.WaitForNewConnection(within(t)) }()
		go func() {
			_, err := server.Accept()
			var opErr *net.OpError
			if !errors.As(err, &opErr) {
				err = errors.New("no *net.OpError")
			}
			ended <- err
		}()
		go func() {
			_, err := server.AcceptSocket(context.Background())
			ended <- err
		}()
		go func() {
			for range server.Connections(context.Background()) {
				ended <- errors.New("a connection from nowhere")
			}
			ended <- tcpserver.ErrServerClosed
		}()
		require.NoError(t, server.Close())
		for range cap(ended) {
			err := receive(t, ended)
			require.ErrorIs(t, err, tcpserver.ErrServerClosed)
			if err != tcpserver.ErrServerClosed {
				require.ErrorIs(t, err, net.ErrClosed)
			}
		}
	}
	require.ErrorIs(t, tcpserver.ErrServerClosed, net.ErrClosed)
}

// A watched context tells when somebody begins to wait on it: Done is called just before.
type watched struct {
	context.Context
	begun chan struct{}
}

func watchedContext(t testing.TB) watched { return watched{within(t), make(chan struct{}, 100)} }

func (w watched) Done() <-chan struct{} {
	select {
	case w.begun <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

func TestCloseEndsWaitsForConnectionsEvenIfListenFollows(t *testing.T) {
	t.Parallel()
	waits := map[string]func(server *tcpserver.TcpServer, ctx context.Context) error{
		"WaitForNewConnection": (*tcpserver.TcpServer).WaitForNewConnection,
		"AcceptSocket": func(server *tcpserver.TcpServer, ctx context.Context) error {
			_, err := server.AcceptSocket(ctx)
			return err
		},
		"Connections": func(server *tcpserver.TcpServer, ctx context.Context) error {
			for range server.Connections(ctx) {
				return nil
			}
			return tcpserver.ErrServerClosed
		},
		"AcceptAsync": func(server *tcpserver.TcpServer, ctx context.Context) error {
			called := make(chan error)
			server.AcceptAsync(ctx, func(_ *tcpserver.TcpServer, _ *tcpserver.TcpSocket, err error) { called <- err })
			return <-called
		},
	}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			server := listen(t, new(tcpserver.TcpServer))
			for range 20 {
				ctx, ended := watchedContext(t), make(chan error, 1)
				go func() { ended <- wait(server, ctx) }()
				receive(t, ctx.begun)
				require.NoError(t, server.Close())
				require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
				dial(t, server)
				require.Equal(t, tcpserver.ErrServerClosed, receive(t, ended))
				take(t, server)
			}
		})
	}
}

func TestSetDeadlineEndsWaitsForConnections(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	require.ErrorIs(t, server.SetDeadline(time.Now()), tcpserver.ErrNotListening)
	listen(t, server)
	passed := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	// Those that wait are woken.
	ctx, ended := watchedContext(t), make(chan error, 1)
	go func() { ended <- server.WaitForNewConnection(ctx) }()
	receive(t, ctx.begun)
	require.NoError(t, server.SetDeadline(time.Now().Add(quiet)))
	passed(receive(t, ended))

	// It wins over what is pending, which can still be taken.
	dial(t, server)
	untilPending(t, server, 1)
	_, err := server.Accept()
	passed(err)
	var netErr net.Error
	require.ErrorAs(t, err, &netErr)
	require.True(t, netErr.Timeout())
	_, err = server.AcceptSocket(within(t))
	passed(err)
	for range server.Connections(within(t)) {
		require.Fail(t, "a connection after the deadline")
	}
	called := make(chan error, 1)
	server.AcceptAsync(within(t), func(_ *tcpserver.TcpServer, _ *tcpserver.TcpSocket, err error) { called <- err })
	passed(receive(t, called))
	require.NoError(t, server.SetDeadline(time.Time{}))
	take(t, server)

	// The next period begins without one.
	require.NoError(t, server.SetDeadline(time.Now().Add(-time.Second)))
	require.NoError(t, server.Close())
	require.ErrorIs(t, server.SetDeadline(time.Time{}), tcpserver.ErrNotListening)
	listen(t, server)
	connect(t, server)
	require.NoError(t, server.SetDeadline(time.Now().Add(time.Hour)), "its timer ends with Close")
}

func TestConnectionsEndsAtCloseEvenIfListenFollows(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	dial(t, server)
	taken := 0
	for socket := range server.Connections(within(t)) {
		socket.Close()
		taken++
		require.NoError(t, server.Close())
		require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
		dial(t, server)
		untilPending(t, server, 1)
	}
	require.Equal(t, 1, taken)
}

func TestZeroServerIsNotListening(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	require.Equal(t, tcpserver.ErrNotListening, server.WaitForNewConnection(within(t)))
	_, err := server.AcceptSocket(within(t))
	require.Equal(t, tcpserver.ErrNotListening, err)
	_, err = server.Accept()
	require.ErrorIs(t, err, tcpserver.ErrNotListening)
	require.ErrorIs(t, err, net.ErrClosed)
	for range server.Connections(within(t)) {
		require.Fail(t, "a connection from nowhere")
	}
	require.Nil(t, server.NextPendingConnection())
	require.False(t, server.HasPendingConnections())
	require.False(t, server.IsListening())
	require.Nil(t, server.Addr())
	require.Zero(t, server.Port())
	require.NoError(t, server.Err())
	require.Empty(t, server.ErrorString())
	require.Zero(t, server.Stats())
	require.NoError(t, server.Close())
	require.Equal(t, tcpserver.ErrNotListening, server.WaitForNewConnection(within(t)))
}

func TestNewConnectionHandlerIsCalledOncePerConnection(t *testing.T) {
	t.Parallel()
	const burst = 200
	for name, c := range map[string]struct{ limit, takes int }{
		"TakesNone": {burst, 0},
		"TakesOne":  {30, 1},
		"TakesAll":  {30, burst},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls, taken, vain atomic.Int64
			server := &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
				calls.Add(1)
				for range c.takes {
					socket := server.NextPendingConnection()
					if socket == nil {
						vain.Add(1)
						return
					}
					taken.Add(1)
					socket.Close()
				}
			}}
			server.SetMaxPendingConnections(c.limit)
			listen(t, server)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range burst / 4 {
						conn, err := net.Dial("tcp", server.Addr().String())
						if err == nil {
							t.Cleanup(func() { conn.Close() })
						}
					}
				})
			}
			all.Wait()
			until(t, func() bool { return calls.Load() >= burst })
			time.Sleep(quiet)
			require.EqualValues(t, burst, calls.Load())
			require.EqualValues(t, burst, server.Stats().Accepted)
			switch c.takes {
			case 0:
				require.Equal(t, burst, server.PendingConnections())
			case 1:
				require.Zero(t, vain.Load(), "called before the connection was queued")
				fallthrough
			default:
				require.EqualValues(t, burst, taken.Load())
			}
		})
	}
}

func TestCloseEndsPendingConnectionsWithoutReset(t *testing.T) {
	t.Parallel()
	// Many rounds: the bytes come at the same time as the end.
	for i := range 100 {
		server := listen(t, new(tcpserver.TcpServer))
		silent, talking := dial(t, server), dial(t, server)
		untilPending(t, server, 2)
		_, err := talking.Write([]byte("nobody reads this"))
		require.NoError(t, err)
		if i%2 == 0 {
			// Let the loop see them first.
			time.Sleep(time.Duration(rand.Intn(300)) * time.Microsecond)
		}
		require.NoError(t, server.Close())
		require.Nil(t, server.NextPendingConnection())
		require.NoError(t, endOf(t, silent), "round %d", i)
		require.NoError(t, endOf(t, talking), "round %d", i)
	}
}

func TestCloseKeepsTakenSocketsOpen(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	socket, client := connect(t, server)
	require.NoError(t, server.Close())
	require.Equal(t, 1, server.ConnectionCount())
	require.Equal(t, tcpserver.StateConnected, socket.State())
	require.Same(t, server, socket.Server())
	roundTrip(t, client, socket)
	require.NoError(t, socket.Close())
	require.NoError(t, endOf(t, client))
	require.Zero(t, server.ConnectionCount())
}

// connectionsKeepPorts tries whether a port stays taken while connections live that a listener with the options of ours
// has accepted on it.
func connectionsKeepPorts(t testing.TB) bool {
	config := net.ListenConfig{Control: exclusive}
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	near, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer near.Close()
	far, err := l.Accept()
	require.NoError(t, err)
	defer far.Close()
	require.NoError(t, l.Close())
	l, err = config.Listen(t.Context(), "tcp", addr)
	if err != nil {
		return true
	}
	l.Close()
	return false
}

func TestPortCanBeListenedOnAgainRightAfterClose(t *testing.T) {
	t.Parallel()
	if connectionsKeepPorts(t) {
		skip(t, "the system keeps the port for the connections that live")
	}
	server := listen(t, new(tcpserver.TcpServer))
	addr := server.Addr().String()
	alive, client := connect(t, server)
	for i := range 50 {
		// Closed by this end, so that it is this end that the system remembers for a while.
		socket, _ := connect(t, server)
		require.NoError(t, socket.Close())
		dial(t, server)
		require.NoError(t, server.Close())
		if i%2 == 1 {
			server = new(tcpserver.TcpServer)
			t.Cleanup(func() { server.Close() })
		}
		require.NoError(t, server.Listen("tcp", addr))
		require.Equal(t, addr, server.Addr().String())
	}
	roundTrip(t, client, alive)
	takes(t, server, dial(t, server))
}

func TestServerCanBeClosedInNewConnectionHandler(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	closed := make(chan error, 10)
	server := &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
		calls.Add(1)
		closed <- server.Close()
	}}
	for round := range 3 {
		server.PauseAccepting()
		listen(t, server)
		clients := dialMany(t, server, 3)
		server.ResumeAccepting()
		require.NoError(t, receive(t, closed))
		require.False(t, server.IsListening())
		for _, client := range clients {
			// Those that the system still held are reset by it.
			if err := endOf(t, client); err != nil {
				require.ErrorIs(t, err, errPeerReset)
			}
		}
		require.EqualValues(t, round+1, calls.Load(), "called after Close")
		require.Zero(t, server.ConnectionCount())
	}
}

func TestCloseCanBeCalledRepeatedlyAndConcurrently(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	require.NoError(t, server.Close())
	for range 20 {
		listen(t, server)
		dialMany(t, server, 2)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { server.Close() })
			all.Go(func() {
				if socket := server.NextPendingConnection(); socket != nil {
					socket.Close()
				}
			})
		}
		all.Wait()
		require.NoError(t, server.Close())
		require.False(t, server.IsListening())
		require.Nil(t, server.Addr())
		require.Zero(t, server.Port())
		require.Zero(t, server.PendingConnections())
	}
}

func TestListenWhileListeningChangesNothing(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	addr := server.Addr()
	queued := dial(t, server)
	untilPending(t, server, 1)
	for _, address := range []string{"127.0.0.1:0", addr.String()} {
		err := server.Listen("tcp", address)
		require.ErrorIs(t, err, tcpserver.ErrAlreadyListening)
		require.Equal(t, err, server.Err())
	}
	require.True(t, server.IsAccepting())
	require.Equal(t, addr, server.Addr())
	takes(t, server, queued, dial(t, server))
}

func TestListenReportsAddressInUse(t *testing.T) {
	t.Parallel()
	first := listen(t, new(tcpserver.TcpServer))
	second := new(tcpserver.TcpServer)
	err := second.Listen("tcp", first.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.Contains(t, err.Error(), first.Addr().String())
	require.Equal(t, err, second.Err())
	require.Equal(t, err.Error(), second.ErrorString())
	require.False(t, second.IsListening())
	require.NoError(t, first.Err())
	takes(t, first, dial(t, first))

	// A successful Listen clears it, and it can be on the address that was in use.
	require.NoError(t, first.Close())
	require.NoError(t, second.Listen("tcp", err.(*net.OpError).Addr.String()))
	defer second.Close()
	require.NoError(t, second.Err())
	require.Empty(t, second.ErrorString())
}

func TestListenRejectsInvalidAddresses(t *testing.T) {
	t.Parallel()
	var unknown net.UnknownNetworkError
	for _, c := range []struct {
		network, address string
		backlog          int
		want             error
	}{
		{"tcp", "127.0.0.1:65536", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1:-1", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1:99999999999999999999", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1:no such service", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1", 0, tcpserver.ErrInvalidAddress},
		{"tcp", "::1:80", 0, tcpserver.ErrInvalidAddress},
		{"tcp", "[::1:80", 0, tcpserver.ErrInvalidAddress},
		{"tcp4", "[::1]:0", 0, tcpserver.ErrInvalidAddress},
		{"tcp6", "127.0.0.1:0", 0, tcpserver.ErrInvalidAddress},
		{"tcp", "127.0.0.1:0", -1, tcpserver.ErrBacklog},
		{"tcp", "192.0.2.1:0", 0, syscall.EADDRNOTAVAIL}, // an address for documentation
		{"", "127.0.0.1:0", 0, nil},
		{"udp", "127.0.0.1:0", 0, nil},
		{"TCP", "127.0.0.1:0", 0, nil},
	} {
		server := &tcpserver.TcpServer{Backlog: c.backlog}
		err := server.Listen(c.network, c.address)
		var opErr *net.OpError
		require.ErrorAs(t, err, &opErr, "%q %q", c.network, c.address)
		require.Equal(t, "listen", opErr.Op)
		require.Contains(t, err.Error(), c.address)
		if c.want != nil {
			require.ErrorIs(t, err, c.want, "%q %q", c.network, c.address)
		} else {
			require.ErrorAs(t, err, &unknown)
			require.Equal(t, c.network, string(unknown))
		}
		require.Equal(t, err, server.Err())
		require.Equal(t, err.Error(), server.ErrorString())
		require.False(t, server.IsListening())

		server.Backlog = 0
		listen(t, server)
		require.NoError(t, server.Err())
	}
}

// hasHost tries whether the machine has the address host. Not each has IPv6, nor all of 127.0.0.0/8.
func hasHost(host string) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// hasDualStack tries whether one socket can take IPv4 and IPv6 connections, which on OpenBSD it cannot.
func hasDualStack(t *testing.T) bool {
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer l.Close()
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
		if err != nil {
			return false
		}
		conn.Close()
	}
	return true
}

func TestListenAcceptsOnlyPeersOfItsNetwork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		network, address string
		peers            []string // hosts that can connect
		refused          []string
	}{
		{"tcp", "127.0.0.1:0", []string{"127.0.0.1"}, []string{"127.0.0.2", "::1"}},
		{"tcp", "localhost:0", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp", ":0", []string{"127.0.0.1", "::1"}, nil},
		{"tcp", "[::]:0", []string{"127.0.0.1", "::1"}, nil},
		{"tcp", "0.0.0.0:0", []string{"127.0.0.1", "::1"}, nil}, // as with package net
		{"tcp", "", []string{"127.0.0.1", "::1"}, nil},
		{"tcp4", ":0", []string{"127.0.0.1", "127.0.0.2"}, []string{"::1"}},
		{"tcp4", "", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp4", "[::]:0", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp4", "0.0.0.0:0", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp6", ":0", []string{"::1"}, []string{"127.0.0.1"}},
		{"tcp6", "", []string{"::1"}, []string{"127.0.0.1"}},
		{"tcp6", "[::]:0", []string{"::1"}, []string{"127.0.0.1"}},
		{"tcp6", "[::1]:0", []string{"::1"}, []string{"127.0.0.1"}},
	} {
		t.Run(c.network+" "+c.address, func(t *testing.T) {
			if c.network == "tcp6" && !hasHost("::1") {
				skip(t, "no IPv6 here")
			}
			server := new(tcpserver.TcpServer)
			require.NoError(t, server.Listen(c.network, c.address))
			defer server.Close()
			port := strconv.Itoa(server.Port())
			require.Equal(t, server.Port(), server.Addr().(*net.TCPAddr).Port)
			for _, host := range c.peers {
				if hasHost(host) && (host != "::1" || c.network != "tcp" || hasDualStack(t)) {
					sameAddresses(t, server, net.JoinHostPort(host, port))
				}
			}
			for _, host := range c.refused {
				if hasHost(host) {
					_, err := net.Dial("tcp", net.JoinHostPort(host, port))
					require.Error(t, err, host)
				}
			}
		})
	}
}

// sameAddresses sees that both ends of connections to addr agree on the addresses, as the same kind of address, while
// they are open and afterwards, also if nobody has asked before.
func sameAddresses(t testing.TB, server *tcpserver.TcpServer, addr string) {
	t.Helper()
	for _, before := range []bool{true, false} {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		socket := take(t, server)
		check := func() {
			t.Helper()
			for _, c := range []struct{ here, there net.Addr }{
				{socket.LocalAddr(), conn.RemoteAddr()},
				{socket.RemoteAddr(), conn.LocalAddr()},
			} {
				require.Equal(t, c.there.(*net.TCPAddr).AddrPort(), c.here.(*net.TCPAddr).AddrPort())
			}
		}
		if before {
			check()
		}
		require.NoError(t, socket.Close())
		check()
		require.NoError(t, conn.Close())
		check()
	}
}

// heapInUse returns the bytes that are in use.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools are emptied in two steps
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Not parallel: it measures the heap.
func TestPendingConnectionsAreNotRead(t *testing.T) {
	server := listen(t, new(tcpserver.TcpServer))
	client := dial(t, server)
	untilPending(t, server, 1)
	piece := make([]byte, 64<<10)
	before := heapInUse()
	sent := 0
	var err error
	for sent < 50<<20 && err == nil {
		n := 0
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(4*quiet)))
		n, err = client.Write(piece)
		sent += n
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the client is not held back")
	require.Less(t, heapInUse(), before+1<<20)

	// All of it is there once somebody reads.
	socket := take(t, server)
	require.Zero(t, socket.BytesRead())
	require.NoError(t, client.CloseWrite())
	n, err := io.Copy(io.Discard, socket)
	require.NoError(t, err)
	require.EqualValues(t, sent, n)
}

func TestResetRemovesPendingConnectionFromQueue(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	server.SetMaxPendingConnections(1)
	for i := range 10 {
		gone := dial(t, server)
		untilPending(t, server, 1)
		next := dial(t, server)
		if i%2 == 1 {
			_, err := gone.Write([]byte("lost"))
			require.NoError(t, err)
		}
		accepted := server.Stats().Accepted
		reset(t, gone)
		until(t, func() bool { return server.Stats().Accepted == accepted+1 })
		require.Equal(t, 1, server.PendingConnections())
		socket := take(t, server)
		require.Equal(t, next.LocalAddr().String(), socket.RemoteAddr().String())
		require.NoError(t, socket.Close())
		// The place of the one that is gone is free a moment before it is not counted any more.
		until(t, func() bool { return server.ConnectionCount() == 0 })
	}
	require.NoError(t, server.Err())
}

func TestPendingConnectionCanBeReadAfterPeerCloses(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	client := dial(t, server)
	untilPending(t, server, 1)
	peer := client.LocalAddr().String()
	_, err := client.Write([]byte("last words"))
	require.NoError(t, err)
	require.NoError(t, client.Close())
	acceptsNone(t, server)
	require.Equal(t, 1, server.PendingConnections())
	socket := take(t, server)
	buf := make([]byte, 100)
	n, err := io.ReadAtLeast(socket, buf, len("last words"))
	require.NoError(t, err)
	require.Equal(t, "last words", string(buf[:n]))
	for range 2 {
		_, err = socket.Read(buf)
		require.Equal(t, io.EOF, err, "not the bare io.EOF")
	}
	require.NoError(t, socket.Close())
	require.Equal(t, peer, socket.RemoteAddr().String())
}

func TestStatsCountsAcceptedPendingAndOpen(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	is := func(accepted uint64, pending, open int) {
		t.Helper()
		until(t, func() bool { return server.Stats().Accepted == accepted })
		require.Equal(t, tcpserver.ServerStats{Accepted: accepted, Pending: pending, Open: open}, server.Stats())
		require.Equal(t, open, server.ConnectionCount())
		require.Equal(t, pending, server.PendingConnections())
		require.Equal(t, pending > 0, server.HasPendingConnections())
	}
	is(0, 0, 0)
	listen(t, server)
	is(0, 0, 0)
	dialMany(t, server, 3)
	is(3, 3, 3)
	first, second := take(t, server), take(t, server)
	is(3, 1, 3)
	require.NoError(t, first.Close())
	is(3, 1, 2)
	require.Error(t, first.Close())
	is(3, 1, 2)
	require.NoError(t, server.Close())
	is(3, 0, 1)
	listen(t, server)
	dial(t, server)
	is(4, 1, 2)
	require.NoError(t, second.Abort())
	is(4, 1, 1)
	require.NoError(t, server.Close())
	is(4, 0, 0)
}

func TestConnectionsYieldsConnectionsInOrder(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	clients := dialMany(t, server, 6)
	ctx, cancel := context.WithCancel(within(t))
	var got []string
	collect := func(ctx context.Context, n int) {
		for socket := range server.Connections(ctx) {
			got = append(got, socket.RemoteAddr().String())
			socket.Close()
			if n--; n == 0 {
				break
			}
		}
	}
	collect(ctx, 2)
	collect(ctx, 2) // goes on where break has left off
	collect(ctx, 2)
	var want []string
	for _, client := range clients {
		want = append(want, client.LocalAddr().String())
	}
	require.Equal(t, want, got)

	ended := make(chan bool)
	iterate := func(ctx context.Context) {
		collect(ctx, 0)
		ended <- true
	}
	go iterate(ctx)
	cancel()
	receive(t, ended)
	go iterate(context.Background())
	require.NoError(t, server.Close())
	receive(t, ended)
	require.Equal(t, want, got)
}

func TestHTTPServerWorksOnTcpServer(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	served := make(chan error, 1)
	go func() {
		served <- http.Serve(server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(err)
			}
			w.Write(body)
		}))
	}()
	transport := new(http.Transport)
	client := http.Client{Transport: transport, Timeout: patience}
	body := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(body)
	for i := range 5 {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		})
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+server.Addr().String(), bytes.NewReader(body))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.True(t, bytes.Equal(body, got))
		require.Equal(t, i > 0, reused, "the connection was not kept")
	}
	require.NoError(t, server.Close())
	require.ErrorIs(t, receive(t, served), net.ErrClosed)
	transport.CloseIdleConnections()
	until(t, func() bool { return server.ConnectionCount() == 0 })
}

// logLines is what a text handler of slog writes to, a record at a time.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// Not parallel: it replaces the logger of the process.
func TestNilLoggerUsesSlogDefault(t *testing.T) {
	lines := make(logLines, 10)
	old, output, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(lines, nil)))
	defer func() {
		slog.SetDefault(old)
		log.SetOutput(output)
		log.SetFlags(flags)
	}()
	var filtered atomic.Bool
	server := listen(t, &tcpserver.TcpServer{
		Filter: func(netip.AddrPort) bool {
			if !filtered.Swap(true) {
				panic("in Filter")
			}
			return true
		},
		NewConnectionHandler: func(*tcpserver.TcpServer) { panic("in NewConnectionHandler") },
	})
	dial(t, server)
	require.Contains(t, receive(t, lines), "in Filter")
	socket, conn := connect(t, server)
	require.Contains(t, receive(t, lines), "in NewConnectionHandler")
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) { panic("in ReadyRead") }})
	say(t, conn, "hello")
	require.Contains(t, receive(t, lines), "in ReadyRead")
}

func TestNewConnectionHandlerIsCalledAgainAfterPanicOrGoexit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail func()
		log  string
	}{
		"Panic":  {func() { panic("the handler's own fault") }, "the handler's own fault"},
		"Goexit": {runtime.Goexit, "handler failed"}, // what t.FailNow does
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := make(logLines, 10)
			calls := make(chan int, 10)
			n := 0
			server := &tcpserver.TcpServer{
				Logger: slog.New(slog.NewTextHandler(lines, nil)),
				NewConnectionHandler: func(server *tcpserver.TcpServer) {
					n++
					calls <- n
					if n == 2 {
						c.fail()
					}
				},
			}
			// All are there, and the loop knows it, before the first is accepted: no later one helps the server on.
			server.PauseAccepting()
			listen(t, server)
			clients := dialMany(t, server, 4)
			acceptsNone(t, server)
			server.ResumeAccepting()
			for i := range clients {
				require.Equal(t, i+1, receive(t, calls))
			}
			line := receive(t, lines)
			require.Contains(t, line, "level=ERROR")
			require.Contains(t, line, c.log)
			require.Contains(t, line, "server_test.go", "no stack")
			takes(t, server, clients...)
			require.True(t, server.IsAccepting())
			require.Empty(t, lines)
		})
	}
}

// The other connections are accepted, although the handler is not called for them before it returns.
func TestBlockingNewConnectionHandlerDoesNotStopAccepting(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan bool, 10), make(chan bool)
	server := &tcpserver.TcpServer{NewConnectionHandler: func(*tcpserver.TcpServer) {
		entered <- true
		<-leave
	}}
	server.PauseAccepting()
	listen(t, server)
	clients := dialMany(t, server, 3)
	server.ResumeAccepting()
	receive(t, entered)
	defer func() { close(leave) }()
	takes(t, server, clients...)
	takes(t, server, dial(t, server))
	require.Empty(t, entered, "two calls at a time")
}

// The system queues one more than asked; the next client waits.
func TestBacklogLimitsConnectionsNotYetAccepted(t *testing.T) {
	t.Parallel()
	server := &tcpserver.TcpServer{Backlog: 3}
	server.PauseAccepting()
	listen(t, server)
	connected := 0
	for range 10 {
		conn, err := net.DialTimeout("tcp", server.Addr().String(), 300*time.Millisecond)
		if err != nil {
			require.True(t, err.(net.Error).Timeout(), err)
			break
		}
		t.Cleanup(func() { conn.Close() })
		connected++
	}
	require.Contains(t, []int{3, 4}, connected)
	server.ResumeAccepting()
	untilPending(t, server, connected)
	dial(t, server)
	untilPending(t, server, connected+1)

	// 0 is the system's maximum.
	most := new(tcpserver.TcpServer)
	most.PauseAccepting()
	listen(t, most)
	dialMany(t, most, 100)
	most.SetMaxPendingConnections(100)
	most.ResumeAccepting()
	untilPending(t, most, 100)
}

func TestListenCopiesConfiguration(t *testing.T) {
	t.Parallel()
	called := make(chan string, 10)
	handler := func(name string) func(*tcpserver.TcpServer) {
		return func(*tcpserver.TcpServer) { called <- name }
	}
	server := listen(t, &tcpserver.TcpServer{NewConnectionHandler: handler("old")})
	server.NewConnectionHandler = handler("new")
	server.Executor = func(func()) {} // would lose every call
	server.Backlog = -1
	dial(t, server)
	require.Equal(t, "old", receive(t, called))
	require.NoError(t, server.Close())
	require.ErrorIs(t, server.Listen("tcp", "127.0.0.1:0"), tcpserver.ErrBacklog)
	server.Backlog, server.Executor = 0, nil
	listen(t, server)
	dial(t, server)
	require.Equal(t, "new", receive(t, called))
	require.Empty(t, called)
}

func TestResetBeforeAcceptDoesNotStopServer(t *testing.T) {
	t.Parallel()
	handlers := &tcpserver.SocketHandlers{ReadyRead: echoBack}
	server := &tcpserver.TcpServer{
		AcceptErrorHandler: func(_ *tcpserver.TcpServer, err error) { t.Error(err) },
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetHandlers(handlers)
			}
		},
	}
	server.PauseAccepting()
	listen(t, server)
	for range 50 {
		reset(t, dial(t, server))
	}
	server.ResumeAccepting()
	conn := dial(t, server)
	say(t, conn, "hello")
	hear(t, conn, "hello")
	require.True(t, server.IsListening())
}
