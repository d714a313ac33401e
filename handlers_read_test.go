package tcpserver_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// The tests of this file prove when ReadyRead is called, how much one call may read, and how long peeked bytes stay
// valid.

// readsOutsideHandler are the methods that look at received bytes, or consume some of them, outside a handler.
var readsOutsideHandler = map[string]func(ctx context.Context, socket *tcpserver.TcpSocket){
	"Peek":        func(_ context.Context, socket *tcpserver.TcpSocket) { socket.Peek(1) },
	"CanReadLine": func(_ context.Context, socket *tcpserver.TcpSocket) { socket.CanReadLine() },
	"ReadLine":    func(_ context.Context, socket *tcpserver.TcpSocket) { socket.ReadLine() },
	"Discard":     func(_ context.Context, socket *tcpserver.TcpSocket) { socket.Discard(1) },
	"TryRead":     func(_ context.Context, socket *tcpserver.TcpSocket) { socket.TryRead(make([]byte, 1)) },
	"Read":        func(_ context.Context, socket *tcpserver.TcpSocket) { socket.Read(make([]byte, 1)) },
	"WaitForReadyRead": func(ctx context.Context, socket *tcpserver.TcpSocket) {
		socket.WaitForReadyRead(ctx)
	},
}

func TestReadyReadReportsBytesBufferedOutsideHandlers(t *testing.T) {
	t.Parallel()
	for name, read := range readsOutsideHandler {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var queue tcpserver.Queue
			posted := make(chan struct{}, 100)
			server := listen(t, &tcpserver.TcpServer{Executor: func(f func()) {
				queue.Post(f)
				posted <- struct{}{}
			}})
			socket, conn := connect(t, server)
			rest := make(chan string, 100)
			socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
				rest <- string(socket.ReadAll())
			}})
			writeString(t, conn, "one\ntwo\n")
			receive(t, posted)
			read(within(t), socket)
			run(t, &queue)
			const all = "one\ntwo\n"
			require.True(t, strings.HasSuffix(all, receive(t, rest)))
			require.Zero(t, socket.BytesAvailable())
		})
	}
}

// run runs queue on a goroutine until the test ends.
func run(t *testing.T, queue *tcpserver.Queue) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		queue.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func TestWaitForDisconnectedLeavesDataToHandlers(t *testing.T) {
	t.Parallel()
	var queue tcpserver.Queue
	socket, conn := connect(t, listen(t, &tcpserver.TcpServer{Executor: queue.Post}))
	got := make(chan string, 1)
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
		got <- string(socket.ReadAll())
	}})
	waiting := mustBlock(t, func() error { return socket.WaitForDisconnected(within(t)) })
	run(t, &queue)
	for range 10 {
		writeString(t, conn, "message")
		require.Equal(t, "message", receive(t, got))
	}
	reset(t, conn)
	require.NoError(t, receive(t, waiting))
}

// A goroutine that reads outside the handlers may receive bytes at any time; those that it leaves are reported.
func TestReadyReadIsNotLostToConcurrentReads(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	var taken atomic.Int64
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
		taken.Add(int64(len(socket.ReadAll())))
	}})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				socket.Peek(10)
				socket.CanReadLine()
				taken.Add(int64(socket.Discard(1)))
			}
		}
	}()
	const messages = 2000
	for i := range messages {
		writeString(t, conn, "0123456789")
		require.Eventually(t, func() bool { return taken.Load() == 10*int64(i+1) }, patience, 50*time.Microsecond)
	}
	close(stop)
	receive(t, done)
}

func TestPauseAndResumeInReadyReadDoNotCallItAgain(t *testing.T) {
	t.Parallel()
	for name, exec := range map[string]tcpserver.Executor{"loop": nil, "executor": func(f func()) { f() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := connect(t, listen(t, &tcpserver.TcpServer{Executor: exec}))
			w := newRecorder(t)
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				socket.PauseReading()
				defer socket.ResumeReading()
				line, _ := socket.ReadLine()
				w.keep(line)
			}
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "half a")
			w.await(func() bool { return w.reads > 0 })
			time.Sleep(quiet)
			require.Equal(t, 1, w.count())
			writeString(t, conn, " line\nand")
			w.awaitBytes("half a line\n")
			time.Sleep(quiet)
			require.LessOrEqual(t, w.count(), 3)
		})
	}
}

func TestSetHandlersInReadyReadDoesNotCallItAgain(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	h := w.handlers()
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		socket.SetHandlers(h)
		line, _ := socket.ReadLine()
		w.keep(line)
	}
	socket.SetHandlers(h)
	writeString(t, conn, "half a")
	w.await(func() bool { return w.reads > 0 })
	time.Sleep(quiet)
	require.Equal(t, 1, w.count())
	writeString(t, conn, " line\n")
	w.awaitBytes("half a line\n")
}

// Another goroutine may do both before the handler returns.
func TestConcurrentPauseAndResumeCallReadyReadAgain(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	entered, release := make(chan struct{}), make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) {
		entered <- struct{}{}
		<-release
	}})
	writeString(t, conn, "x")
	for range 10 {
		receive(t, entered)
		socket.PauseReading()
		socket.ResumeReading()
		release <- struct{}{}
	}
	receive(t, entered)
	close(release)
}

// Another goroutine may resume reading before the handler that has paused it returns: in a proxy, the writing side.
func TestConcurrentResumeCallsReadyReadAgain(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	resume, resumed := make(chan struct{}), make(chan struct{})
	go func() {
		for range resume {
			socket.ResumeReading()
			resumed <- struct{}{}
		}
	}()
	defer close(resume)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		if w.count() > 10 {
			w.keep(socket.ReadAll())
			return
		}
		socket.PauseReading()
		resume <- struct{}{}
		<-resumed
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "message")
	w.awaitBytes("message")
}

func TestResumeInBytesWrittenCallsReadyReadForUnreadBytes(t *testing.T) {
	t.Parallel()
	socket, conn := connect(t, listen(t, &tcpserver.TcpServer{WriteBufferSize: 1 << 20}))
	sent := fillSendQueue(t, socket, conn)
	paused := make(chan struct{}, 100)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		if socket.BytesToWrite() > 0 {
			socket.PauseReading()
			paused <- struct{}{}
			return
		}
		w.keep(socket.ReadAll())
	}
	w.bytesWritten = func(socket *tcpserver.TcpSocket, _ int) { socket.ResumeReading() }
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "request")
	receive(t, paused)
	_, err := io.CopyN(io.Discard, conn, int64(len(sent)))
	require.NoError(t, err)
	w.awaitBytes("request")
}

func TestReadReturnsAllBytesAvailable(t *testing.T) {
	t.Parallel()
	reads := map[string]func(*tcpserver.TcpSocket, []byte) (int, error){
		"TryRead": (*tcpserver.TcpSocket).TryRead,
		"Read":    (*tcpserver.TcpSocket).Read,
	}
	for name, read := range reads {
		for _, inHandler := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				socket, conn := pair(t)
				sendFromPeer(t, socket, conn, randomLetters(25))
				require.Len(t, socket.Peek(10), 10) // now the read buffer holds all 25 bytes
				check := make(chan struct{}, 10)
				fill := func(socket *tcpserver.TcpSocket) {
					n := socket.BytesAvailable()
					p := make([]byte, n)
					got, err := read(socket, p)
					if err != nil || got != n || n < 75 {
						t.Errorf("in a handler: %v: read %d of %d bytes, error %v", inHandler, got, n, err)
					}
					check <- struct{}{}
				}
				if !inHandler {
					sendFromPeer(t, socket, conn, randomLetters(50))
					fill(socket)
					return
				}
				socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
					writeString(t, conn, randomLetters(50))
					for end := time.Now().Add(patience); socket.BytesAvailable() < 75 && time.Now().Before(end); {
						time.Sleep(time.Millisecond)
					}
					fill(socket)
				}})
				receive(t, check)
			})
		}
	}
}

// The loops that Qt programs read with must end, and the handler return, even while a peer sends continuously.
func TestReadyReadCallReadsBoundedAmount(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	idioms := map[string]func(*tcpserver.TcpSocket) int{
		"lines": func(socket *tcpserver.TcpSocket) (n int) {
			for socket.CanReadLine() {
				line, _ := socket.ReadLine()
				n += len(line)
			}
			return n
		},
		"ReadAll": func(socket *tcpserver.TcpSocket) int { return len(socket.ReadAll()) },
		"ReadAll in a loop": func(socket *tcpserver.TcpSocket) (n int) {
			for p := socket.ReadAll(); p != nil; p = socket.ReadAll() {
				n += len(p)
			}
			return n
		},
		"TryRead": func(socket *tcpserver.TcpSocket) (n int) {
			p := make([]byte, 1<<20)
			for m, err := socket.TryRead(p); err == nil; m, err = socket.TryRead(p) {
				n += m
			}
			return n
		},
		"Discard": func(socket *tcpserver.TcpSocket) int { return socket.Discard(1 << 30) },
		"Peek and Discard": func(socket *tcpserver.TcpSocket) (n int) {
			for p := socket.Peek(1 << 20); len(p) > 0; p = socket.Peek(1 << 20) {
				n += socket.Discard(len(p))
			}
			return n
		},
	}
	for name, idiom := range idioms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			require.NoError(t, socket.SetReadBuffer(1<<20))
			line := randomLetters(99) + "\n"
			const lines = 30_000
			var total, most atomic.Int64
			all := make(chan struct{})
			written := make(chan error, 1)
			go func() {
				_, err := io.WriteString(conn, strings.Repeat(line, lines))
				written <- err
			}()
			require.NoError(t, socket.WaitForReadyRead(within(t)))
			socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
				n := int64(idiom(socket))
				most.Store(max(most.Load(), n))
				if total.Add(n) == int64(lines*len(line)) {
					close(all)
				}
			}})
			receive(t, all)
			require.NoError(t, receive(t, written))
			require.LessOrEqual(t, most.Load(), int64(2*limit))
		})
	}
}

// A goroutine may hold peeked bytes while other methods make the read buffer grow.
func TestPeekedBytesAreNotReusedByOtherSockets(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	for range 20 {
		socket, conn := connect(t, server)
		mine := randomLetters(1500)
		sendFromPeer(t, socket, conn, mine)
		view := socket.Peek(len(mine))
		require.Equal(t, mine, string(view))
		waiting := mustBlock(t, func() error { return socket.WaitForDisconnected(within(t)) })
		read := socket.BytesRead()
		writeString(t, conn, randomLetters(40_000))
		require.Eventually(t, func() bool { return socket.BytesRead() > read }, patience, time.Millisecond)
		others := make([]*tcpserver.TcpSocket, 10)
		for i := range others {
			var otherConn io.Writer
			others[i], otherConn = connect(t, server)
			_, err := otherConn.Write(bytes.Repeat([]byte("#"), 1500))
			require.NoError(t, err)
			require.NoError(t, others[i].WaitForReadyRead(within(t)))
			require.NotEmpty(t, others[i].Peek(1500))
		}
		require.Equal(t, mine, string(view))
		socket.Abort()
		require.NoError(t, receive(t, waiting))
	}
}

// ReadyRead may merely wake the goroutine that reads, which may then call Peek while the handler is still running.
func TestPeekOutsideHandlerStaysValidAfterHandlerReturns(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 10_000} {
		server := listen(t, &tcpserver.TcpServer{Poller: pollerWithLoops(t, 1)})
		socket, conn := connect(t, server)
		entered, release := make(chan struct{}, 100), make(chan struct{})
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) {
			entered <- struct{}{}
			<-release
		}})
		mine := randomLetters(size)
		writeString(t, conn, mine)
		receive(t, entered)
		view := socket.Peek(1 << 20)
		require.NotEmpty(t, view)
		close(release)
		for range 10 {
			other, otherConn := connect(t, server)
			w := newRecorder(t)
			other.SetHandlers(w.handlers())
			writeString(t, otherConn, strings.Repeat("#", size))
			w.awaitBytes(strings.Repeat("#", size))
		}
		require.True(t, strings.HasPrefix(mine, string(view)))
	}
}

// A handler may wait for more data, as Qt programs do with waitForReadyRead.
func TestReadyReadMayWaitForRestOfLine(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	lines, step := make(chan string, 1), make(chan struct{}, 1)
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
		for ctx := within(t); !socket.CanReadLine() && ctx.Err() == nil; time.Sleep(time.Millisecond) {
			select {
			case step <- struct{}{}:
			default:
			}
			socket.WaitForReadyRead(ctx)
		}
		line, _ := socket.ReadLine()
		lines <- string(line)
	}})
	writeString(t, conn, "a")
	receive(t, step)
	for _, piece := range []string{"b", "c", "d\n"} {
		before := socket.BytesRead()
		writeString(t, conn, piece)
		require.Eventually(t, func() bool { return socket.BytesRead() > before }, patience, time.Millisecond)
	}
	require.Equal(t, "abcd\n", receive(t, lines))
}

// The limit on what one call of a handler reads does not apply to other goroutines that read during the call.
func TestConcurrentTryReadSeesNewBytesDuringHandler(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) {
		entered <- struct{}{}
		<-release
	}})
	defer close(release)
	writeString(t, conn, "0")
	receive(t, entered)
	p := make([]byte, 100)
	total := 0
	for i := range 3 {
		writeString(t, conn, "x")
		require.Eventually(t, func() bool {
			n, _ := socket.TryRead(p)
			total += n
			return total == i+2
		}, patience, time.Millisecond)
	}
}

func TestTryReadInHandlerWithLargestReadBufferSize(t *testing.T) {
	t.Parallel()
	socket, conn := connect(t, listen(t, &tcpserver.TcpServer{ReadBufferSize: math.MaxInt}))
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		p := make([]byte, 3)
		n, _ := socket.TryRead(p)
		w.keep(p[:n])
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "hello")
	w.awaitBytes("hello")
}

// A peer that sends little must not cause large allocations.
func TestPeekAtPartialMessageAllocatesLittle(t *testing.T) {
	const size, first, messages = 2200, 2100, 500
	socket, conn := pair(t)
	partial, whole := make(chan struct{}, 10), make(chan struct{}, 10)
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
		if len(socket.Peek(size)) < size {
			partial <- struct{}{}
			return
		}
		socket.Discard(size)
		whole <- struct{}{}
	}})
	message := randomLetters(size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range messages {
		writeString(t, conn, message[:first])
		receive(t, partial)
		writeString(t, conn, message[first:])
		receive(t, whole)
	}
	runtime.ReadMemStats(&after)
	// The emulator of kqueue allocates, too: for each time that a loop looks again before it sleeps.
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/messages, uint64(48<<10))
}
