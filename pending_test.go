package tcpserver_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestMaxPendingConnectionsDefaultsTo30(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	require.Equal(t, 30, server.MaxPendingConnections())
	clients := dialMany(t, server, 40)
	untilPending(t, server, 30)
	require.False(t, server.IsAccepting())
	mustNotAccept(t, server)

	// Each connection that is taken makes room for one more, in the order of the clients.
	mustTake(t, server, clients[:3]...)
	untilPending(t, server, 30)
	mustTake(t, server, clients[3:]...)
	require.True(t, server.IsAccepting())
	require.Nil(t, server.NextPendingConnection())
	require.EqualValues(t, 40, server.Stats().Accepted)
}

func TestRaisingMaxPendingConnectionsTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	server.SetMaxPendingConnections(1)
	clients := dialMany(t, server, 5)
	untilPending(t, server, 1)
	mustNotAccept(t, server)
	server.SetMaxPendingConnections(3)
	untilPending(t, server, 3)
	mustNotAccept(t, server)
	server.SetMaxPendingConnections(30)
	untilPending(t, server, 5)
	mustTake(t, server, clients...)
}

func TestLoweringMaxPendingConnectionsKeepsQueuedConnections(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	clients := dialMany(t, server, 5)
	untilPending(t, server, 5)
	server.SetMaxPendingConnections(2)
	require.Equal(t, 5, server.PendingConnections())
	clients = append(clients, dial(t, server))
	mustTake(t, server, clients[:3]...)
	require.False(t, server.IsAccepting())
	mustNotAccept(t, server)
	mustTake(t, server, clients[3:]...)
}

func TestMaxPendingConnectionsOfZeroCanBeRaised(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, -1, math.MinInt} {
		server := new(tcpserver.TcpServer)
		server.SetMaxPendingConnections(limit)
		require.Zero(t, server.MaxPendingConnections())
		listen(t, server)
		clients := dialMany(t, server, 2)
		mustNotAccept(t, server)
		server.SetMaxPendingConnections(1)
		mustTake(t, server, clients...)
	}
}

func TestWaitForNewConnectionReturnsAtOnceIfConnectionIsPending(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	dial(t, server)
	untilPending(t, server, 1)
	// Waiting takes no connection, so that it succeeds twice.
	for range 2 {
		require.NoError(t, server.WaitForNewConnection(within(t)))
	}
	take(t, server)
}

func TestCanceledContextWinsOverPendingConnection(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	dialMany(t, server, 3)
	untilPending(t, server, 3)
	require.Equal(t, context.Canceled, server.WaitForNewConnection(canceledContext()))
	socket, err := server.AcceptSocket(canceledContext())
	require.Equal(t, context.Canceled, err)
	require.Nil(t, socket)
	for range server.Connections(canceledContext()) {
		require.Fail(t, "a connection was yielded after the end of the context")
	}

	// The context is canceled while more connections are pending.
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

func TestWaitForNewConnectionReturnsContextError(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	server.PauseAccepting()
	dial(t, server)
	ctx, cancel := context.WithTimeout(context.Background(), quiet)
	defer cancel()
	require.Equal(t, context.DeadlineExceeded, server.WaitForNewConnection(ctx))
	require.Equal(t, 0, server.PendingConnections(), "WaitForNewConnection ended the pause")

	// The cancellation of one wait does not end the other.
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
				err = errors.New("the error is no *net.OpError")
			}
			ended <- err
		}()
		go func() {
			_, err := server.AcceptSocket(context.Background())
			ended <- err
		}()
		go func() {
			for range server.Connections(context.Background()) {
				ended <- errors.New("a connection was yielded")
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
				ctx, ended := newSignalingContext(t), make(chan error, 1)
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
	mustBeExpired := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	// The deadline ends a wait that has begun.
	ctx, ended := newSignalingContext(t), make(chan error, 1)
	go func() { ended <- server.WaitForNewConnection(ctx) }()
	receive(t, ctx.begun)
	require.NoError(t, server.SetDeadline(time.Now().Add(quiet)))
	mustBeExpired(receive(t, ended))

	// It takes precedence over pending connections, which can be taken once it is cleared.
	dial(t, server)
	untilPending(t, server, 1)
	_, err := server.Accept()
	mustBeExpired(err)
	var netErr net.Error
	require.ErrorAs(t, err, &netErr)
	require.True(t, netErr.Timeout())
	_, err = server.AcceptSocket(within(t))
	mustBeExpired(err)
	for range server.Connections(within(t)) {
		require.Fail(t, "a connection was yielded after the deadline")
	}
	called := make(chan error, 1)
	server.AcceptAsync(within(t), func(_ *tcpserver.TcpServer, _ *tcpserver.TcpSocket, err error) { called <- err })
	mustBeExpired(receive(t, called))
	require.NoError(t, server.SetDeadline(time.Time{}))
	take(t, server)

	// The next Listen begins without a deadline.
	require.NoError(t, server.SetDeadline(time.Now().Add(-time.Second)))
	require.NoError(t, server.Close())
	require.ErrorIs(t, server.SetDeadline(time.Time{}), tcpserver.ErrNotListening)
	listen(t, server)
	connect(t, server)
	require.NoError(t, server.SetDeadline(time.Now().Add(time.Hour)), "Close must stop the timer of the deadline")
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

// This test measures the heap and is not parallel.
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
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the client was never blocked")
	require.Less(t, heapInUse(), before+1<<20)

	// All bytes arrive once the program reads.
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
		resetting := dial(t, server)
		untilPending(t, server, 1)
		next := dial(t, server)
		if i%2 == 1 {
			_, err := resetting.Write([]byte("lost"))
			require.NoError(t, err)
		}
		accepted := server.Stats().Accepted
		reset(t, resetting)
		until(t, func() bool { return server.Stats().Accepted == accepted+1 })
		require.Equal(t, 1, server.PendingConnections())
		socket := take(t, server)
		require.Equal(t, next.LocalAddr().String(), socket.RemoteAddr().String())
		require.NoError(t, socket.Close())
		// The connection that was reset leaves the queue a moment before it leaves the count of open connections.
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
	mustNotAccept(t, server)
	require.Equal(t, 1, server.PendingConnections())
	socket := take(t, server)
	buf := make([]byte, 100)
	n, err := io.ReadAtLeast(socket, buf, len("last words"))
	require.NoError(t, err)
	require.Equal(t, "last words", string(buf[:n]))
	for range 2 {
		_, err = socket.Read(buf)
		require.Equal(t, io.EOF, err, "Read must return io.EOF itself")
	}
	require.NoError(t, socket.Close())
	require.Equal(t, peer, socket.RemoteAddr().String())
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
	collect(ctx, 2) // continues after break
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
