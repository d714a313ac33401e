package tcpserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// executors imitate the ways in which user interfaces run functions on their thread.
var executors = map[string]func(t *testing.T) tcpserver.Executor{
	"inline":    func(*testing.T) tcpserver.Executor { return func(f func()) { f() } },
	"unordered": func(*testing.T) tcpserver.Executor { return func(f func()) { go f() } },
	"bounded": func(t *testing.T) tcpserver.Executor {
		queue := make(chan func(), 1)
		stop := serve(t, queue)
		return func(f func()) {
			select {
			case queue <- f:
			case <-stop:
			}
		}
	},
	"blocking": func(t *testing.T) tcpserver.Executor {
		queue := make(chan func())
		stop := serve(t, queue)
		return func(f func()) {
			done := make(chan struct{})
			select {
			case queue <- func() { defer close(done); f() }:
				<-done
			case <-stop:
			}
		}
	},
	"queue": func(t *testing.T) tcpserver.Executor {
		queue := new(tcpserver.Queue)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			queue.Run(ctx)
		}()
		t.Cleanup(func() { cancel(); <-done })
		return queue.Post
	},
}

// serve runs the functions from queue on a goroutine until the test ends, which closes stop.
func serve(t *testing.T, queue <-chan func()) (stop chan struct{}) {
	stop = make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case f := <-queue:
				f()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return stop
}

// A guard wraps an executor and checks how the library calls it. The test fails if the executor is called inside a
// method that the program has called, while an earlier function has not run yet, or while a handler is running; and if
// two handlers run at a time. The guard recovers and counts panics, in place of an application that survives them.
type guard struct {
	t       *testing.T
	exec    tcpserver.Executor
	waiting atomic.Int32
	inside  atomic.Int32
	calls   atomic.Int32
	panics  atomic.Int32
}

func (g *guard) execute(f func()) {
	g.calls.Add(1)
	if g.waiting.Add(1) != 1 {
		g.t.Error("two calls of the executor are outstanding")
	}
	if g.inside.Load() != 0 {
		g.t.Error("the executor was called while a handler was running")
	}
	pcs := make([]uintptr, 20)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
	for frame, more := frames.Next(); more; frame, more = frames.Next() {
		if strings.HasSuffix(frame.Function, "(*dispatcher).ask.func1") {
			continue // the goroutine that was started for the call
		}
		if strings.Contains(frame.Function, "tcpserver.(") || strings.Contains(frame.Function, "tRunner") {
			g.t.Errorf("the executor was called in %s", frame.Function)
		}
	}
	g.exec(func() {
		g.waiting.Add(-1)
		defer func() {
			if v := recover(); v != nil {
				g.panics.Add(1)
			}
		}()
		f()
	})
}

// enter is called at the start of a handler, and the function that it returns at the end.
func (g *guard) enter() func() {
	if g.inside.Add(1) != 1 {
		g.t.Error("two handlers ran at a time")
	}
	return func() { g.inside.Add(-1) }
}

// wrap returns handlers that call enter and then those of h.
func (g *guard) wrap(h *tcpserver.SocketHandlers) *tcpserver.SocketHandlers {
	return &tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			defer g.enter()()
			if h.ReadyRead != nil {
				h.ReadyRead(socket)
			}
		},
		BytesWritten: func(socket *tcpserver.TcpSocket, n int) {
			defer g.enter()()
			if h.BytesWritten != nil {
				h.BytesWritten(socket, n)
			}
		},
		ReadClosed: func(socket *tcpserver.TcpSocket) {
			defer g.enter()()
			if h.ReadClosed != nil {
				h.ReadClosed(socket)
			}
		},
		Disconnected: func(socket *tcpserver.TcpSocket, err error) {
			defer g.enter()()
			if h.Disconnected != nil {
				h.Disconnected(socket, err)
			}
		},
	}
}

// forEachExecutor runs test with each executor, wrapped by a guard.
func forEachExecutor(t *testing.T, test func(t *testing.T, g *guard)) {
	t.Parallel()
	for name, make := range executors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &guard{t: t, exec: make(t)})
		})
	}
}

// startServer starts a server with g as its executor. Its NewConnectionHandler passes each connection to taken.
func (g *guard) startServer(taken func(socket *tcpserver.TcpSocket)) *tcpserver.TcpServer {
	server := &tcpserver.TcpServer{
		Executor:        g.execute,
		Logger:          slog.New(slog.DiscardHandler),
		WriteBufferSize: 16 << 20,
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			defer g.enter()()
			if socket := server.NextPendingConnection(); socket != nil {
				taken(socket)
			}
		},
	}
	server.Unref() // the executor may stop before the server does
	return listen(g.t, server)
}

func TestExecutorRunsHandlersInOrder(t *testing.T) {
	const clients, pings, burst = 20, 30, 200
	forEachExecutor(t, func(t *testing.T, g *guard) {
		done := make(chan error, clients)
		server := g.startServer(func(socket *tcpserver.TcpSocket) {
			w := newRecorder(t)
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				if line, ok := socket.ReadLine(); ok {
					socket.Send(line)
				}
			}
			w.disconnected = func(_ *tcpserver.TcpSocket, err error) { done <- err }
			socket.SetHandlers(g.wrap(w.handlers()))
		})
		var wg sync.WaitGroup
		for i := range clients {
			conn := dial(t, server)
			wg.Go(func() {
				conn.SetDeadline(time.Now().Add(patience))
				r := bufio.NewReader(conn)
				hear := func(j int) bool {
					got, err := r.ReadString('\n')
					if got != fmt.Sprintf("%d:%d\n", i, j) {
						t.Errorf("message %d of client %d: got %q, error %v", j, i, got, err)
						return false
					}
					return true
				}
				// One message at a time shows a lost wake-up. All at once follow.
				for j := range pings {
					fmt.Fprintf(conn, "%d:%d\n", i, j)
					if !hear(j) {
						return
					}
				}
				for j := range burst {
					fmt.Fprintf(conn, "%d:%d\n", i, j)
				}
				for j := range burst {
					if !hear(j) {
						return
					}
				}
				conn.Close()
			})
		}
		wg.Wait()
		for range clients {
			require.NoError(t, receive(t, done))
		}
		require.Zero(t, server.ConnectionCount())
	})
}

func TestExecutorRunsAllHandlersOfSocket(t *testing.T) {
	forEachExecutor(t, func(t *testing.T, g *guard) {
		w := newRecorder(t)
		want := randomLetters(8 << 20)
		w.readClosed = func(socket *tcpserver.TcpSocket) {
			if err := socket.Send([]byte(want)); err != nil {
				t.Error(err)
			}
		}
		server := g.startServer(func(socket *tcpserver.TcpSocket) { socket.SetHandlers(g.wrap(w.handlers())) })
		conn := dial(t, server)
		writeString(t, conn, "hello")
		w.awaitBytes("hello")
		require.NoError(t, conn.CloseWrite())
		w.await(func() bool { return slices.Contains(w.calls, "ReadClosed") })
		require.True(t, want == mustReadAll(t, conn))
		require.NoError(t, w.awaitEnd())
		names := slices.DeleteFunc(w.names(), func(name string) bool { return name == "BytesWritten" })
		require.Equal(t, []string{"ReadyRead", "ReadClosed", "Disconnected"}, names)

		w = newRecorder(t)
		conn = dial(t, server)
		writeString(t, conn, "hello")
		w.awaitBytes("hello")
		reset(t, conn)
		require.ErrorIs(t, w.awaitEnd(), tcpserver.ErrReset)
		require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
	})
}

func TestNoNewConnectionHandlerAfterServerCloseOnExecutor(t *testing.T) {
	forEachExecutor(t, func(t *testing.T, g *guard) {
		const clients = 10
		calls := make(chan int, clients)
		server := &tcpserver.TcpServer{Executor: g.execute}
		server.NewConnectionHandler = func(server *tcpserver.TcpServer) {
			defer g.enter()()
			pending := server.PendingConnections()
			server.Close()
			calls <- pending
		}
		server.PauseAccepting()
		listen(t, server)
		var conns []*net.TCPConn
		for range clients {
			conns = append(conns, dial(t, server))
		}
		server.ResumeAccepting()
		require.Positive(t, receive(t, calls))
		for _, conn := range conns { // each gets an end of stream, or a reset from the system
			conn.SetReadDeadline(time.Now().Add(patience))
			_, err := conn.Read(make([]byte, 1))
			require.Error(t, err)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		}
		time.Sleep(quiet)
		require.Empty(t, calls)
		require.Zero(t, server.ConnectionCount())
	})
}

func TestOnlyDisconnectedAfterSocketCloseOnExecutor(t *testing.T) {
	forEachExecutor(t, func(t *testing.T, g *guard) {
		// Each handler also closes the other socket, whose ReadyRead is due at that time.
		var sockets [2]*tcpserver.TcpSocket
		watches := [2]*recorder{newRecorder(t), newRecorder(t)}
		done := make(chan struct{}, 2)
		n := 0
		ready := make(chan struct{})
		server := g.startServer(func(socket *tcpserver.TcpSocket) {
			socket.PauseReading()
			sockets[n] = socket
			w := watches[n]
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				socket.ReadLine()
				sockets[0].Close()
				sockets[1].Close()
			}
			w.disconnected = func(*tcpserver.TcpSocket, error) { done <- struct{}{} }
			socket.SetHandlers(g.wrap(w.handlers()))
			if n++; n == 2 {
				close(ready)
			}
		})
		for range 2 {
			conn := dial(t, server)
			writeString(t, conn, "1\n2\n")
			require.NoError(t, conn.CloseWrite())
		}
		receive(t, ready)
		sockets[0].ResumeReading()
		sockets[1].ResumeReading()
		receive(t, done)
		receive(t, done)
		time.Sleep(quiet)
		require.Equal(t, 1, watches[0].count()+watches[1].count())
		require.NotContains(t, append(watches[0].names(), watches[1].names()...), "ReadClosed")
	})
}

func TestPanicUnderExecutorReachesApplication(t *testing.T) {
	forEachExecutor(t, func(t *testing.T, g *guard) {
		done := make(chan error, 10)
		connections := 0
		server := g.startServer(func(socket *tcpserver.TcpSocket) {
			if connections++; connections == 1 {
				socket.Close()
				panic("boom")
			}
			socket.SetHandlers(g.wrap(&tcpserver.SocketHandlers{
				ReadyRead: func(socket *tcpserver.TcpSocket) {
					p := socket.ReadAll()
					if string(p) == "panic" {
						panic("boom")
					}
					socket.Send(p)
				},
				Disconnected: func(_ *tcpserver.TcpSocket, err error) { done <- err },
			}))
		})
		require.Empty(t, mustReadAll(t, dial(t, server)))
		other := dial(t, server)
		for i := range 3 {
			conn := dial(t, server)
			writeString(t, conn, "hello")
			mustRead(t, conn, "hello")
			writeString(t, conn, "panic")
			writeString(t, other, "still here")
			mustRead(t, other, "still here")
			require.Eventually(t, func() bool { return int(g.panics.Load()) == i+2 }, patience, time.Millisecond)
			// It is not specified how the socket ends, but it must not leak.
			conn.Close()
			receive(t, done)
		}
		other.Close()
		require.NoError(t, receive(t, done))
	})
}

// The cases are an application that has quit, and one whose thread is stuck.
func TestStoppedExecutorDoesNotBlockSockets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"never runs", "blocks forever"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			calls := make(chan struct{}, 10)
			server := listen(t, &tcpserver.TcpServer{
				Executor: func(f func()) {
					calls <- struct{}{}
					if name == "blocks forever" {
						<-release
					}
				},
				NewConnectionHandler: func(*tcpserver.TcpServer) { t.Error("the handler was called") },
			})
			server.Unref() // its last handlers are never called
			t.Cleanup(func() { close(release) })
			h := &tcpserver.SocketHandlers{
				ReadyRead:    func(*tcpserver.TcpSocket) { t.Error("the handler was called") },
				Disconnected: func(*tcpserver.TcpSocket, error) { t.Error("the handler was called") },
			}
			var sockets []*tcpserver.TcpSocket
			var conns []*net.TCPConn
			for range 5 {
				socket, conn := connect(t, server)
				writeString(t, conn, "hello")
				require.NoError(t, socket.WaitForReadyRead(within(t)))
				socket.SetHandlers(h)
				socket.PauseReading()
				socket.ResumeReading()
				require.NoError(t, socket.Send([]byte("answer")))
				// Received bytes can be read without handlers.
				require.Equal(t, "hello", string(socket.ReadAll()))
				require.NoError(t, conn.CloseWrite())
				_, err := socket.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
				sockets, conns = append(sockets, socket), append(conns, conn)
			}
			pending := dial(t, server)
			require.NoError(t, server.WaitForNewConnection(within(t)))
			require.NoError(t, server.Close())
			require.Empty(t, mustReadAll(t, pending))
			for i, socket := range sockets {
				require.NoError(t, socket.Close())
				require.Equal(t, "answer", mustReadAll(t, conns[i]))
				require.NoError(t, socket.WaitForDisconnected(within(t)))
				raw, err := socket.SyscallConn()
				require.ErrorIs(t, err, tcpserver.ErrSocketClosed, "%v", raw)
			}
			require.Zero(t, server.ConnectionCount())
			receive(t, calls)
			require.Empty(t, calls, "the executor must have at most one outstanding call")
			require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
		})
	}
}

func TestRunPendingReturnsSoonUnderLoad(t *testing.T) {
	t.Parallel()
	const clients = 8
	var queue tcpserver.Queue
	g := &guard{t: t, exec: queue.Post}
	done := make(chan struct{}, clients)
	var taken atomic.Int64
	var sockets []*tcpserver.TcpSocket
	server := g.startServer(func(socket *tcpserver.TcpSocket) {
		sockets = append(sockets, socket)
		socket.SetHandlers(g.wrap(&tcpserver.SocketHandlers{
			ReadyRead: func(socket *tcpserver.TcpSocket) {
				taken.Add(int64(socket.Discard(1 << 10)))
			},
			Disconnected: func(*tcpserver.TcpSocket, error) { done <- struct{}{} },
		}))
	})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range clients {
		conn := dial(t, server)
		wg.Go(func() {
			defer conn.Close()
			flood(conn, make([]byte, 64<<10), stop)
		})
	}
	// This is the application's loop. Each frame posts a function of its own, which must run in the same frame.
	var drains []time.Duration
	for before := int64(0); len(drains) < 50; before = taken.Load() {
		ran := false
		queue.Post(func() { ran = true })
		begin := time.Now()
		queue.RunPending()
		if took := time.Since(begin); taken.Load() > before {
			drains = append(drains, took)
		} else {
			time.Sleep(time.Millisecond) // the next frame
		}
		require.True(t, ran)
	}
	close(stop)
	wg.Wait()
	require.Len(t, sockets, clients)
	for _, socket := range sockets {
		socket.Abort()
	}
	for len(done) < clients {
		queue.RunPending()
		time.Sleep(time.Millisecond)
	}
	slices.Sort(drains)
	t.Log(drains)
	require.Less(t, drains[len(drains)/2], 100*time.Millisecond)
}

func TestListenReplacesStoppedExecutor(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	calls := make(chan struct{}, 10)
	server := listen(t, &tcpserver.TcpServer{
		Executor:             func(func()) { asked <- struct{}{} },
		NewConnectionHandler: func(*tcpserver.TcpServer) { calls <- struct{}{} },
	})
	dial(t, server)
	receive(t, asked)
	require.NoError(t, server.Close())
	server.Executor = func(f func()) { f() }
	listen(t, server)
	dial(t, server)
	receive(t, calls)
}

func TestListenWithoutExecutorReplacesStoppedExecutor(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	calls, closed := make(chan struct{}, 10), make(chan struct{}, 10)
	server := listen(t, &tcpserver.TcpServer{
		Executor:             func(func()) { asked <- struct{}{} },
		NewConnectionHandler: func(*tcpserver.TcpServer) { calls <- struct{}{} },
		ClosedHandler:        func(*tcpserver.TcpServer, error) { closed <- struct{}{} },
	})
	dial(t, server)
	receive(t, asked)
	require.NoError(t, server.Close())
	server.Executor = nil
	listen(t, server)
	receive(t, closed)
	dial(t, server)
	receive(t, calls)
}

// The race detector sees whether Listen takes the server off a dead Executor under the lock of those that wait for it.
func TestListenWithoutExecutorWhileSocketsWaitForTheStoppedOne(t *testing.T) {
	t.Parallel()
	server := &tcpserver.TcpServer{Executor: func(func()) {}, NewConnectionHandler: func(*tcpserver.TcpServer) {}}
	for range 10 {
		server.Executor = func(func()) {}
		listen(t, server)
		var stop atomic.Bool
		var clients sync.WaitGroup
		for range 4 {
			socket, conn := connect(t, server)
			socket.SetHandlers(&tcpserver.SocketHandlers{})
			clients.Go(func() {
				for !stop.Load() {
					socket.SetHandlers(&tcpserver.SocketHandlers{})
					conn.Write([]byte("x"))
				}
				socket.Abort()
			})
		}
		require.NoError(t, server.Close())
		server.Executor = nil
		listen(t, server)
		stop.Store(true)
		clients.Wait()
		require.NoError(t, server.Close())
	}
}

// The server may get another executor, or none, while one of its handlers runs. What counts is the thread that the
// handler runs on: a panic on a goroutine of the library is logged, one on the application's thread is passed on.
func TestPanicIsHandledByThreadThatCalledHandler(t *testing.T) {
	t.Parallel()
	for name, executed := range map[string]bool{"loop": false, "executor": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines, panics := make(logLines, 10), make(chan any, 10)
			ctx, cancel := context.WithCancel(context.Background())
			var application sync.WaitGroup
			t.Cleanup(func() { cancel(); application.Wait() })
			var queue tcpserver.Queue
			application.Go(func() {
				for ctx.Err() == nil {
					func() {
						defer func() { panics <- recover() }()
						queue.Run(ctx)
					}()
				}
			})
			running, resume, next := make(chan bool), make(chan bool), make(chan bool, 10)
			server := &tcpserver.TcpServer{
				Logger: slog.New(slog.NewTextHandler(lines, nil)),
				NewConnectionHandler: func(*tcpserver.TcpServer) {
					close(running)
					<-resume
					panic("on purpose")
				},
			}
			executors := map[bool]tcpserver.Executor{true: queue.Post}
			server.Executor = executors[executed]
			listen(t, server)
			dial(t, server)
			receive(t, running)
			require.NoError(t, server.Close())
			server.Executor = executors[!executed]
			server.NewConnectionHandler = func(*tcpserver.TcpServer) { next <- inQueueRun() }
			listen(t, server)
			dial(t, server)
			close(resume)
			require.Contains(t, receive(t, lines), "handler failed")
			if executed {
				require.Equal(t, "on purpose", receive(t, panics))
			}
			require.Equal(t, !executed, receive(t, next), "the handler was called by the executor")
			require.Empty(t, panics)
		})
	}
}

// inQueueRun reports whether it is called, directly or not, by Queue.Run.
func inQueueRun() bool { return strings.Contains(string(debug.Stack()), "tcpserver.(*Queue).Run(") }

// A user interface must stay responsive even if handlers are slow: one call of the executor lasts at most 4 ms, and
// until the handler that is running then returns.
func TestExecutorCallTakesFewMilliseconds(t *testing.T) {
	t.Parallel()
	const clients = 20
	var handlers, most atomic.Int32
	slow := func() {
		handlers.Add(1)
		time.Sleep(3 * time.Millisecond)
	}
	var queue tcpserver.Queue
	server := &tcpserver.TcpServer{
		Executor: func(f func()) {
			queue.Post(func() {
				handlers.Store(0)
				f()
				most.Store(max(most.Load(), handlers.Load()))
			})
		},
		NewConnectionHandler: func(*tcpserver.TcpServer) { slow() },
	}
	listen(t, server)
	socket, conn := connect(t, server)
	var reads, written atomic.Int32
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			slow()
			socket.Discard(1)
			reads.Add(1)
		},
		BytesWritten: func(*tcpserver.TcpSocket, int) { slow(); written.Add(1) },
	})
	fillSendQueue(t, socket, conn)
	sendFromPeer(t, socket, conn, randomLetters(clients))
	for range clients {
		dial(t, server)
	}
	require.Eventually(t, func() bool { return server.PendingConnections() == clients }, patience, time.Millisecond)
	go io.Copy(io.Discard, conn)
	run(t, &queue)
	done := func() bool { return reads.Load() == clients && written.Load() > 0 }
	require.Eventually(t, done, patience, time.Millisecond)
	require.Positive(t, most.Load())
	require.LessOrEqual(t, most.Load(), int32(2))
	// Shut down while the queue is still run; otherwise Wait, in other tests, would wait for these handlers.
	server.CloseConnections()
	require.NoError(t, server.Shutdown(within(t)))
}

// A program may end its toolkit in the callback, and ending it takes longer than a call of the Executor should.
func TestExecutorIsNotCalledAfterSlowCallbackOfCloseAsync(t *testing.T) {
	woken := make(chan struct{}, 100)
	queue := tcpserver.Queue{Wake: func() { woken <- struct{}{} }}
	server := listen(t, &tcpserver.TcpServer{Executor: queue.Post})
	ended := false
	server.CloseAsync(func(*tcpserver.TcpServer, error) {
		for begin := time.Now(); time.Since(begin) < 10*time.Millisecond; {
			runtime.Gosched()
		}
		ended = true
	})
	for !ended {
		servertest.Receive(t, woken)
		queue.RunPending()
	}
	servertest.ReceiveNothing(t, woken)
}

// The previous Executor still runs a handler when the server listens again without one.
func TestHandlersRunOneAtATimeAlthoughTheExecutorIsRemoved(t *testing.T) {
	server := &tcpserver.TcpServer{Executor: func(f func()) { go f() }}
	begun, release := make(chan struct{}), make(chan struct{})
	server.NewConnectionHandler = func(*tcpserver.TcpServer) {
		begun <- struct{}{}
		<-release
	}
	dial(t, listen(t, server))
	receive(t, begun)
	require.NoError(t, server.Close())
	server.Executor = nil
	dial(t, listen(t, server))
	servertest.ReceiveNothing(t, begun)
	release <- struct{}{}
	receive(t, begun)
	release <- struct{}{}
}
