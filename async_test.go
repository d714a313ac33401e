package tcpserver_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// goroutineID returns the number of the calling goroutine. Go offers no better way to identify it.
func goroutineID() string {
	buf := make([]byte, 64)
	return string(bytes.Fields(buf[:runtime.Stack(buf, false)])[1])
}

// An asyncServer is a server that records its callbacks and checks on which goroutine they run.
type asyncServer struct {
	*tcpserver.TcpServer
	t     *testing.T
	owner string           // the test's goroutine
	queue *tcpserver.Queue // run by the owner; nil if the server has no Executor
	woken chan struct{}
	calls chan outcome
}

// An outcome is what a callback was passed.
type outcome struct {
	socket *tcpserver.TcpSocket
	count  int
	err    error
}

// withAndWithoutExecutor runs test twice: without an Executor, and with a Queue that the test's own goroutine runs.
func withAndWithoutExecutor(t *testing.T, test func(t *testing.T, s *asyncServer)) {
	t.Parallel()
	for _, executor := range []bool{false, true} {
		name := "loop"
		if executor {
			name = "executor"
		}
		t.Run(name, func(t *testing.T) {
			s := &asyncServer{
				TcpServer: new(tcpserver.TcpServer),
				t:         t,
				owner:     goroutineID(),
				woken:     make(chan struct{}, 1),
				calls:     make(chan outcome, 100),
			}
			if executor {
				s.queue = &tcpserver.Queue{Wake: func() {
					select {
					case s.woken <- struct{}{}:
					default:
					}
				}}
				s.Executor = s.queue.Post
			}
			t.Cleanup(func() {
				s.Close()
				require.Empty(t, s.calls, "a callback was called more than once")
			})
			test(t, s)
		})
	}
}

// record is called by every callback.
func (s *asyncServer) record(server *tcpserver.TcpServer, o outcome) {
	if server != s.TcpServer {
		s.t.Error("a callback was passed another server")
	}
	if here := goroutineID() == s.owner; here != (s.queue != nil) {
		s.t.Errorf("a callback ran on the test's goroutine: %v", here)
	}
	s.calls <- o
}

// next waits for a callback and returns its outcome. With an Executor it runs the queue, as no callback is called
// elsewhere.
func (s *asyncServer) next() outcome {
	s.t.Helper()
	for s.queue != nil && len(s.calls) == 0 {
		if s.queue.RunPending() == 0 {
			receive(s.t, s.woken)
		}
	}
	return receive(s.t, s.calls)
}

// expectNone checks that no callback is called for a while.
func (s *asyncServer) expectNone() {
	s.t.Helper()
	time.Sleep(quiet)
	if s.queue != nil {
		s.queue.RunPending()
	}
	require.Empty(s.t, s.calls)
}

func (s *asyncServer) listenAsync(address string) {
	s.ListenAsync("tcp", address, func(server *tcpserver.TcpServer, err error) { s.record(server, outcome{err: err}) })
}

func (s *asyncServer) acceptAsync(ctx context.Context) {
	s.AcceptAsync(ctx, func(server *tcpserver.TcpServer, socket *tcpserver.TcpSocket, err error) {
		if socket != nil {
			s.t.Cleanup(func() { socket.Close() })
		}
		s.record(server, outcome{socket: socket, err: err})
	})
}

func TestListenAsync(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		s.listenAsync("127.0.0.1:0")
		require.NoError(t, s.next().err)
		require.True(t, s.IsListening())
		mustTake(t, s.TcpServer, dial(t, s.TcpServer))

		s.listenAsync("127.0.0.1:0")
		require.ErrorIs(t, s.next().err, tcpserver.ErrAlreadyListening)

		taken := listen(t, new(tcpserver.TcpServer)).Addr().String()
		require.NoError(t, s.Close())
		s.listenAsync(taken)
		err := s.next().err
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.Equal(t, err, s.Err())
		s.listenAsync("127.0.0.1:65536")
		require.ErrorIs(t, s.next().err, tcpserver.ErrInvalidPort)

		s.listenAsync("127.0.0.1:0")
		require.NoError(t, s.next().err)
		require.NoError(t, s.Err())
	})
}

// Whether Listen or Close comes first, the callback is called once, and the server does not listen afterwards.
func TestCloseDuringListenAsyncStopsListening(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		for range 50 {
			s.listenAsync("127.0.0.1:0")
			require.NoError(t, s.Close())
			if err := s.next().err; err != nil {
				require.ErrorIs(t, err, tcpserver.ErrServerClosed)
			}
			require.False(t, s.IsListening())
		}
	})
}

// Not parallel: it replaces the resolver of the process.
func TestCloseCancelsLookupOfListenAsync(t *testing.T) {
	asked := make(chan struct{}, 10)
	old := net.DefaultResolver
	defer func() { net.DefaultResolver = old }()
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			asked <- struct{}{}
			<-ctx.Done() // a name server that does not answer
			return nil, ctx.Err()
		},
	}
	server := new(tcpserver.TcpServer)
	called := make(chan error, 1)
	server.ListenAsync("tcp", "name.invalid:0", func(_ *tcpserver.TcpServer, err error) { called <- err })
	receive(t, asked)
	require.Empty(t, called)
	require.NoError(t, server.Close())
	require.ErrorIs(t, receive(t, called), tcpserver.ErrServerClosed)

	// A later ListenAsync is not canceled.
	server.ListenAsync("tcp", "127.0.0.1:0", func(_ *tcpserver.TcpServer, err error) { called <- err })
	require.NoError(t, receive(t, called))
	require.NoError(t, server.Close())
}

func TestNextPendingConnectionAsyncDoesNotWait(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		next := func() *tcpserver.TcpSocket {
			s.NextPendingConnectionAsync(func(server *tcpserver.TcpServer, socket *tcpserver.TcpSocket) {
				s.record(server, outcome{socket: socket})
			})
			return s.next().socket
		}
		require.Nil(t, next(), "the server never listened")
		listen(t, s.TcpServer)
		require.Nil(t, next(), "no connection is pending")
		clients := dialMany(t, s.TcpServer, 2)
		untilPending(t, s.TcpServer, 2)
		for _, client := range clients {
			socket := next()
			require.NotNil(t, socket)
			require.Equal(t, client.LocalAddr().String(), socket.RemoteAddr().String())
			require.NoError(t, socket.Close())
		}
		require.Nil(t, next(), "all connections are taken")
		require.NoError(t, s.Close())
		require.Nil(t, next(), "the server is closed")
	})
}

func TestAcceptAsyncWaitsForConnection(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		listen(t, s.TcpServer)
		s.acceptAsync(within(t))
		s.expectNone()
		client := dial(t, s.TcpServer)
		o := s.next()
		require.NoError(t, o.err)
		require.Equal(t, client.LocalAddr().String(), o.socket.RemoteAddr().String())

		// AcceptAsync does not wait if a connection is already pending.
		client = dial(t, s.TcpServer)
		untilPending(t, s.TcpServer, 1)
		s.acceptAsync(within(t))
		require.Equal(t, client.LocalAddr().String(), s.next().socket.RemoteAddr().String())
	})
}

func TestAcceptAsyncReturnsContextError(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		listen(t, s.TcpServer)
		ctx, cancel := context.WithCancel(context.Background())
		s.acceptAsync(ctx)
		cancel()
		require.Equal(t, outcome{err: context.Canceled}, s.next())
		client := dial(t, s.TcpServer)
		mustTake(t, s.TcpServer, client)
	})
}

func TestAcceptAsyncReturnsErrServerClosedAfterClose(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		s.acceptAsync(within(t))
		require.Equal(t, outcome{err: tcpserver.ErrNotListening}, s.next())
		listen(t, s.TcpServer)
		for range 3 {
			s.acceptAsync(within(t))
		}
		require.NoError(t, s.Close())
		for range 3 {
			require.Equal(t, outcome{err: tcpserver.ErrServerClosed}, s.next())
		}
	})
}

// AcceptAsync takes a connection only when it calls back. By then the context may have ended, or the server may have
// closed and listened again.
func TestAcceptAsyncFailsIfContextOrListeningEndsBeforeCallback(t *testing.T) {
	posted := make(chan func(), 10)
	server := &tcpserver.TcpServer{Executor: func(f func()) { posted <- f }}
	listen(t, server)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var errs []error
	accept := func(ctx context.Context) (run func()) {
		server.AcceptAsync(ctx, func(_ *tcpserver.TcpServer, _ *tcpserver.TcpSocket, err error) {
			errs = append(errs, err)
		})
		return receive(t, posted)
	}
	dial(t, server)
	run := accept(ctx)
	cancel()
	run()
	run = accept(within(t))
	require.NoError(t, server.Close())
	listen(t, server)
	dial(t, server)
	untilPending(t, server, 1)
	run()
	// The dispatcher asks the executor of the current period again.
	for len(errs) < 2 {
		receive(t, posted)()
	}
	require.Equal(t, []error{context.Canceled, tcpserver.ErrServerClosed}, errs)
	take(t, server)
}

func TestConcurrentAcceptAsyncCallsGetDifferentConnections(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		const n = 20
		listen(t, s.TcpServer)
		for range n / 2 {
			s.acceptAsync(within(t))
		}
		clients := dialMany(t, s.TcpServer, n)
		for range n / 2 {
			s.acceptAsync(within(t))
		}
		want := make(map[string]bool)
		for _, client := range clients {
			want[client.LocalAddr().String()] = true
		}
		got := make(map[string]bool)
		for range n {
			o := s.next()
			require.NoError(t, o.err)
			got[o.socket.RemoteAddr().String()] = true
		}
		require.Equal(t, want, got)
	})
}

// Callbacks that request the next callback at once must not prevent calls of the other handlers.
func TestRepeatedCallbacksDoNotStarveHandlers(t *testing.T) {
	for name, ask := range map[string]func(server *tcpserver.TcpServer, callback func()){
		"ConnectionCountAsync": func(server *tcpserver.TcpServer, callback func()) {
			server.ConnectionCountAsync(func(*tcpserver.TcpServer, int, error) { callback() })
		},
		"NextPendingConnectionAsync": func(server *tcpserver.TcpServer, callback func()) {
			server.NextPendingConnectionAsync(func(_ *tcpserver.TcpServer, socket *tcpserver.TcpSocket) {
				if socket != nil {
					socket.Close()
				}
				callback()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls := make(chan string, 10)
			var allow, stop atomic.Bool
			allow.Store(true)
			server := &tcpserver.TcpServer{
				Filter:               func(netip.AddrPort) bool { return allow.Load() },
				NewConnectionHandler: func(*tcpserver.TcpServer) { calls <- "NewConnectionHandler" },
				DropHandler:          func(*tcpserver.TcpServer, tcpserver.Drop) { calls <- "DropHandler" },
				ClosedHandler:        func(*tcpserver.TcpServer, error) { calls <- "ClosedHandler" },
			}
			listen(t, server)
			done := make(chan struct{})
			var again func()
			again = func() {
				if stop.Load() {
					close(done)
				} else {
					ask(server, again)
				}
			}
			again()
			defer func() {
				stop.Store(true)
				receive(t, done)
			}()
			dial(t, server)
			require.Equal(t, "NewConnectionHandler", receive(t, calls))
			allow.Store(false)
			dial(t, server)
			require.Equal(t, "DropHandler", receive(t, calls))
			require.NoError(t, server.Close())
			require.Equal(t, "ClosedHandler", receive(t, calls))
		})
	}
}

// Callbacks requested before Close are called before ClosedHandler, and those of CloseAsync after it.
func TestCallbacksRequestedBeforeCloseRunBeforeClosedHandler(t *testing.T) {
	var queue tcpserver.Queue
	calls := make(chan string, 10)
	server := listen(t, &tcpserver.TcpServer{
		Executor:      queue.Post,
		ClosedHandler: func(*tcpserver.TcpServer, error) { calls <- "ClosedHandler" },
	})
	count := func(then func()) {
		server.ConnectionCountAsync(func(*tcpserver.TcpServer, int, error) {
			calls <- "callback"
			then()
		})
	}
	count(func() {
		count(func() {})
		server.CloseAsync(func(*tcpserver.TcpServer, error) { calls <- "CloseAsync" })
	})
	count(func() {})
	run(t, &queue)
	for _, want := range []string{"callback", "callback", "callback", "ClosedHandler", "CloseAsync"} {
		require.Equal(t, want, receive(t, calls))
	}
}

func TestConnectionCountAsync(t *testing.T) {
	withAndWithoutExecutor(t, func(t *testing.T, s *asyncServer) {
		is := func(want int) {
			t.Helper()
			s.ConnectionCountAsync(func(server *tcpserver.TcpServer, count int, err error) {
				s.record(server, outcome{count: count, err: err})
			})
			require.Equal(t, outcome{count: want}, s.next())
		}
		is(0)
		listen(t, s.TcpServer)
		dialMany(t, s.TcpServer, 2)
		untilPending(t, s.TcpServer, 2)
		is(2)
		socket := take(t, s.TcpServer)
		is(2)
		require.NoError(t, s.Close())
		is(1)
		require.NoError(t, socket.Close())
		is(0)
	})
}

// An application that has quit no longer runs what it is passed, and the server cannot find out.
func TestStoppedExecutorLosesNoConnection(t *testing.T) {
	t.Parallel()
	server := listen(t, &tcpserver.TcpServer{
		Executor:             func(func()) {},
		NewConnectionHandler: func(*tcpserver.TcpServer) { t.Error("the handler was called") },
	})
	for range 3 {
		server.AcceptAsync(within(t), func(*tcpserver.TcpServer, *tcpserver.TcpSocket, error) {
			t.Error("the callback was called")
		})
		server.NextPendingConnectionAsync(func(*tcpserver.TcpServer, *tcpserver.TcpSocket) {
			t.Error("the callback was called")
		})
	}
	clients := dialMany(t, server, 5)
	untilPending(t, server, 5)
	time.Sleep(quiet)
	require.Equal(t, 5, server.PendingConnections())
	mustTake(t, server, clients...)
}
