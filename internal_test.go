package tcpserver

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What an idle connection costs is this and a slot; the size classes of the allocator end at 160 bytes.
func TestIdleSocketStaysSmall(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the figures are those of 64-bit platforms")
	}
	assert.LessOrEqual(t, unsafe.Sizeof(TcpSocket{}), uintptr(160))
	assert.LessOrEqual(t, unsafe.Sizeof(slot{}), uintptr(24))
}

// Clients would connect to a listener that no loop serves.
func TestFailedListenBoundReleasesAddress(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	other, server := &TcpServer{Poller: poller}, &TcpServer{Poller: poller}
	require.NoError(t, other.Listen("tcp", "127.0.0.1:0"))
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"))
	addr := server.Addr().String()
	// The poller is being closed.
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

// What befalls an accept is told after a moment. The server may listen anew by then.
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

// drainQueue runs queue until the server has nothing to call any more.
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

// AcceptErrorHandler may rely on it that the server does not listen after an error that has ended the listening.
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

// blockClose has Close stand still before it closes the server, which has an address: it waits for somebody else who
// removes the file of a unix socket. closing waits for a Close to begin; resume ends the wait, and may be called again.
func blockClose(t *testing.T, server *TcpServer) (closing, resume func()) {
	server.mu.Lock()
	defer server.mu.Unlock()
	ln := server.address()
	ln.file, ln.unlink = &socketFile{path: filepath.Join(t.TempDir(), "s")}, true
	removing, done := make(chan bool), make(chan bool)
	go ln.file.removed.Do(func() { close(removing); <-done })
	<-removing
	life, end := context.WithCancel(context.Background()) // which ends when Close begins
	server.life, server.endLife = life, end
	return func() { <-life.Done() }, sync.OnceFunc(func() { close(done) })
}

// Close takes its time with the file of a unix socket. On the executor's own thread no AcceptErrorHandler follows it.
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
				both.Go(fail) // waits for the file
			}
			resume()
			both.Wait()
			drainQueue(t, server, &queue)
			require.Equal(t, []string{"Closed"}, calls)
		})
	}
}

// The period that was closed has been ended by something else, and another goroutine listens again, before Shutdown
// comes to wait.
func TestShutdownWaitsOnlyForPeriodsItCloses(t *testing.T) {
	for name, inHandler := range map[string]bool{"elsewhere": false, "in a handler": true} {
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

// Between the two steps of Close, ListenBound may begin a period, which Close then ends.
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
					require.Fail(t, "called before the connection has ended")
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

// A handler may end its goroutine, and with it what the goroutine had to do after it.
func TestPeriodEndsWhenAcceptErrorHandlerCallsGoexit(t *testing.T) {
	server := &TcpServer{
		AcceptErrorHandler: func(*TcpServer, error) { runtime.Goexit() },
		Logger:             slog.New(slog.DiscardHandler),
	}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	done := make(chan bool)
	go func() {
		defer close(done)
		server.period().acceptFailed(new(scratch), errors.New("does not pass"), false)
	}()
	<-done
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, server.Shutdown(ctx))
}

// Listening may end while a connection is being admitted, here because the filter takes its time. The loops, one of
// which it is about to be put on, stay until it has been turned away.
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

// The timer of the deadline before may be about to take the lock. The race detector sees what it looks at before that.
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

// A deadline that was computed from the wall clock alone must not depend on how that is set later.
func TestDeadlineUsesMonotonicClock(t *testing.T) {
	var mu sync.Mutex
	d := deadline{cond: sync.NewCond(&mu)}
	mu.Lock()
	defer mu.Unlock()
	d.set(time.Now().Add(time.Hour).Round(0))
	defer d.timer.Stop()
	require.Contains(t, d.at.String(), " m=")
}

// The buffer that a loop reads into is as large as many hundred idle sockets.
func TestIdleLoopHoldsNoBuffer(t *testing.T) {
	poller, err := NewPoller(1)
	require.NoError(t, err)
	came := make(chan bool, 1)
	handlers := &SocketHandlers{ReadyRead: func(socket *TcpSocket) {
		if len(socket.ReadAll()) > 0 {
			came <- true
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
	<-came
	l := poller.loops[0]
	require.Eventually(t, func() bool {
		l.turn.now() // after it, what the loop's goroutine wrote before its last turn can be read
		return l.scratch.chunk.Load() == nil
	}, time.Minute, time.Millisecond)
	require.NoError(t, conn.Close())
	require.NoError(t, server.Close())
}
