package tcpserver_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// mustEnd waits until the connection has ended, and requires that Err returns want.
func mustEnd(t testing.TB, socket *tcpserver.TcpSocket, want error) {
	t.Helper()
	require.NoError(t, socket.WaitForDisconnected(within(t)))
	require.Equal(t, tcpserver.StateUnconnected, socket.State())
	require.Equal(t, want, socket.Err())
	if want == nil {
		require.Empty(t, socket.ErrorString())
	} else {
		require.Equal(t, want.Error(), socket.ErrorString())
	}
}

// atOnce requires that f does not wait for the peer. If it did, it would take 5 s, the CloseTimeout, or forever.
func atOnce(t testing.TB, f func() error) {
	t.Helper()
	start := time.Now()
	require.NoError(t, f())
	require.Less(t, time.Since(start), time.Second)
}

// largeSends are the ways to send a large reply.
var largeSends = map[string]func(t testing.TB, socket *tcpserver.TcpSocket, reply []byte){
	"Write": func(t testing.TB, socket *tcpserver.TcpSocket, reply []byte) {
		n, err := socket.Write(reply)
		require.NoError(t, err)
		require.Equal(t, len(reply), n)
	},
	"Send": sendInPieces,
}

func TestHalfClosedPeerGetsWholeReply(t *testing.T) {
	t.Parallel()
	for name, send := range largeSends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			_, err := conn.Write([]byte("question"))
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			question, err := io.ReadAll(socket)
			require.NoError(t, err)
			require.Equal(t, "question", string(question))
			require.Equal(t, tcpserver.StateConnected, socket.State())

			reply := randomBytes(1, large)
			got := make(chan bool, 1)
			go func() {
				p, err := io.ReadAll(conn)
				got <- err == nil && bytes.Equal(p, reply)
			}()
			send(t, socket, reply)
			require.NoError(t, socket.Close())
			require.True(t, receive(t, got))
			mustEnd(t, socket, nil)
		})
	}
}

func TestCloseWriteSendsQueuedBytesAndKeepsReading(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	atOnce(t, socket.CloseWrite)
	require.NotZero(t, socket.BytesToWrite())
	require.NoError(t, socket.CloseWrite(), "a second CloseWrite must do nothing")
	require.ErrorIs(t, socket.Send([]byte("x")), tcpserver.ErrSocketClosed)
	_, err := socket.Write([]byte("x"))
	require.ErrorIs(t, err, tcpserver.ErrSocketClosed)
	mustReadExactly(t, conn, sent)
	require.Equal(t, tcpserver.StateConnected, socket.State())

	sendFromPeer(t, socket, conn, "after the end of the other direction")
	require.Equal(t, "after the end of the other direction", string(socket.ReadAll()))
	require.NoError(t, conn.Close())
	require.Equal(t, io.EOF, readByte(socket)())
	require.Equal(t, tcpserver.StateUnconnected, socket.State(), "both directions are closed")
	require.NoError(t, socket.Err())
	require.Equal(t, io.EOF, readByte(socket)(), "Read must go on returning io.EOF")
	require.NoError(t, socket.Close())
}

func TestSocketEndsWhenBothDirectionsAreClosed(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, conn.CloseWrite())
	require.Equal(t, io.EOF, readByte(socket)())
	require.Equal(t, tcpserver.StateConnected, socket.State(), "the socket must stay open while one direction is")
	require.NoError(t, socket.CloseWrite())
	mustEnd(t, socket, nil)
	require.Zero(t, socket.Server().ConnectionCount())
	mustReadExactly(t, conn, nil)
}

// The handlers would get ReadClosed before the connection ends; without them nothing is left to wait for.
func TestSocketEndsWhenHandlersAreRemovedAfterBothDirections(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
		if _, err := socket.TryRead(make([]byte, 1)); err == io.EOF {
			socket.CloseWrite()
			socket.SetHandlers(nil)
		}
	}})
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, socket.WaitForDisconnected(within(t)))
	require.NoError(t, socket.Err())
}

func TestReadReturnsEOFAfterCloseAndErrResetAfterReset(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, conn.Close())
	require.Equal(t, io.EOF, readByte(socket)())
	require.NoError(t, socket.Err())

	socket, conn = pair(t)
	reset(t, conn)
	for range 2 {
		err := readByte(socket)()
		require.ErrorIs(t, err, tcpserver.ErrReset)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.NotErrorIs(t, err, net.ErrClosed)
	}
	mustEnd(t, socket, tcpserver.ErrReset)
	require.ErrorIs(t, socket.Send([]byte("x")), tcpserver.ErrReset)
	require.NoError(t, socket.Close(), "the program has not closed the socket before")
	require.Equal(t, tcpserver.ErrReset, socket.Err())
}

func TestReadReturnsErrResetWhenResetFollowsData(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sendFromPeer(t, socket, conn, "last words")
	reset(t, conn)
	// The system decides whether the data can still be read, but the error after it must be ErrReset, never io.EOF.
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
	got, err := io.ReadAll(socket)
	require.ErrorIs(t, err, tcpserver.ErrReset)
	require.Contains(t, []string{"", "last words"}, string(got))
	mustEnd(t, socket, tcpserver.ErrReset)

	// Bytes that were in the read buffer before the reset stay readable.
	socket, conn = pair(t)
	sendFromPeer(t, socket, conn, "last words")
	require.Equal(t, "l", string(socket.Peek(1)))
	reset(t, conn)
	mustEnd(t, socket, tcpserver.ErrReset)
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	require.Equal(t, "last words", string(socket.ReadAll()))
	require.ErrorIs(t, readByte(socket)(), tcpserver.ErrReset)
}

func TestWriteAndSendAfterResetReturnErrReset(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*tcpserver.TcpSocket) error{
		"Write": func(s *tcpserver.TcpSocket) error { _, err := s.Write([]byte("x")); return err },
		"Send":  func(s *tcpserver.TcpSocket) error { return s.Send([]byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			reset(t, conn)
			require.Eventually(t, func() bool { return write(socket) != nil }, patience, time.Millisecond)
			for range 2 {
				err := write(socket)
				require.ErrorIs(t, err, tcpserver.ErrReset)
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			require.ErrorIs(t, socket.WaitForBytesWritten(within(t)), tcpserver.ErrReset)
			// The system reports the reset only once, to the writer; Read must return it too.
			require.ErrorIs(t, readByte(socket)(), tcpserver.ErrReset)
			mustEnd(t, socket, tcpserver.ErrReset)
		})
	}
}

func TestAbortDropsQueueAndResetsConnection(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	fillSendQueue(t, socket, conn)
	require.NoError(t, socket.Abort())
	require.Equal(t, tcpserver.StateUnconnected, socket.State())
	require.Zero(t, socket.BytesToWrite(), "Abort must drop the queue")
	require.NoError(t, socket.Err(), "Abort by the program is not an error")
	_, err := readToEnd(t, conn)
	mustBeReset(t, err)
	require.NoError(t, socket.Abort(), "a second Abort must do nothing")
	require.ErrorIs(t, socket.Close(), tcpserver.ErrSocketClosed)
}

// Somebody may hold a reference to the descriptor when the connection ends. It is closed after that.
func TestAbortAndSetLingerAfterTheEndDoNotResetTheConnection(t *testing.T) {
	socket, conn := pair(t)
	require.NoError(t, socket.Send([]byte("all")))
	raw, err := socket.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(uintptr) {
		require.NoError(t, socket.Close())
		require.Equal(t, tcpserver.StateUnconnected, socket.State())
		require.NoError(t, socket.Abort())
		require.ErrorIs(t, socket.SetLinger(0), tcpserver.ErrSocketClosed)
	}))
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "all", string(got))
}

func TestAbortAfterCloseResetsConnection(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	fillSendQueue(t, socket, conn)
	require.NoError(t, socket.Close())
	require.Equal(t, tcpserver.StateClosing, socket.State())
	require.NoError(t, socket.Abort())
	mustEnd(t, socket, nil)
	_, err := readToEnd(t, conn)
	mustBeReset(t, err)
}

func TestCloseSendsQueuedBytes(t *testing.T) {
	t.Parallel()
	socket, conn := connect(t, listen(t, &tcpserver.TcpServer{CloseTimeout: -1}))
	require.NoError(t, conn.SetReadBuffer(128<<10))
	reply := randomBytes(1, 6*mib)
	socket.SetWriteBufferSize(8 * mib)
	require.NoError(t, socket.Send(reply))
	require.Greater(t, socket.BytesToWrite(), mib/2)
	atOnce(t, socket.Close)
	require.Equal(t, tcpserver.StateClosing, socket.State())
	require.Equal(t, 1, socket.Server().ConnectionCount(), "a closing socket counts as a connection")
	err := socket.Close()
	require.ErrorIs(t, err, tcpserver.ErrSocketClosed)
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, socket.Send([]byte("more")), tcpserver.ErrSocketClosed)

	// The peer reads slowly, in small pieces.
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	var got []byte
	p := make([]byte, 10_000)
	for err = nil; err == nil; {
		var n int
		n, err = conn.Read(p)
		got = append(got, p[:n]...)
	}
	require.Equal(t, io.EOF, err)
	require.True(t, bytes.Equal(reply, got), "got %d bytes", len(got))
	mustEnd(t, socket, nil)
	require.ErrorIs(t, socket.Close(), tcpserver.ErrSocketClosed)
	require.Zero(t, socket.Server().ConnectionCount())
}

func TestCloseWithUnreadDataDoesNotReset(t *testing.T) {
	t.Parallel()
	const question = "never read"
	t.Run("received before Close", func(t *testing.T) {
		t.Parallel()
		socket, conn := pair(t)
		sendFromPeer(t, socket, conn, question)
		sent := fillSendQueue(t, socket, conn)
		require.NoError(t, socket.Close())
		mustReadExactly(t, conn, sent)
		mustEnd(t, socket, nil)
	})
	t.Run("received while the queue is sent", func(t *testing.T) {
		t.Parallel()
		socket, conn := pair(t)
		sent := fillSendQueue(t, socket, conn)
		require.NoError(t, socket.Close())
		_, err := conn.Write(randomBytes(1, 50_000))
		require.NoError(t, err)
		mustReadExactly(t, conn, sent)
		mustEnd(t, socket, nil)
	})
	t.Run("not yet seen by the loop", func(t *testing.T) {
		t.Parallel()
		// A server that is busy may answer without reading the question.
		server := listen(t, new(tcpserver.TcpServer))
		for range 200 {
			conn := dial(t, server)
			_, err := conn.Write([]byte(question))
			require.NoError(t, err)
			socket := take(t, server)
			require.NoError(t, socket.Send([]byte("busy")))
			require.NoError(t, socket.Close())
			mustReadExactly(t, conn, []byte("busy"))
			conn.Close()
		}
	})
}

func TestCloseTimeoutResetsConnection(t *testing.T) {
	t.Parallel()
	const limit = 150 * time.Millisecond
	socket, conn := connect(t, listen(t, &tcpserver.TcpServer{CloseTimeout: limit}))
	fillSendQueue(t, socket, conn)
	start := time.Now()
	require.NoError(t, socket.Close())
	require.NoError(t, socket.WaitForDisconnected(within(t)))
	require.GreaterOrEqual(t, time.Since(start), limit)
	mustEnd(t, socket, os.ErrDeadlineExceeded)
	require.Zero(t, socket.BytesToWrite())
	_, err := readToEnd(t, conn)
	mustBeReset(t, err) // the peer must not take what it received for everything
}

func TestSlowPeerGetsEverythingWithinCloseTimeout(t *testing.T) {
	t.Parallel()
	// If negative, there is no limit. A positive limit must not affect a socket that has sent everything in time.
	for _, limit := range []time.Duration{-1, 10 * time.Second} {
		socket, conn := connect(t, listen(t, &tcpserver.TcpServer{CloseTimeout: limit}))
		sent := fillSendQueue(t, socket, conn)
		require.NoError(t, socket.Close())
		waiting := mustBlock(t, func() error { return socket.WaitForDisconnected(within(t)) })
		mustReadExactly(t, conn, sent)
		require.NoError(t, receive(t, waiting))
		mustEnd(t, socket, nil)
	}
}

func TestResetDuringCloseEndsWithErrReset(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	fillSendQueue(t, socket, conn)
	require.NoError(t, socket.Close())
	reset(t, conn)
	mustEnd(t, socket, tcpserver.ErrReset)
}

// Nobody reads any more, so that only sending meets the reset.
func TestResetDuringCloseAfterEndOfStreamEndsWithErrReset(t *testing.T) {
	t.Parallel()
	socket, conn := connect(t, listen(t, &tcpserver.TcpServer{CloseTimeout: -1}))
	fillSendQueue(t, socket, conn)
	require.NoError(t, conn.CloseWrite())
	_, err := socket.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.NoError(t, socket.Close())
	reset(t, conn)
	mustEnd(t, socket, tcpserver.ErrReset)
}

// After ReadClosed the socket closes without a call of Close, as soon as everything is sent.
func TestCloseEndsSocketThatIsClosingAfterReadClosed(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	writing := make(chan error, 1)
	w.readClosed = func(socket *tcpserver.TcpSocket) {
		begun := socket.BytesSent()
		go func() {
			_, err := socket.Write(randomBytes(1, large))
			writing <- err
		}()
		for end := time.Now().Add(patience); socket.BytesSent() == begun && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	socket.SetHandlers(w.handlers())
	require.NoError(t, conn.CloseWrite())
	require.Eventually(t, func() bool { return socket.State() == tcpserver.StateClosing }, patience, time.Millisecond)
	require.NoError(t, socket.Close())
	require.Equal(t, tcpserver.StateUnconnected, socket.State())
	require.ErrorIs(t, receive(t, writing), tcpserver.ErrSocketClosed)
	require.NoError(t, w.awaitEnd())
	_, err := readToEnd(t, conn)
	mustBeReset(t, err)
}

func TestCloseUnblocksWaitingCalls(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*tcpserver.TcpSocket) error{
		"Close": (*tcpserver.TcpSocket).Close,
		"Abort": (*tcpserver.TcpSocket).Abort,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, _ := pair(t)
			ctx := within(t)
			reading := []<-chan error{
				mustBlock(t, readByte(socket)),
				mustBlock(t, readByte(socket)),
				mustBlock(t, func() error { return socket.WaitForReadyRead(ctx) }),
				mustBlock(t, func() error { _, err := socket.Write(make([]byte, large)); return err }),
			}
			disconnected := mustBlock(t, func() error { return socket.WaitForDisconnected(ctx) })
			require.NoError(t, end(socket))
			for _, waiting := range reading {
				require.ErrorIs(t, receive(t, waiting), tcpserver.ErrSocketClosed)
			}
			require.NoError(t, receive(t, disconnected))
			require.Equal(t, tcpserver.StateUnconnected, socket.State())
		})
	}
}

// Queued bytes are still sent after Close, so WaitForBytesWritten goes on waiting and reports whether they were sent.
func TestWaitForBytesWrittenContinuesAfterClose(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	waiting := mustBlock(t, func() error { return socket.WaitForBytesWritten(within(t)) })
	require.NoError(t, socket.Close())
	mustReadExactly(t, conn, sent)
	require.NoError(t, receive(t, waiting))

	socket, conn = connect(t, listen(t, &tcpserver.TcpServer{CloseTimeout: 100 * time.Millisecond}))
	fillSendQueue(t, socket, conn)
	require.NoError(t, socket.Close())
	require.ErrorIs(t, socket.WaitForBytesWritten(within(t)), os.ErrDeadlineExceeded)
}

func TestWaitForDisconnected(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		end   func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn)
		cause error
	}{
		{"Close", func(_ *testing.T, s *tcpserver.TcpSocket, _ *net.TCPConn) { s.Close() }, nil},
		{"Abort", func(_ *testing.T, s *tcpserver.TcpSocket, _ *net.TCPConn) { s.Abort() }, nil},
		{"reset", func(t *testing.T, _ *tcpserver.TcpSocket, c *net.TCPConn) { reset(t, c) }, tcpserver.ErrReset},
		{"both directions", func(_ *testing.T, s *tcpserver.TcpSocket, c *net.TCPConn) {
			s.CloseWrite()
			c.CloseWrite()
		}, nil},
		{"reset after the end of the stream", func(t *testing.T, s *tcpserver.TcpSocket, c *net.TCPConn) {
			c.CloseWrite()
			if err := readByte(s)(); err != io.EOF {
				t.Error(err)
			}
			reset(t, c)
		}, tcpserver.ErrReset},
		{"reset after CloseRead", func(t *testing.T, s *tcpserver.TcpSocket, c *net.TCPConn) {
			s.CloseRead()
			reset(t, c)
		}, tcpserver.ErrReset},
		{"reset with a full read buffer", func(t *testing.T, s *tcpserver.TcpSocket, c *net.TCPConn) {
			s.SetReadBufferSize(4)
			sendFromPeer(t, s, c, "0123456789")
			reset(t, c)
		}, tcpserver.ErrReset},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			waiting := mustBlock(t, func() error { return socket.WaitForDisconnected(within(t)) })
			test.end(t, socket, conn)
			require.NoError(t, receive(t, waiting))
			mustEnd(t, socket, test.cause) // now WaitForDisconnected returns at once
		})
	}
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		socket, conn := pair(t)
		ctx, cancel := context.WithCancel(t.Context())
		waiting := mustBlock(t, func() error { return socket.WaitForDisconnected(ctx) })
		// WaitForDisconnected may buffer bytes but must not consume them, and the end of the peer's stream does not end
		// the connection.
		_, err := conn.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		require.Empty(t, waiting)
		cancel()
		require.Equal(t, context.Canceled, receive(t, waiting))
		got, err := io.ReadAll(socket)
		require.NoError(t, err)
		require.Equal(t, "hello", string(got))
	})
}

func TestConcurrentUseAndCloseOfSockets(t *testing.T) {
	t.Parallel()
	const sockets = 200
	server := listen(t, &tcpserver.TcpServer{CloseTimeout: 200 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range sockets {
		conn := dial(t, server)
		socket := take(t, server)
		until := func(f func() error) {
			wg.Go(func() {
				for range 1000 {
					if f() != nil {
						return
					}
				}
			})
		}
		p := make([]byte, 20_000)
		until(func() error { _, err := conn.Write(p); return err })
		if i%2 == 0 { // the others' queues fill up
			wg.Go(func() { io.Copy(io.Discard, conn) })
		}
		until(func() error { _, err := socket.Read(make([]byte, 1000)); return err })
		until(func() error { _, err := socket.Write(p); return err })
		until(func() error {
			if err := socket.Send(p); err != tcpserver.ErrWriteBufferFull {
				return err
			}
			return socket.WaitForBytesWritten(within(t))
		})
		wg.Go(func() { socket.WaitForDisconnected(within(t)) })
		wg.Go(func() {
			socket.SetNoDelay(i%2 == 0)
			socket.SetIdleTimeout(time.Hour)
			socket.SetReadBufferSize(100 * i)
			socket.SetDeadline(time.Now().Add(time.Duration(i) * time.Millisecond))
			socket.BytesAvailable()
			socket.SetDeadline(time.Time{})
			socket.LocalAddr()
			socket.ReadLine()
			switch i % 5 {
			case 0:
				socket.CloseWrite()
				conn.Close()
			case 1:
				socket.CloseRead()
			case 2:
				conn.SetLinger(0)
				conn.Close()
			}
			var ends sync.WaitGroup
			for range 2 {
				ends.Go(func() { socket.Close() })
				if i%3 == 0 {
					ends.Go(func() { socket.Abort() })
				}
			}
			ends.Wait()
			if socket.Close() == nil {
				t.Error("the last Close did not return an error")
			}
			conn.Close()
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return server.ConnectionCount() == 0 }, patience, time.Millisecond)
}

// tcpSocket keeps the tables of calls short.
type tcpSocket = *tcpserver.TcpSocket

// values returns the results of a call as a slice.
func values(v ...any) []any { return v }

// errClosed stands for every error that matches ErrSocketClosed.
var errClosed = tcpserver.ErrSocketClosed

// methodsWhenClosed has every method of TcpSocket and what it returns if the socket is closed.
var methodsWhenClosed = map[string]struct {
	call func(s tcpSocket) []any
	want []any
}{
	"Read":        {func(s tcpSocket) []any { return values(s.Read(make([]byte, 10))) }, values(0, errClosed)},
	"Write":       {func(s tcpSocket) []any { return values(s.Write(make([]byte, 10))) }, values(0, errClosed)},
	"Close":       {func(s tcpSocket) []any { return values(s.Close()) }, values(errClosed)},
	"LocalAddr":   {func(s tcpSocket) []any { return values(s.LocalAddr() != nil) }, values(true)},
	"RemoteAddr":  {func(s tcpSocket) []any { return values(s.RemoteAddr() != nil) }, values(true)},
	"SetDeadline": {func(s tcpSocket) []any { return values(s.SetDeadline(time.Now())) }, values(errClosed)},
	"SetReadDeadline": {func(s tcpSocket) []any {
		return values(s.SetReadDeadline(time.Now()))
	}, values(errClosed)},
	"SetWriteDeadline": {func(s tcpSocket) []any {
		return values(s.SetWriteDeadline(time.Now()))
	}, values(errClosed)},
	"BytesAvailable": {func(s tcpSocket) []any { return values(s.BytesAvailable()) }, values(0)},
	"Peek":           {func(s tcpSocket) []any { return values(len(s.Peek(10))) }, values(0)},
	"Discard":        {func(s tcpSocket) []any { return values(s.Discard(10)) }, values(0)},
	"TryRead": {func(s tcpSocket) []any {
		return values(s.TryRead(make([]byte, 10)))
	}, values(0, errClosed)},
	"ReadAll":     {func(s tcpSocket) []any { return values(s.ReadAll() == nil) }, values(true)},
	"CanReadLine": {func(s tcpSocket) []any { return values(s.CanReadLine()) }, values(false)},
	"ReadLine": {func(s tcpSocket) []any {
		p, ok := s.ReadLine()
		return values(p == nil, ok)
	}, values(true, false)},
	"Send":         {func(s tcpSocket) []any { return values(s.Send(make([]byte, 10))) }, values(errClosed)},
	"BytesToWrite": {func(s tcpSocket) []any { return values(s.BytesToWrite()) }, values(0)},
	"WaitForReadyRead": {func(s tcpSocket) []any {
		return values(s.WaitForReadyRead(context.Background()))
	}, values(errClosed)},
	"WaitForBytesWritten": {func(s tcpSocket) []any {
		return values(s.WaitForBytesWritten(context.Background()))
	}, []any{nil}},
	"WaitForDisconnected": {func(s tcpSocket) []any {
		return values(s.WaitForDisconnected(context.Background()))
	}, []any{nil}},
	"SetHandlers": {func(s tcpSocket) []any {
		s.SetHandlers(&tcpserver.SocketHandlers{})
		s.SetHandlers(nil)
		return nil
	}, nil},
	"PauseReading":       {func(s tcpSocket) []any { s.PauseReading(); return nil }, nil},
	"ResumeReading":      {func(s tcpSocket) []any { s.ResumeReading(); return nil }, nil},
	"CloseWrite":         {func(s tcpSocket) []any { return values(s.CloseWrite()) }, values(errClosed)},
	"CloseRead":          {func(s tcpSocket) []any { return values(s.CloseRead()) }, values(errClosed)},
	"Abort":              {func(s tcpSocket) []any { return values(s.Abort()) }, []any{nil}},
	"State":              {func(s tcpSocket) []any { return values(s.State()) }, values(tcpserver.StateUnconnected)},
	"Err":                {func(s tcpSocket) []any { return values(s.Err()) }, []any{nil}},
	"ErrorString":        {func(s tcpSocket) []any { return values(s.ErrorString()) }, values("")},
	"Server":             {func(s tcpSocket) []any { return values(s.Server() != nil) }, values(true)},
	"SetUserData":        {func(s tcpSocket) []any { s.SetUserData(nil); return nil }, nil},
	"UserData":           {func(s tcpSocket) []any { return values(s.UserData()) }, []any{nil}},
	"BytesRead":          {func(s tcpSocket) []any { return values(s.BytesRead()) }, values(uint64(1))},
	"BytesSent":          {func(s tcpSocket) []any { return values(s.BytesSent()) }, values(uint64(2))},
	"SetReadBufferSize":  {func(s tcpSocket) []any { s.SetReadBufferSize(10); return nil }, nil},
	"SetWriteBufferSize": {func(s tcpSocket) []any { s.SetWriteBufferSize(10); return nil }, nil},
	"SetIdleTimeout":     {func(s tcpSocket) []any { s.SetIdleTimeout(time.Millisecond); return nil }, nil},
	"SetAllowHalfOpen":   {func(s tcpSocket) []any { s.SetAllowHalfOpen(true); return nil }, nil},
	"SetNoDelay":         {func(s tcpSocket) []any { return values(s.SetNoDelay(false)) }, values(errClosed)},
	"SetKeepAliveConfig": {func(s tcpSocket) []any {
		return values(s.SetKeepAliveConfig(net.KeepAliveConfig{}))
	}, values(errClosed)},
	"SetLinger":      {func(s tcpSocket) []any { return values(s.SetLinger(1)) }, values(errClosed)},
	"SetReadBuffer":  {func(s tcpSocket) []any { return values(s.SetReadBuffer(4096)) }, values(errClosed)},
	"SetWriteBuffer": {func(s tcpSocket) []any { return values(s.SetWriteBuffer(4096)) }, values(errClosed)},
	"SyscallConn": {func(s tcpSocket) []any {
		c, err := s.SyscallConn()
		return values(c == nil, err)
	}, values(true, errClosed)},
}

func TestMethodsOfClosedSocketReturnErrSocketClosedOrZero(t *testing.T) {
	t.Parallel()
	socketType := reflect.TypeFor[tcpSocket]()
	for i := range socketType.NumMethod() {
		require.Contains(t, methodsWhenClosed, socketType.Method(i).Name, "methodsWhenClosed must have every method")
	}
	for name, test := range methodsWhenClosed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			sendFromPeer(t, socket, conn, "x")
			socket.Peek(1)
			require.NoError(t, socket.Send([]byte("xx")))
			raw, err := socket.SyscallConn()
			require.NoError(t, err)
			require.NoError(t, socket.Close())
			for range 2 {
				got := test.call(socket)
				require.Len(t, got, len(test.want))
				for i, want := range test.want {
					if want == error(errClosed) {
						require.ErrorIs(t, got[i].(error), errClosed)
						require.ErrorIs(t, got[i].(error), net.ErrClosed)
					} else {
						require.Equal(t, want, got[i])
					}
				}
			}
			never := func(uintptr) bool { t.Error("the function was called with a closed descriptor"); return true }
			require.ErrorIs(t, raw.Control(func(fd uintptr) { never(fd) }), errClosed)
			require.ErrorIs(t, raw.Read(never), errClosed)
			require.ErrorIs(t, raw.Write(never), errClosed)
			require.NoError(t, socket.Err())
			mustReadExactly(t, conn, []byte("xx"))
		})
	}
}

// What ReadClosed has queued is lost.
func TestResetWhileReadClosedRunsIsReported(t *testing.T) {
	socket, conn := pair(t)
	socket.SetWriteBufferSize(64 << 20)
	queued, ended := make(chan struct{}), make(chan error, 1)
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadClosed: func(*tcpserver.TcpSocket) {
			assert.NoError(t, socket.Send(make([]byte, 32<<20)))
			close(queued)
			servertest.Eventually(t, func() bool { return socket.Send([]byte("x")) != nil })
		},
		Disconnected: func(_ *tcpserver.TcpSocket, err error) { ended <- err },
	})
	require.NoError(t, conn.CloseWrite())
	receive(t, queued)
	reset(t, conn)
	require.Equal(t, tcpserver.ErrReset, receive(t, ended))
}
