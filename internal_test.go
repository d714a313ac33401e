package tcpserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// An idle connection costs a TcpSocket and a slot; the allocator has a size class of 160 bytes.
func TestIdleSocketStaysSmall(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64-bit platforms")
	}
	assert.LessOrEqual(t, unsafe.Sizeof(TcpSocket{}), uintptr(160))
	assert.LessOrEqual(t, unsafe.Sizeof(slot{}), uintptr(24))
}

// If ListenBound failed without closing the listener, clients would connect to one that no loop serves.
func TestFailedListenBoundReleasesAddress(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	other, server := &TcpServer{Poller: poller}, &TcpServer{Poller: poller}
	require.NoError(t, other.Listen("tcp", "127.0.0.1:0"))
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"))
	addr := server.Addr().String()
	// This is the state of a loop whose poller is being closed.
	l := poller.loops[0]
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	require.ErrorIs(t, server.ListenBound(), net.ErrClosed)
	assert.False(t, server.IsBound())
	_, err = net.Dial("tcp", addr)
	require.Error(t, err)
	require.NoError(t, other.Close())
}

// Nothing listens yet, so the address stays reserved.
func TestListenBoundKeepsAddressIfPollerIsClosed(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	server := &TcpServer{Poller: poller}
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"))
	require.NoError(t, poller.Close())
	require.ErrorIs(t, server.ListenBound(), net.ErrClosed)
	require.True(t, server.IsBound())
	require.NoError(t, server.Close())
}

// If Listen failed without closing the descriptor, the address would stay in use.
func TestFailedListenReleasesAddress(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	other := &TcpServer{Poller: poller}
	require.NoError(t, other.Listen("tcp", "127.0.0.1:0"))
	defer other.Close()
	l := poller.loops[0]
	l.mu.Lock()
	l.closed = true // as while its poller is being closed
	l.mu.Unlock()
	server := &TcpServer{Poller: poller}
	if sys.HasFileModes { // Windows may have no unix sockets
		path := filepath.Join(t.TempDir(), "s")
		require.ErrorIs(t, server.Listen("unix", path), net.ErrClosed)
		assert.NoFileExists(t, path)
	}
	free := new(TcpServer)
	require.NoError(t, free.Bind("tcp", "127.0.0.1:0"))
	tcp := free.Addr().String()
	require.NoError(t, free.Close())
	require.ErrorIs(t, server.Listen("tcp", tcp), net.ErrClosed)
	require.NoError(t, free.Listen("tcp", tcp))
	require.NoError(t, free.Close())
}

// acceptFrom has the server listen, and returns both ends of a connection. All are closed when the test ends.
func acceptFrom(t *testing.T, server *TcpServer) (*TcpSocket, net.Conn) {
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { server.Close() })
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	socket, err := server.AcceptSocket(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { socket.Abort() })
	return socket, conn
}

// A timer that stayed would keep the ended socket in memory until it fires.
func TestEndedSocketHasNoTimers(t *testing.T) {
	socket, _ := acceptFrom(t, new(TcpServer))
	require.NoError(t, socket.SetDeadline(time.Now().Add(time.Hour)))
	require.NoError(t, socket.Close())
	require.Equal(t, StateUnconnected, socket.State())
	x := socket.cold()
	assert.False(t, x.readBy.timer.Stop())
	assert.False(t, x.writeBy.timer.Stop())
}

// The loop of a socket with handlers reads. WaitForDisconnected may only save what came before a reset.
func TestWaitForDisconnectedDoesNotReceiveForHandlers(t *testing.T) {
	var queue Queue                          // which nobody runs before the end
	t.Cleanup(func() { queue.RunPending() }) // Wait, in other tests, waits for handlers
	socket, conn := acceptFrom(t, &TcpServer{Executor: queue.Post})
	socket.SetHandlers(&SocketHandlers{ReadyRead: func(*TcpSocket) {}})
	_, err := conn.Write([]byte("hello"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return socket.ready.has(readable) && sys.Unread(socket.fd) == 5 },
		10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, socket.WaitForDisconnected(ctx), context.DeadlineExceeded)
	require.Equal(t, 5, sys.Unread(socket.fd))
}

// While a handler runs, the loop may see no event of what arrives meanwhile.
func TestBytesAvailableInHandlerCountsWhatArrivesMeanwhile(t *testing.T) {
	const much = 16 << 20 // more than the system takes at once
	socket, conn := acceptFrom(t, &TcpServer{WriteBufferSize: much})
	available := make(chan int, 1)
	socket.SetHandlers(&SocketHandlers{BytesWritten: func(socket *TcpSocket, _ int) {
		conn.Write([]byte("hello"))
		for end := time.Now().Add(10 * time.Second); sys.Unread(socket.fd) < 5 && time.Now().Before(end); {
		}
		select {
		case available <- socket.BytesAvailable():
		default:
		}
	}})
	require.NoError(t, socket.Send(make([]byte, much)))
	go io.Copy(io.Discard, conn)
	require.Equal(t, 5, <-available)
}

// If a loop cannot start, those that have started wake and end before the watchdog starts.
func TestLoopMayWakeBeforeWatchdogStarts(t *testing.T) {
	require.NotPanics(t, new(watchdog).arm)
}

// While goroutines are late the watchdog checks ten times as often, so it must not count one that is not late.
func TestTurnThatEndedInTimeIsNotLate(t *testing.T) {
	var w watchdog
	l := &loop{watchdog: &w}
	mark := l.turn.begin()
	require.True(t, l.endTurn(mark))
	l.takeOver(mark)
	assert.Zero(t, w.late.Load())
	assert.Equal(t, watchPeriod, w.period())
}

// AcceptErrorHandler is called some time after the accept that failed. The server may have closed and listened again by
// then.
func TestAcceptErrorOfEarlierPeriodIsNotReported(t *testing.T) {
	reported := make(chan error, 2)
	server := &TcpServer{AcceptErrorHandler: func(_ *TcpServer, err error) { reported <- err }}
	for _, shortage := range []bool{true, false} {
		require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
		ended := server.period()
		require.NoError(t, server.Close())
		require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
		ended.acceptFailed(new(scratch), errors.New("of the first period"), shortage)
		assert.NoError(t, server.Err())
		assert.True(t, server.IsAccepting())
		called := make(chan bool)
		server.ConnectionCountAsync(func(*TcpServer, int, error) { close(called) })
		<-called
		assert.Empty(t, reported)
		require.NoError(t, server.Close())
	}
}

// drainQueue runs queue until the server has no more handlers and callbacks to call.
func drainQueue(t *testing.T, server *TcpServer, queue *Queue) {
	t.Helper()
	idle := func() bool {
		queue.RunPending()
		server.mu.Lock()
		defer server.mu.Unlock()
		return !server.strand.running
	}
	require.Eventually(t, idle, time.Minute, time.Millisecond)
}

// AcceptErrorHandler may rely on IsListening returning false after an error that has stopped the server, so it must not
// be called for that error after the next Listen.
func TestAcceptErrorHandlerIsNotCalledAfterNextListen(t *testing.T) {
	var queue Queue
	var reported []error
	cause := errors.New("of the first period")
	server := &TcpServer{
		Executor:           queue.Post,
		AcceptErrorHandler: func(_ *TcpServer, err error) { reported = append(reported, err) },
		ClosedHandler:      func(_ *TcpServer, err error) { assert.ErrorIs(t, err, cause) },
	}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	server.period().acceptFailed(new(scratch), cause, false)
	require.False(t, server.IsListening())
	server.ClosedHandler = nil
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	drainQueue(t, server, &queue)
	assert.Empty(t, reported)
	require.NoError(t, server.Close())
	drainQueue(t, server, &queue)
}

// blockClose makes Close block before it closes server, which must be bound or listening: Close waits for another
// goroutine that pretends to remove the file of a unix socket. closing waits until a Close has begun; resume lets it
// continue, and may be called repeatedly.
func blockClose(t *testing.T, server *TcpServer) (closing, resume func()) {
	server.mu.Lock()
	defer server.mu.Unlock()
	ln := server.address()
	ln.file, ln.unlink = &socketFile{path: filepath.Join(t.TempDir(), "s")}, true
	removing, done := make(chan bool), make(chan bool)
	go ln.file.removed.Do(func() { close(removing); <-done })
	<-removing
	life, end := context.WithCancel(context.Background()) // ended when Close begins
	server.life, server.endLife = life, end
	return func() { <-life.Done() }, sync.OnceFunc(func() { close(done) })
}

// Close may take a while to remove the file of a unix socket. If it is called on the executor's thread,
// AcceptErrorHandler must not be called after it.
func TestAcceptErrorDuringCloseIsNotReported(t *testing.T) {
	for name, shortage := range map[string]bool{"shortage": true, "end": false} {
		t.Run(name, func(t *testing.T) {
			var queue Queue
			var calls []string
			server := &TcpServer{
				Executor:           queue.Post,
				AcceptErrorHandler: func(*TcpServer, error) { calls = append(calls, "AcceptError") },
				ClosedHandler:      func(*TcpServer, error) { calls = append(calls, "Closed") },
			}
			require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
			ln := server.period()
			server.mu.Lock()
			server.keepFailure(ln, errors.New("before"))
			server.mu.Unlock()
			closing, resume := blockClose(t, server)
			var both sync.WaitGroup
			both.Go(func() { server.Close() })
			closing()
			if fail := func() { ln.acceptFailed(new(scratch), errors.New("meanwhile"), shortage) }; shortage {
				fail()
			} else {
				both.Go(fail) // waits until the file is removed
			}
			resume()
			both.Wait()
			drainQueue(t, server, &queue)
			require.Equal(t, []string{"Closed"}, calls)
		})
	}
}

// Before Shutdown begins to wait, something else may have ended the period that it closes, and another goroutine may
// have called Listen.
func TestShutdownWaitsOnlyForPeriodsItCloses(t *testing.T) {
	for name, inHandler := range map[string]bool{"outside handlers": false, "in a handler": true} {
		t.Run(name, func(t *testing.T) {
			server := new(TcpServer)
			require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
			closing, resume := blockClose(t, server)
			defer resume()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			done := make(chan error, 1)
			if inHandler {
				server.ConnectionCountAsync(func(*TcpServer, int, error) { done <- server.Shutdown(ctx) })
			} else {
				go func() { done <- server.Shutdown(ctx) }()
			}
			closing()
			server.SetUnlinkOnClose(false)
			server.period().onPollerClose()
			require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
			conn, err := net.Dial("tcp", server.Addr().String())
			require.NoError(t, err)
			require.NoError(t, server.WaitForNewConnection(ctx))
			resume()
			require.NoError(t, <-done)
			require.True(t, server.IsListening())
			require.NoError(t, server.Close())
			require.NoError(t, conn.Close())
		})
	}
}

// Between the two steps of CloseAsync, ListenBound may begin a period, which CloseAsync then ends and waits for.
func TestCloseAsyncWaitsForPeriodItCloses(t *testing.T) {
	for name, listens := range map[string]bool{"bound": false, "listening": true} {
		t.Run(name, func(t *testing.T) {
			server := new(TcpServer)
			require.NoError(t, server.Bind("tcp", "127.0.0.1:0"))
			closing, resume := blockClose(t, server)
			defer resume()
			called := make(chan error, 1)
			go server.CloseAsync(func(_ *TcpServer, err error) { called <- err })
			closing()
			if listens {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				require.NoError(t, server.ListenBound())
				conn, err := net.Dial("tcp", server.Addr().String())
				require.NoError(t, err)
				socket, err := server.AcceptSocket(ctx)
				require.NoError(t, err)
				resume()
				require.NoError(t, conn.Close())
				select {
				case <-called:
					require.Fail(t, "the callback was called before the connection had ended")
				case <-time.After(50 * time.Millisecond):
				}
				require.NoError(t, socket.Close())
			}
			resume()
			require.NoError(t, <-called)
			require.False(t, server.IsBound())
		})
	}
}

// A handler may end its goroutine, which then cannot do what was to follow the handler.
func TestPeriodEndsWhenAcceptErrorHandlerCallsGoexit(t *testing.T) {
	server := &TcpServer{
		AcceptErrorHandler: func(*TcpServer, error) { runtime.Goexit() },
		Logger:             slog.New(slog.DiscardHandler),
	}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	done := make(chan bool)
	go func() {
		defer close(done)
		server.period().acceptFailed(new(scratch), errors.New("permanent"), false)
	}()
	<-done
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, server.Shutdown(ctx))
}

// Listening may end while a connection is being admitted, here while Filter blocks. The loops, one of which the
// connection is about to be added to, must not end before the connection is closed.
func TestLoopsStayWhileFilterDecides(t *testing.T) {
	for _, allow := range []bool{true, false} {
		poller, err := NewPoller(2)
		require.NoError(t, err)
		entered, release := make(chan struct{}), make(chan struct{})
		server := &TcpServer{Poller: poller, Filter: func(netip.AddrPort) bool {
			close(entered)
			<-release
			return allow
		}}
		require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
		conn, err := net.Dial("tcp", server.Addr().String())
		require.NoError(t, err)
		<-entered
		require.NoError(t, server.Close())
		loops := func() int {
			poller.mu.Lock()
			defer poller.mu.Unlock()
			return len(poller.loops)
		}
		assert.Equal(t, 2, loops())
		close(release)
		_, err = conn.Read(make([]byte, 1))
		assert.Error(t, err)
		require.NoError(t, conn.Close())
		require.Eventually(t, func() bool { return loops() == 0 }, time.Minute, time.Millisecond)
	}
}

func TestBufferSizesAreClamped(t *testing.T) {
	ln := (&TcpServer{ReadBufferSize: math.MaxInt, WriteBufferSize: math.MaxInt}).newListener("tcp")
	require.Equal(t, math.MaxInt32, ln.readLimit)
	require.Equal(t, math.MaxInt32, ln.writeLimit)
}

// The timer of the previous deadline may be about to take the lock. What it reads before that is checked by the race
// detector.
func TestDeadlineCanBeMovedWhileTimerFires(t *testing.T) {
	server := new(TcpServer)
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	require.NoError(t, server.SetDeadline(time.Now().Add(time.Hour)))
	d := &server.period().acceptBy
	fired := make(chan bool)
	go func() {
		d.fire()
		close(fired)
	}()
	require.NoError(t, server.SetDeadline(time.Now().Add(time.Hour)))
	<-fired
	require.NoError(t, server.Close())
}

func TestCloseRemovesTheDeadline(t *testing.T) {
	server := new(TcpServer)
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	require.NoError(t, server.SetDeadline(time.Now().Add(time.Hour)))
	d := &server.period().acceptBy
	require.NoError(t, server.Close())
	server.mu.Lock()
	defer server.mu.Unlock()
	require.Zero(t, d.at)
	require.False(t, d.timer.Stop(), "the timer was running")
}

// A deadline that was computed from the wall clock alone must not move when that clock is set.
func TestDeadlineUsesMonotonicClock(t *testing.T) {
	var mu sched.Mutex
	d := deadline{cond: sched.NewCond(&mu)}
	mu.Lock()
	defer mu.Unlock()
	d.set(time.Now().Add(time.Hour).Round(0))
	defer d.timer.Stop()
	require.Contains(t, d.at.String(), " m=")
}

// The buffer that a loop reads into takes as much memory as many hundred idle sockets.
func TestIdleLoopHoldsNoBuffer(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	received := make(chan bool, 1)
	handlers := &SocketHandlers{ReadyRead: func(socket *TcpSocket) {
		if len(socket.ReadAll()) > 0 {
			received <- true
		}
	}}
	server := &TcpServer{Poller: poller, NewConnectionHandler: func(server *TcpServer) {
		server.NextPendingConnection().SetHandlers(handlers)
	}}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err)
	<-received
	l := poller.loops[0]
	require.Eventually(t, func() bool {
		l.turn.now() // makes what the loop's goroutine wrote before its last turn visible here
		return l.scratch.chunk.Load() == nil
	}, time.Minute, time.Millisecond)
	require.NoError(t, conn.Close())
	require.NoError(t, server.Close())
}

func TestLoopsGetEquallyManyConnections(t *testing.T) {
	poller, err := NewPoller(2)
	require.NoError(t, err)
	server := &TcpServer{Poller: poller}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	const connections = 20
	for range connections {
		conn, err := net.Dial("tcp", server.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = server.AcceptSocket(t.Context())
		require.NoError(t, err)
	}
	a, b := poller.loops[0].load.Load(), poller.loops[1].load.Load()
	require.EqualValues(t, connections+1, a+b, "the listener is one, too")
	require.InDelta(t, a, b, 2)
	server.CloseConnections()
	require.NoError(t, server.Close())
}

// A program may keep a closed server, to listen again, or an ended socket. Neither keeps the table of the connections
// that there have been.
func TestEndedLoopHoldsNoSlots(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	server := &TcpServer{Poller: poller}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	l := poller.loops[0]
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, server.WaitForNewConnection(t.Context()))
	require.NoError(t, server.Close())
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.ended
	}, time.Minute, time.Millisecond)
	require.Empty(t, l.slots.pages)
}

// Two goroutines may call ListenBound. The one that is late has looked at the same listener. A ListenAsync may be late,
// too: then Close has ended its context.
func TestLateListenBoundDoesNotMoveTheListener(t *testing.T) {
	poller, err := NewPoller(2)
	require.NoError(t, err)
	server := &TcpServer{Poller: poller}
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"))
	ln := server.bound
	require.NoError(t, server.ListenBound())
	loop := ln.loop
	ended, end := context.WithCancel(t.Context())
	end()
	open := func() error { assert.Fail(t, "the address is opened"); return nil }
	require.ErrorIs(t, server.begin(ended, ln, open), ErrServerClosed)
	late := server.begin(t.Context(), ln, func() error { return ErrAlreadyListening })
	require.ErrorIs(t, late, ErrAlreadyListening)
	require.Same(t, loop, ln.loop)
	require.NoError(t, poller.Close())
	require.ErrorIs(t, server.begin(t.Context(), ln, func() error { return nil }), net.ErrClosed)
	require.Same(t, loop, ln.loop)
	require.NoError(t, server.Close())
}

// The watchdog calls onLate while the handler's goroutine releases its scratch. The race detector sees both.
func TestScratchOfALateHandlerIsGivenUpOnce(t *testing.T) {
	for i := range 20_000 {
		s, sc := new(TcpSocket), new(scratch)
		sc.buffer()
		var begun atomic.Bool
		done := make(chan bool)
		go func() {
			begun.Store(true)
			s.onLate(sc)
			close(done)
		}()
		for !begun.Load() {
			runtime.Gosched()
		}
		for range i % 50 { // so that either may be first
			runtime.KeepAlive(i)
		}
		sc.release()
		<-done
		require.Nil(t, sc.chunk.Load())
	}
}

func TestScratchOfALateListenerIsGivenUp(t *testing.T) {
	sc := new(scratch)
	sc.buffer()
	new(listener).onLate(sc)
	require.Nil(t, sc.chunk.Load())
}

// A timer that stayed would keep the ended loop in memory until it fires.
func TestEndedLoopHasNoTimer(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	server := &TcpServer{Poller: poller, IdleTimeout: time.Hour}
	socket, _ := acceptFrom(t, server)
	l := socket.loop
	scheduled := func() bool {
		l.wheel.mu.Lock()
		defer l.wheel.mu.Unlock()
		return l.wheel.timer != nil && l.wheel.entries > 0
	}
	require.Eventually(t, scheduled, time.Minute, time.Millisecond) // the socket may be taken before its entry is added
	require.NoError(t, socket.Close())
	require.NoError(t, server.Close())
	require.NoError(t, poller.Close())
	ended := func() bool {
		l.wheel.mu.Lock()
		defer l.wheel.mu.Unlock()
		return l.wheel.entries == 0
	}
	require.Eventually(t, ended, 10*time.Second, time.Millisecond) // before the wheel has turned once, in 25 s
	require.False(t, l.wheel.timer.Stop())
	require.Zero(t, l.wheel.buckets) // ended sockets still refer to the loop
}

// Another goroutine may meet the end of the stream between the handlers' look at the input and ReadClosed.
func TestReadClosedIsNotCalledBeforeReadyReadForTheEnd(t *testing.T) {
	socket, _ := acceptFrom(t, new(TcpServer))
	socket.rmu.Lock()
	socket.input = inputEnded
	socket.rmu.Unlock()
	socket.handlers.Store(&SocketHandlers{ReadClosed: func(*TcpSocket) { t.Error("ReadClosed was called") }})
	socket.callReadClosed()
	require.Equal(t, inputEnded, socket.input)
}

// refuseNetwork lets no name be looked up over the network until the end of the test.
func refuseNetwork(t testing.TB) {
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no network")
	}}
}

// FuzzResolve checks that an address is accepted if package net accepts it, and then means the same.
func FuzzResolve(f *testing.F) {
	refuseNetwork(f)
	f.Add("tcp", "127.0.0.1:80")
	f.Add("tcp", "")
	f.Add("tcp", "[::]:0")
	f.Add("tcp4", "[::]:0")
	f.Add("tcp4", ":7")
	f.Add("tcp6", "[fe80::1%1]:65535")
	f.Add("tcp6", "[::ffff:127.0.0.1]:+80")
	f.Add("tcp", "0.0.0.0:http")
	f.Add("tcp", "127.0.0.1:65536")
	f.Add("tcp", "127.1:-1")
	f.Add("udp", ":0")
	f.Fuzz(func(t *testing.T, network, address string) {
		if network == "" {
			return // which net.ResolveTCPAddr, but not net.Listen, takes for "tcp"
		}
		got, err := resolve(t.Context(), network, address)
		want, wantErr := net.ResolveTCPAddr(network, address)
		require.Equal(t, wantErr == nil, err == nil, "%v, and package net: %v", err, wantErr)
		if err != nil {
			return
		}
		require.EqualValues(t, want.Port, got.addr.Port)
		is := got.addr.AddrPort().Addr().WithZone("")
		switch ip, _ := netip.AddrFromSlice(want.IP); {
		case network == "tcp" && (len(want.IP) == 0 || want.IP.IsUnspecified()):
			require.True(t, got.dualStack)
			require.Equal(t, netip.IPv6Unspecified(), is)
		case len(want.IP) == 0:
			require.True(t, is.IsUnspecified())
			require.Equal(t, network == "tcp4", is.Is4())
		default:
			require.False(t, got.dualStack)
			require.Equal(t, ip.Unmap(), is)
		}
	})
}

// FuzzResolveUnix checks that a path that is accepted fits into the system's address, which ends at a zero byte.
func FuzzResolveUnix(f *testing.F) {
	f.Add("/run/x")
	f.Add("@abstract")
	f.Add("\x00abstract")
	f.Add("/run/x\x00y")
	f.Add("@\x00")
	f.Add(strings.Repeat("x", sys.MaxUnixPath+1))
	f.Fuzz(func(t *testing.T, path string) {
		got, err := resolve(t.Context(), "unix", path)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidAddress)
			require.True(t, path == "" || len(path) > sys.MaxUnixPath || strings.Contains(path, "\x00"))
			return
		}
		require.NotEmpty(t, got.path)
		require.LessOrEqual(t, len(got.path), sys.MaxUnixPath)
		require.NotContains(t, got.path, "\x00")
		require.Equal(t, path[1:], got.path[1:])
		require.True(t, path[0] == got.path[0] || path[0] == 0 && isAbstract(got.path))
	})
}

// An event that a loop handles late would make the dispatcher call an Executor that may have ended with the program.
func TestEventAfterDisconnectedDoesNotCallTheExecutor(t *testing.T) {
	var calls atomic.Int32
	ended := make(chan struct{})
	sockets := make(chan *TcpSocket, 1)
	server := &TcpServer{
		Executor: func(f func()) { calls.Add(1); f() },
		NewConnectionHandler: func(server *TcpServer) {
			socket := server.NextPendingConnection()
			socket.SetHandlers(&SocketHandlers{})
			sockets <- socket
		},
	}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	socket := <-sockets
	server.CloseAsync(func(*TcpServer, error) { close(ended) })
	socket.Abort()
	<-ended
	q := server.strand.executed
	idle := func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return !q.out
	}
	require.Eventually(t, idle, time.Minute, time.Millisecond)
	before := calls.Load()
	socket.onReady(new(scratch), evRead|evHangup|evError)
	socket.notifyEvent(strandWritten)
	require.True(t, idle())
	require.Equal(t, before, calls.Load())
}
