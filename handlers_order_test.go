package tcpserver_test

import (
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// The tests of this file prove in which order handlers are called, that none starves another, and that none is called
// after Disconnected.

// listenWithQueue starts a server whose handlers run only when the test calls RunPending on queue.
func listenWithQueue(t *testing.T) (server *tcpserver.TcpServer, queue *tcpserver.Queue) {
	queue = new(tcpserver.Queue)
	return listen(t, &tcpserver.TcpServer{Executor: queue.Post, Logger: slog.New(slog.DiscardHandler)}), queue
}

// runUntil runs the queue until done returns true.
func runUntil(t *testing.T, queue *tcpserver.Queue, done func() bool) {
	t.Helper()
	require.Eventually(t, func() bool { queue.RunPending(); return done() }, patience, time.Millisecond)
}

func TestReadyReadReportsUnreadBytesBeforeDisconnected(t *testing.T) {
	t.Parallel()
	server, queue := listenWithQueue(t)
	socket, conn := connect(t, server)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) { // more calls than one run of the strand makes
		p := make([]byte, 1)
		socket.TryRead(p)
		w.keep(p)
	}
	text := randomLetters(500)
	sendFromPeer(t, socket, conn, text)
	require.Len(t, socket.Peek(len(text)), len(text))
	socket.SetIdleTimeout(time.Millisecond)
	require.NoError(t, socket.WaitForDisconnected(within(t)))
	socket.SetHandlers(w.handlers())
	runUntil(t, queue, func() bool { return w.ended })
	require.Equal(t, text, string(w.got))
	require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
}

func TestNoHandlerIsCalledAfterDisconnected(t *testing.T) {
	t.Parallel()
	server, queue := listenWithQueue(t)
	socket, conn := connect(t, server)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		socket.Discard(1)
		socket.PauseReading()
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "hello")
	runUntil(t, queue, func() bool { return w.count() == 1 })
	socket.SetIdleTimeout(time.Millisecond)
	runUntil(t, queue, func() bool { return w.ended })

	socket.ResumeReading()
	second := newRecorder(t)
	handlers := second.handlers()
	socket.SetHandlers(handlers)
	socket.PauseReading()
	socket.ResumeReading()
	for range 20 {
		queue.RunPending()
		time.Sleep(5 * time.Millisecond)
	}
	require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
	require.Empty(t, second.names())
	require.Equal(t, "ello", string(socket.Peek(10)))
	require.Equal(t, "ello", string(socket.ReadAll()))
	_, err := socket.Read(make([]byte, 1))
	require.ErrorIs(t, err, tcpserver.ErrIdleTimeout)
}

func TestHandlersSetAfterEndGetUnreadBytesAndDisconnected(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{false, true} { // other handlers were set before, without Disconnected
		server, queue := listenWithQueue(t)
		socket, conn := connect(t, server)
		if before {
			socket.PauseReading()
			socket.SetHandlers(new(tcpserver.SocketHandlers))
		}
		sendFromPeer(t, socket, conn, "unread")
		require.NotEmpty(t, socket.Peek(10))
		reset(t, conn)
		require.NoError(t, socket.WaitForDisconnected(within(t)))
		if before {
			queue.RunPending()
			socket.ResumeReading()
		}
		w := newRecorder(t)
		socket.SetHandlers(w.handlers())
		runUntil(t, queue, func() bool { return w.ended })
		require.Equal(t, "unread", string(w.got))
		require.ErrorIs(t, w.err, tcpserver.ErrReset)
		require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
	}
}

// A handler that panics must not prevent the calls that are still due.
func TestDisconnectedIsCalledAfterPanicInReadyRead(t *testing.T) {
	t.Parallel()
	server, queue := listenWithQueue(t)
	socket, conn := connect(t, server)
	sendFromPeer(t, socket, conn, "unread")
	require.NotEmpty(t, socket.Peek(10))
	reset(t, conn)
	require.NoError(t, socket.WaitForDisconnected(within(t)))
	w := newRecorder(t)
	h := w.handlers()
	h.ReadyRead = func(*tcpserver.TcpSocket) { panic("on purpose") }
	socket.SetHandlers(h)
	require.Eventually(t, func() bool {
		func() {
			defer func() { recover() }() // as an application may
			queue.RunPending()
		}()
		return w.ended
	}, patience, time.Millisecond)
}

// A peer that sends continuously must not prevent calls of BytesWritten.
func TestBytesWrittenIsNotStarvedByReadyRead(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	var written atomic.Int64
	all := make(chan struct{})
	queued := int64(socket.BytesToWrite())
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) { socket.Discard(1 << 10) },
		BytesWritten: func(_ *tcpserver.TcpSocket, n int) {
			// What was sent before queued was read is announced too.
			if sum := written.Add(int64(n)); sum >= queued && sum-int64(n) < queued {
				close(all)
			}
		},
	})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		flood(conn, make([]byte, 1<<20), stop)
	}()
	_, err := io.CopyN(io.Discard, conn, int64(len(sent)))
	require.NoError(t, err)
	receive(t, all)
	close(stop)
	receive(t, done)
}

// A peer that receives continuously must not prevent calls of ReadyRead.
func TestReadyReadIsNotStarvedByBytesWritten(t *testing.T) {
	t.Parallel()
	server, queue := listenWithQueue(t)
	socket, conn := connect(t, server)
	socket.SetWriteBufferSize(16 * mib)
	fillSendQueue(t, socket, conn)
	read := make(chan struct{}, 10)
	var written, taken atomic.Int64
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			socket.ReadAll()
			read <- struct{}{}
		},
		BytesWritten: func(socket *tcpserver.TcpSocket, _ int) {
			// This takes longer than one call of the executor may, and when it returns more bytes have been written.
			for socket.BytesToWrite() < 4*mib && socket.Send(make([]byte, 64<<10)) == nil {
			}
			time.Sleep(5 * time.Millisecond)
			written.Add(1)
		},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := make([]byte, 16<<10); ; {
			n, err := conn.Read(p)
			taken.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	runUntil(t, queue, func() bool { return written.Load() > 3 })
	writeString(t, conn, "stop")
	before := written.Load()
	runUntil(t, queue, func() bool { return len(read) > 0 || written.Load() > before+20 })
	require.NotEmpty(t, read)
	socket.Abort()
	receive(t, done)
}

// BytesWritten also counts the bytes that were queued before the handlers were set.
func TestBytesWrittenReportsBytesQueuedBeforeSetHandlers(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	queued := socket.BytesToWrite()
	_, err := io.CopyN(io.Discard, conn, int64(len(sent)))
	require.NoError(t, err)
	require.NoError(t, socket.WaitForBytesWritten(within(t)))
	w := newRecorder(t)
	socket.SetHandlers(w.handlers())
	w.await(func() bool { return len(w.written) > 0 })
	require.LessOrEqual(t, queued, w.written[0])
}
