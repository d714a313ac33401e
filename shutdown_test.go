package tcpserver_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// recordClosed sets ClosedHandler and returns a channel that receives its errors.
func recordClosed(server *tcpserver.TcpServer) <-chan error {
	closed := make(chan error, 10)
	server.ClosedHandler = func(_ *tcpserver.TcpServer, err error) { closed <- err }
	return closed
}

// receiveNothing checks that from delivers nothing for a moment.
func receiveNothing[T any](t testing.TB, from <-chan T) {
	t.Helper()
	select {
	case v := <-from:
		require.Fail(t, "received too early", "%v", v)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestClosedHandlerIsCalledAfterLastConnectionEnds(t *testing.T) {
	server := new(tcpserver.TcpServer)
	closed := recordClosed(server)
	listen(t, server)
	first, _ := connect(t, server)
	second, conn := connect(t, server)
	dial(t, server)
	require.NoError(t, server.WaitForNewConnection(within(t)))
	require.NoError(t, server.Close())
	require.NoError(t, first.Close())
	receiveNothing(t, closed)
	assert.Equal(t, 1, server.ConnectionCount(), "Close must end the pending connection")
	conn.Close()
	_, err := second.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, second.Close())
	require.NoError(t, receive(t, closed))
	require.NoError(t, server.Close())
	receiveNothing(t, closed)
}

func TestClosedHandlerIsNotCalledInsideClose(t *testing.T) {
	var closing atomic.Bool
	inside := make(chan bool, 1)
	server := &tcpserver.TcpServer{ClosedHandler: func(*tcpserver.TcpServer, error) { inside <- closing.Load() }}
	handled := make(chan struct{})
	server.NewConnectionHandler = func(server *tcpserver.TcpServer) {
		closing.Store(true)
		server.Close()
		time.Sleep(20 * time.Millisecond) // ClosedHandler must not be called meanwhile
		closing.Store(false)
		close(handled)
	}
	listen(t, server)
	dial(t, server)
	receive(t, handled)
	assert.False(t, receive(t, inside))
}

func TestDisconnectedIsCalledBeforeClosedHandler(t *testing.T) {
	for _, style := range []string{"loop", "executor"} {
		t.Run(style, func(t *testing.T) {
			events := make(chan string, 10)
			server := &tcpserver.TcpServer{
				ClosedHandler: func(server *tcpserver.TcpServer, err error) {
					events <- fmt.Sprint("closed ", err, server.ConnectionCount())
				},
			}
			var queue tcpserver.Queue
			if style == "executor" {
				server.Executor = queue.Post
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { queue.Run(ctx); close(done) }()
				t.Cleanup(func() { cancel(); <-done })
			}
			listen(t, server)
			const n = 20
			var sockets []*tcpserver.TcpSocket
			for range n {
				socket, _ := connect(t, server)
				socket.SetHandlers(&tcpserver.SocketHandlers{
					Disconnected: func(*tcpserver.TcpSocket, error) { events <- "disconnected" },
				})
				sockets = append(sockets, socket)
			}
			require.NoError(t, server.Close())
			for _, socket := range sockets {
				go socket.Close()
			}
			for range n {
				require.Equal(t, "disconnected", receive(t, events))
			}
			require.Equal(t, "closed <nil> 0", receive(t, events))
		})
	}
}

func TestEachListenGetsItsOwnClosedHandlerCall(t *testing.T) {
	closed := make(chan string, 10)
	server := new(tcpserver.TcpServer)
	var connections []*tcpserver.TcpSocket
	for _, name := range []string{"first", "second"} {
		server.ClosedHandler = func(*tcpserver.TcpServer, error) { closed <- name }
		require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
		socket, _ := connect(t, server)
		connections = append(connections, socket)
		require.NoError(t, server.Close())
	}
	receiveNothing(t, closed)
	require.NoError(t, connections[1].Close())
	assert.Equal(t, "second", receive(t, closed))
	require.NoError(t, connections[0].Close())
	assert.Equal(t, "first", receive(t, closed))
}

func TestPollerCloseCallsClosedHandlerWithError(t *testing.T) {
	poller, err := tcpserver.NewPoller(1)
	require.NoError(t, err)
	server := &tcpserver.TcpServer{Poller: poller}
	closed := recordClosed(server)
	listen(t, server)
	connect(t, server)
	require.NoError(t, poller.Close())
	require.Error(t, receive(t, closed))
}

func TestCloseAsyncCallsBackAfterClosedHandler(t *testing.T) {
	events := make(chan string, 10)
	server := &tcpserver.TcpServer{ClosedHandler: func(*tcpserver.TcpServer, error) { events <- "handler" }}
	called := func(name string) func(*tcpserver.TcpServer, error) {
		return func(got *tcpserver.TcpServer, err error) {
			assert.Same(t, server, got)
			events <- fmt.Sprint(name, " ", err)
		}
	}
	const notListening = "close tcp: tcpserver: not listening"
	server.CloseAsync(called("never listened"))
	assert.Equal(t, "never listened "+notListening, receive(t, events))

	listen(t, server)
	socket, _ := connect(t, server)
	server.CloseAsync(called("first"))
	assert.False(t, server.IsListening())
	server.CloseAsync(called("second"))
	receiveNothing(t, events)
	require.NoError(t, socket.Close())
	assert.Equal(t, "handler", receive(t, events))
	assert.Equal(t, "first <nil>", receive(t, events))
	assert.Equal(t, "second "+notListening, receive(t, events))

	bind(t, server)
	server.CloseAsync(called("bound"))
	assert.Equal(t, "bound <nil>", receive(t, events))
	assert.False(t, server.IsBound())
}

func TestShutdownWaitsForHandlerThatHasRemovedTheHandlers(t *testing.T) {
	inside, leave := make(chan bool), make(chan bool)
	server := listen(t, &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
		server.NextPendingConnection().SetHandlers(&tcpserver.SocketHandlers{
			ReadyRead: func(socket *tcpserver.TcpSocket) {
				socket.SetHandlers(nil)
				socket.Close()
				close(inside)
				<-leave
			},
		})
	}})
	_, err := dial(t, server).Write([]byte("x"))
	require.NoError(t, err)
	receive(t, inside)
	ended := make(chan error, 1)
	go func() { ended <- server.Shutdown(within(t)) }()
	require.Eventually(t, func() bool { return !server.IsListening() }, patience, time.Millisecond)
	select {
	case <-ended:
		require.FailNow(t, "Shutdown has returned while a handler was running")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	require.NoError(t, receive(t, ended))
}

func TestShutdownWaitsForConnections(t *testing.T) {
	server := new(tcpserver.TcpServer)
	require.NoError(t, server.Shutdown(within(t)), "the server never listened")
	listen(t, server)
	socket, _ := connect(t, server)

	require.Equal(t, context.Canceled, server.Shutdown(canceledContext()))
	assert.False(t, server.IsListening())
	assert.Equal(t, tcpserver.StateConnected, socket.State())

	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() { assert.NoError(t, server.Shutdown(within(t))) })
	}
	require.NoError(t, socket.Close())
	waiting.Wait()
	require.NoError(t, server.Shutdown(within(t)), "nothing is left to wait for")
	require.Equal(t, context.Canceled, server.Shutdown(canceledContext()))
}

// A slowServer is a server whose Disconnected and ClosedHandler block. It counts those that have returned.
type slowServer struct {
	*tcpserver.TcpServer
	t        *testing.T
	release  chan struct{} // once closed, the handlers return
	returned atomic.Int32
}

func newSlowServer(t *testing.T, executor tcpserver.Executor) *slowServer {
	s := &slowServer{TcpServer: &tcpserver.TcpServer{Executor: executor}, t: t, release: make(chan struct{})}
	s.ClosedHandler = func(*tcpserver.TcpServer, error) { s.block() }
	return s
}

func (s *slowServer) block() {
	<-s.release
	s.returned.Add(1)
}

// connect makes a connection whose Disconnected blocks.
func (s *slowServer) connect() *tcpserver.TcpSocket {
	socket, _ := connect(s.t, s.TcpServer)
	socket.SetHandlers(&tcpserver.SocketHandlers{
		Disconnected: func(*tcpserver.TcpSocket, error) { s.block() },
	})
	return socket
}

// requireWaits requires that wait returns only after all n handlers have returned.
func (s *slowServer) requireWaits(n int32, wait func() error) {
	s.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	receiveNothing(s.t, ended)
	close(s.release)
	require.NoError(s.t, receive(s.t, ended))
	require.Equal(s.t, n, s.returned.Load())
}

// forEachWait runs test for each method that waits for the end of a server, without and with an executor.
func forEachWait(t *testing.T, test func(t *testing.T, s *slowServer, wait func() error)) {
	waits := map[string]func(s *slowServer) error{
		"Shutdown": func(s *slowServer) error { return s.Shutdown(within(s.t)) },
		"Wait": func(s *slowServer) error {
			s.Close()
			return tcpserver.Wait(within(s.t))
		},
		"CloseAsync": func(s *slowServer) error {
			called := make(chan struct{})
			s.CloseAsync(func(*tcpserver.TcpServer, error) { close(called) })
			<-called
			return nil
		},
	}
	for name, wait := range waits {
		for _, style := range []string{"loop", "executor"} {
			t.Run(name+"/"+style, func(t *testing.T) {
				var queue tcpserver.Queue
				s := newSlowServer(t, nil)
				if style == "executor" {
					s.Executor = queue.Post
					ctx, cancel := context.WithCancel(context.Background())
					done := make(chan struct{})
					go func() { queue.Run(ctx); close(done) }()
					t.Cleanup(func() { cancel(); <-done })
				}
				listen(t, s.TcpServer)
				test(t, s, func() error { return wait(s) })
			})
		}
	}
}

func TestShutdownWaitAndCloseAsyncWaitForLastHandler(t *testing.T) {
	forEachWait(t, func(t *testing.T, s *slowServer, wait func() error) {
		for range 3 {
			s.connect()
		}
		s.CloseConnections()
		require.Zero(t, s.ConnectionCount())
		s.requireWaits(4, wait)
	})
}

func TestShutdownWaitAndCloseAsyncWaitForEarlierPeriods(t *testing.T) {
	forEachWait(t, func(t *testing.T, s *slowServer, wait func() error) {
		early := s.connect()
		require.NoError(t, s.Close())
		listen(t, s.TcpServer)
		require.NoError(t, s.Close())
		listen(t, s.TcpServer)
		s.connect().Close()
		early.Close()
		s.requireWaits(5, wait)
	})
}

// Shutdown waits even if the server has no ClosedHandler.
func TestShutdownWaitsForRunningHandler(t *testing.T) {
	for name, executor := range map[string]tcpserver.Executor{"loop": nil, "executor": func(f func()) { f() }} {
		for handler, use := range map[string]func(server *tcpserver.TcpServer, run func()){
			"NewConnectionHandler": func(server *tcpserver.TcpServer, run func()) {
				server.NewConnectionHandler = func(*tcpserver.TcpServer) { run() }
			},
			"DropHandler": func(server *tcpserver.TcpServer, run func()) {
				server.DropHandler = func(*tcpserver.TcpServer, tcpserver.Drop) { run() }
				server.Filter = func(netip.AddrPort) bool { return false }
			},
			"callback": func(server *tcpserver.TcpServer, run func()) {
				server.ConnectionCountAsync(func(*tcpserver.TcpServer, int, error) { run() })
			},
		} {
			t.Run(handler+"/"+name, func(t *testing.T) {
				running := make(chan struct{})
				s := newSlowServer(t, executor)
				s.ClosedHandler = nil
				use(s.TcpServer, func() {
					close(running)
					s.block()
				})
				listen(t, s.TcpServer)
				dial(t, s.TcpServer)
				receive(t, running)
				s.requireWaits(1, func() error { return s.Shutdown(within(t)) })
			})
		}
	}
}

// A connection of an earlier period may outlive the last period.
func TestCloseAsyncWaitsForEarlierButNotLaterPeriods(t *testing.T) {
	server := new(tcpserver.TcpServer)
	listen(t, server)
	early, _ := connect(t, server)
	require.NoError(t, server.Close())
	listen(t, server)
	called := make(chan error, 1)
	server.CloseAsync(func(_ *tcpserver.TcpServer, err error) { called <- err })
	receiveNothing(t, called)

	// CloseAsync does not wait for a period that begins after the call.
	listen(t, server)
	require.NoError(t, early.Close())
	require.NoError(t, receive(t, called))
}

func TestShutdownDoesNotWaitForLaterPeriod(t *testing.T) {
	server := listen(t, new(tcpserver.TcpServer))
	socket, _ := connect(t, server)
	ctx, ended := newSignalingContext(t), make(chan error, 1)
	go func() { ended <- server.Shutdown(ctx) }()
	receive(t, ctx.begun)
	listen(t, server)
	connect(t, server)
	require.NoError(t, socket.Close())
	require.NoError(t, receive(t, ended))
}

// If Shutdown in a handler waited for handlers, it would wait for its own caller.
func TestShutdownInHandlerWaitsOnlyForConnections(t *testing.T) {
	for _, style := range []string{"loop", "executor"} {
		t.Run(style, func(t *testing.T) {
			server := new(tcpserver.TcpServer)
			if style == "executor" {
				server.Executor = func(f func()) { f() }
			}
			ended := make(chan string, 10)
			quit := func(where string) {
				server.CloseConnections()
				if assert.NoError(t, server.Shutdown(within(t))) && assert.NoError(t, tcpserver.Wait(within(t))) {
					ended <- where
				}
			}
			// Shutdown must detect the handler even below many calls of the program's own functions.
			var deeper func(n int, f func())
			deeper = func(n int, f func()) {
				if n == 0 {
					f()
				} else {
					deeper(n-1, f)
				}
			}
			server.ClosedHandler = func(*tcpserver.TcpServer, error) { quit("ClosedHandler") }
			listen(t, server)
			socket, conn := connect(t, server)
			socket.SetHandlers(&tcpserver.SocketHandlers{
				ReadyRead:    func(*tcpserver.TcpSocket) { deeper(300, func() { quit("ReadyRead") }) },
				Disconnected: func(*tcpserver.TcpSocket, error) { quit("Disconnected") },
			})
			writeString(t, conn, "quit")
			for _, where := range []string{"ReadyRead", "Disconnected", "ClosedHandler"} {
				require.Equal(t, where, receive(t, ended))
			}
			server.ClosedHandler = nil
			server.NewConnectionHandler = func(server *tcpserver.TcpServer) {
				server.NextPendingConnection()
				quit("NewConnectionHandler")
			}
			listen(t, server)
			server.PauseAccepting()
			dial(t, server)
			server.ResumeAccepting()
			require.Equal(t, "NewConnectionHandler", receive(t, ended))
			server.ConnectionCountAsync(func(*tcpserver.TcpServer, int, error) { quit("callback") })
			require.Equal(t, "callback", receive(t, ended))
		})
	}
}

func TestWaitWaitsForListenAsyncCallback(t *testing.T) {
	var returned atomic.Bool
	release := make(chan struct{})
	server := new(tcpserver.TcpServer)
	server.ListenAsync("tcp", "127.0.0.1:0", func(server *tcpserver.TcpServer, err error) {
		assert.NoError(t, err)
		server.Close()
		<-release
		returned.Store(true)
	})
	ended := make(chan error, 1)
	go func() { ended <- tcpserver.Wait(within(t)) }()
	receiveNothing(t, ended)
	close(release)
	require.NoError(t, receive(t, ended))
	require.True(t, returned.Load())

	// If ListenAsync fails, Wait waits only for its callback.
	server.ListenAsync("tcp", "127.0.0.1:65536", func(_ *tcpserver.TcpServer, err error) { assert.Error(t, err) })
	require.NoError(t, tcpserver.Wait(within(t)))
}

func TestCloseConnectionsAbortsTakenButNotPendingSockets(t *testing.T) {
	poller, err := tcpserver.NewPoller(3)
	require.NoError(t, err)
	server := listen(t, &tcpserver.TcpServer{Poller: poller})
	stranger, _ := connect(t, listen(t, &tcpserver.TcpServer{Poller: poller}))
	early, _ := connect(t, server)
	require.NoError(t, server.Close())
	listen(t, server)
	taken, conn := connect(t, server)
	dial(t, server)
	require.NoError(t, server.WaitForNewConnection(within(t)))

	server.CloseConnections()
	for _, socket := range []*tcpserver.TcpSocket{early, taken} {
		assert.Equal(t, tcpserver.StateUnconnected, socket.State())
		assert.NoError(t, socket.Err())
	}
	_, err = conn.Read(make([]byte, 1))
	mustBeReset(t, err)
	assert.Equal(t, tcpserver.StateConnected, stranger.State())
	assert.Equal(t, tcpserver.StateConnected, take(t, server).State(), "pending connections must stay open")

	new(tcpserver.TcpServer).CloseConnections()
}

func TestWaitReturnsAfterLastReferencedServerEnds(t *testing.T) {
	require.NoError(t, tcpserver.Wait(within(t)), "no server is left")
	require.Equal(t, context.Canceled, tcpserver.Wait(canceledContext()))
	first, second, other := new(tcpserver.TcpServer), new(tcpserver.TcpServer), new(tcpserver.TcpServer)
	other.Unref()
	other.Unref()
	for _, server := range []*tcpserver.TcpServer{first, second, other} {
		listen(t, server)
	}
	socket, _ := connect(t, first)
	ended := make(chan error, 1)
	go func() { ended <- tcpserver.Wait(within(t)) }()
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	receiveNothing(t, ended)
	require.NoError(t, socket.Close())
	require.NoError(t, receive(t, ended))
	assert.True(t, other.IsListening())

	other.Ref()
	other.Ref()
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, tcpserver.Wait(short), context.DeadlineExceeded)
	other.Unref()
	require.NoError(t, tcpserver.Wait(within(t)))
}

// A handler that waits for itself would never return.
func TestWaitInDisconnectedDoesNotWaitForHandlers(t *testing.T) {
	server := listen(t, new(tcpserver.TcpServer))
	socket, conn := connect(t, server)
	ended := make(chan error, 1)
	socket.SetHandlers(&tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) {
		ended <- tcpserver.Wait(within(t))
	}})
	require.NoError(t, server.Close())
	reset(t, conn)
	require.NoError(t, receive(t, ended))
}

// The last handlers may be set after the end of their connection.
func TestShutdownWaitsForHandlersThatAreSetAfterTheEnd(t *testing.T) {
	for _, listening := range []bool{true, false} {
		socket, _ := pair(t)
		server := socket.Server()
		if !listening {
			server.Close()
		}
		socket.Abort()
		returned := false
		socket.SetHandlers(&tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) {
			time.Sleep(10 * time.Millisecond)
			returned = true
		}})
		require.NoError(t, server.Shutdown(within(t)))
		require.True(t, returned, "listening: %v", listening)
	}
}

func TestClosedHandlerComesAfterHandlersThatAreSetInAHandler(t *testing.T) {
	var calls []string
	dialed, done := make(chan struct{}), make(chan struct{})
	server := &tcpserver.TcpServer{ClosedHandler: func(*tcpserver.TcpServer, error) { calls = append(calls, "closed") }}
	server.NewConnectionHandler = func(*tcpserver.TcpServer) {
		<-dialed
		socket := server.NextPendingConnection()
		server.CloseAsync(func(*tcpserver.TcpServer, error) {
			calls = append(calls, "callback")
			close(done)
		})
		socket.Abort()
		socket.SetHandlers(&tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) {
			calls = append(calls, "disconnected")
		}})
	}
	dial(t, listen(t, server))
	close(dialed)
	receive(t, done)
	require.Equal(t, []string{"disconnected", "closed", "callback"}, calls)
}
