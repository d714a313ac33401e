package tcpserver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestCanceledContextWinsOverReadySocket(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	writeString(t, conn, "hello")
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	require.Equal(t, context.Canceled, socket.WaitForReadyRead(canceledContext()))
	require.Equal(t, context.Canceled, socket.WaitForBytesWritten(canceledContext()))
	require.NoError(t, socket.Abort())
	require.Equal(t, context.Canceled, socket.WaitForDisconnected(canceledContext()))
	require.NoError(t, socket.WaitForDisconnected(within(t)))
}

func TestBytesAvailableIncludesSystemBuffer(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.Zero(t, socket.BytesAvailable())
	socket.SetReadBufferSize(4)
	sendFromPeer(t, socket, conn, "0123456789")
	require.Equal(t, "0123", string(socket.Peek(10)))
	require.Equal(t, 10, socket.BytesAvailable(), "4 bytes are in the read buffer and 6 in the system")
	_, err := io.ReadFull(socket, make([]byte, 7))
	require.NoError(t, err)
	require.Equal(t, 3, socket.BytesAvailable())

	// The end of the stream does not count as a byte.
	require.NoError(t, conn.CloseWrite())
	require.Equal(t, "789", string(socket.ReadAll()))
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	require.Zero(t, socket.BytesAvailable())
}

func TestPeekConsumesNothing(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.Empty(t, socket.Peek(10))
	sendFromPeer(t, socket, conn, "hello")
	require.Equal(t, "he", string(socket.Peek(2)))
	require.Equal(t, 2, cap(socket.Peek(2)), "appending to what Peek returned must not write into the buffer")
	require.Equal(t, "hello", string(socket.Peek(100)))
	require.Empty(t, socket.Peek(0))
	require.Empty(t, socket.Peek(-1))
	require.Equal(t, 5, socket.BytesAvailable())
	sendFromPeer(t, socket, conn, " world")
	require.Equal(t, "hello world", string(socket.Peek(11)))
	require.Equal(t, "hello world", string(socket.ReadAll()))
}

func TestPeekIsLimitedByReadBufferSize(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	socket.SetReadBufferSize(6)
	sendFromPeer(t, socket, conn, "0123456789")
	require.Equal(t, "012345", string(socket.Peek(10)))
	require.Equal(t, 2, socket.Discard(2))
	require.Equal(t, "234567", string(socket.Peek(10)), "Peek must fill the room that Discard has made")
	socket.SetReadBufferSize(0)
	require.Equal(t, "23456789", string(socket.Peek(10)), "0 restores the default")
}

func TestDiscardReturnsNumberOfDiscardedBytes(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.Zero(t, socket.Discard(1))
	socket.SetReadBufferSize(4)
	sendFromPeer(t, socket, conn, "0123456789abcdef")
	require.Zero(t, socket.Discard(0))
	require.Zero(t, socket.Discard(-1))
	require.Equal(t, 3, socket.Discard(3))
	require.Equal(t, "345", string(socket.Peek(3)))
	require.Equal(t, 9, socket.Discard(9), "Discard must go beyond the read buffer")
	require.Equal(t, 4, socket.Discard(1<<30))
}

func TestTryReadNeverBlocks(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	p := make([]byte, 10)
	n, err := socket.TryRead(p)
	require.Zero(t, n)
	require.Equal(t, tcpserver.ErrWouldBlock, err, "the error must be ErrWouldBlock itself")
	n, err = socket.TryRead(nil)
	require.Zero(t, n)
	require.NoError(t, err)

	sendFromPeer(t, socket, conn, "hello")
	n, err = socket.TryRead(p[:3])
	require.NoError(t, err)
	require.Equal(t, "hel", string(p[:n]))
	n, err = socket.TryRead(p)
	require.NoError(t, err)
	require.Equal(t, "lo", string(p[:n]))
	_, err = socket.TryRead(p)
	require.Equal(t, tcpserver.ErrWouldBlock, err)

	require.NoError(t, conn.CloseWrite())
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	for range 2 {
		n, err = socket.TryRead(p)
		require.Zero(t, n)
		require.Equal(t, io.EOF, err, "the error must be io.EOF itself, and stay so")
	}
}

func TestReadAllReturnsAllAvailableBytes(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.Nil(t, socket.ReadAll())
	require.NoError(t, socket.SetReadBuffer(2<<20))
	want := randomBytes(1, 300_000)
	sendFromPeer(t, socket, conn, string(want))
	require.NotEmpty(t, socket.Peek(1)) // moves a part, but not all, to the read buffer
	got := socket.ReadAll()
	require.True(t, bytes.Equal(want, got), "got %d bytes", len(got))
	require.Nil(t, socket.ReadAll())

	// The slice is a copy that later reads do not change.
	sendFromPeer(t, socket, conn, strings.Repeat("x", len(want)))
	socket.ReadAll()
	require.True(t, bytes.Equal(want, got))

	require.NoError(t, conn.CloseWrite())
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	require.Nil(t, socket.ReadAll())
	require.Equal(t, io.EOF, readByte(socket)(), "ReadAll must leave the end of the stream to Read")
}

func TestReadLineReturnsWholeLines(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	noLine := func() {
		t.Helper()
		require.False(t, socket.CanReadLine())
		line, ok := socket.ReadLine()
		require.False(t, ok)
		require.Nil(t, line)
	}
	noLine()
	sendFromPeer(t, socket, conn, "one")
	noLine()
	sendFromPeer(t, socket, conn, "\ntwo\r\n\nlast")
	var first []byte
	for _, want := range []string{"one\n", "two\r\n", "\n"} {
		require.True(t, socket.CanReadLine())
		line, ok := socket.ReadLine()
		require.True(t, ok)
		require.Equal(t, want, string(line))
		if first == nil {
			first = line
		}
	}
	require.Equal(t, "one\n", string(first), "each line must be a copy")

	// A last line without a newline is left to Read, also after the end of the stream.
	noLine()
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	noLine()
	rest, err := io.ReadAll(socket)
	require.NoError(t, err)
	require.Equal(t, "last", string(rest))
	noLine()
}

func TestCanReadLineIsFalseForLineLongerThanReadBuffer(t *testing.T) {
	t.Parallel()
	const long = "a line of more than eight bytes\n"
	socket, conn := pair(t)
	socket.SetReadBufferSize(8)
	sendFromPeer(t, socket, conn, long+"short\n")
	require.False(t, socket.CanReadLine())
	_, ok := socket.ReadLine()
	require.False(t, ok)
	p := make([]byte, len(long))
	_, err := io.ReadFull(socket, p)
	require.NoError(t, err)
	require.Equal(t, long, string(p))
	line, ok := socket.ReadLine()
	require.True(t, ok, "the lines after it must be found")
	require.Equal(t, "short\n", string(line))

	sendFromPeer(t, socket, conn, long)
	require.False(t, socket.CanReadLine())
	require.Equal(t, long, string(socket.ReadAll()))
	sendFromPeer(t, socket, conn, long)
	require.False(t, socket.CanReadLine())
	socket.SetReadBufferSize(len(long))
	require.True(t, socket.CanReadLine(), "a larger buffer must take effect at once")
}

func TestMixedReadMethodsKeepByteOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		socket, conn := pair(t)
		want := randomBytes(byte(seed), 256<<10)
		go func() {
			r := rand.New(rand.NewPCG(seed, 0))
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+r.IntN(1<<r.IntN(16)))
				if _, err := conn.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
			conn.CloseWrite()
		}()
		at := 0
		took := func(op string, p []byte) {
			t.Helper()
			require.LessOrEqual(t, at+len(p), len(want), op)
			require.True(t, bytes.Equal(want[at:at+len(p)], p), "seed %d, %s at %d", seed, op, at)
			at += len(p)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		p := make([]byte, 10_000)
		for end := false; !end; {
			n := 1 + r.IntN(1<<r.IntN(13))
			switch r.IntN(9) {
			case 0:
				m, err := socket.Read(p[:n])
				took("Read", p[:m])
				end = err == io.EOF
			case 1:
				m, err := socket.TryRead(p[:n])
				took("TryRead", p[:m])
				end = err == io.EOF
			case 2:
				seen := socket.Peek(n)
				require.LessOrEqual(t, len(seen), n)
				took("Peek", seen)
				at -= len(seen)
			case 3:
				at += socket.Discard(n % 100)
			case 4:
				can := socket.CanReadLine()
				line, ok := socket.ReadLine()
				require.True(t, ok || !can)
				if ok {
					require.Equal(t, len(line)-1, bytes.IndexByte(line, '\n'))
				}
				took("ReadLine", line)
			case 5:
				if r.IntN(8) == 0 {
					took("ReadAll", socket.ReadAll())
				}
			case 6:
				require.LessOrEqual(t, at+socket.BytesAvailable(), len(want))
			case 7:
				require.NoError(t, socket.WaitForReadyRead(within(t)))
			case 8:
				socket.SetReadBufferSize(n)
			}
		}
		require.Equal(t, len(want), at)
		require.EqualValues(t, len(want), socket.BytesRead())
	}
}

// This test measures the heap and is not parallel.
func TestMemoryStaysBoundedWhenProgramDoesNotRead(t *testing.T) {
	socket, conn := pair(t)
	p := make([]byte, 1<<20)
	before := heapInUse()
	sent := 0
	for {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		n, err := conn.Write(p)
		sent += n
		require.NoError(t, socket.WaitForReadyRead(within(t)))
		socket.Peek(len(p))
		socket.CanReadLine()
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
		require.Less(t, sent, 1<<30, "the client was never blocked")
	}
	require.Less(t, heapInUse(), before+1<<20)
	require.LessOrEqual(t, socket.BytesRead(), uint64(64<<10), "the default read buffer size")
	runtime.KeepAlive(p)
}

func TestConcurrentReadersLoseNoBytes(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	data := randomBytes(1, 4<<20)
	go func() {
		conn.Write(data)
		conn.CloseWrite()
	}()
	count := func(p []byte, into *[256]int) {
		for _, b := range p {
			into[b]++
		}
	}
	var want, got [256]int
	count(data, &want)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			p := make([]byte, 1+5000*i)
			for {
				n, err := 0, error(nil)
				read := p
				switch i % 3 {
				case 0:
					n, err = socket.Read(p)
				case 1:
					n, err = socket.TryRead(p)
				case 2:
					if socket.WaitForReadyRead(within(t)) == nil {
						read = socket.ReadAll()
						n = len(read)
					}
					if n == 0 {
						n, err = socket.TryRead(p)
						read = p
					}
				}
				mu.Lock()
				count(read[:n], &got)
				mu.Unlock()
				if err == tcpserver.ErrWouldBlock {
					runtime.Gosched()
				} else if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, want, got)
	require.EqualValues(t, len(data), socket.BytesRead())
}

func TestConcurrentLineReadersGetWholeLines(t *testing.T) {
	t.Parallel()
	const lines = 20_000
	socket, conn := pair(t)
	go func() {
		var all []byte
		for i := range lines {
			all = fmt.Appendf(all, "%d %d\n", i, i) // twice, to detect a mixture of two lines
		}
		conn.Write(all)
		conn.CloseWrite()
	}()
	var seen [lines]atomic.Int32
	var left atomic.Int32
	left.Store(lines)
	ctx := within(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for left.Load() > 0 && ctx.Err() == nil {
				line, ok := socket.ReadLine()
				if !ok {
					socket.WaitForReadyRead(ctx)
					runtime.Gosched() // with a part of a line WaitForReadyRead returns at once
					continue
				}
				a, b, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
				if i, err := strconv.Atoi(a); err == nil && a == b {
					seen[i].Add(1)
				}
				left.Add(-1)
			}
		})
	}
	wg.Wait()
	for i := range seen {
		require.EqualValues(t, 1, seen[i].Load(), "line %d", i)
	}
}

func TestWaitForReadyReadReturnsAtOnceForDataOrEndOfStream(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sendFromPeer(t, socket, conn, "hello")
	require.NoError(t, socket.WaitForReadyRead(within(t)), "bytes in the system")
	require.Equal(t, "h", string(socket.Peek(1)))
	require.NoError(t, socket.WaitForReadyRead(within(t)), "bytes in the read buffer")
	socket.ReadAll()

	waiting := mustBlock(t, func() error { return socket.WaitForReadyRead(within(t)) })
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, receive(t, waiting), "end of stream")
	require.NoError(t, socket.WaitForReadyRead(within(t)), "end of stream, second call")
	require.Equal(t, io.EOF, readByte(socket)())
	require.NoError(t, socket.WaitForReadyRead(within(t)), "end of stream after Read returned io.EOF")
}

func TestWaitForReadyReadWakesOnDataEndOrTimeout(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		wake func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn, cancel func())
		want error
		bare bool
	}{
		{name: "data", wake: func(t *testing.T, _ *tcpserver.TcpSocket, conn *net.TCPConn, _ func()) {
			conn.Write([]byte("x"))
		}},
		{name: "context", want: context.Canceled, bare: true,
			wake: func(_ *testing.T, _ *tcpserver.TcpSocket, _ *net.TCPConn, cancel func()) { cancel() }},
		{name: "deadline", want: os.ErrDeadlineExceeded,
			wake: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn, _ func()) {
				socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			}},
		{name: "Close", want: tcpserver.ErrSocketClosed,
			wake: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn, _ func()) { socket.Close() }},
		{name: "Abort", want: tcpserver.ErrSocketClosed,
			wake: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn, _ func()) { socket.Abort() }},
		{name: "reset", want: tcpserver.ErrReset,
			wake: func(t *testing.T, _ *tcpserver.TcpSocket, conn *net.TCPConn, _ func()) { reset(t, conn) }},
		{name: "CloseRead",
			wake: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn, _ func()) { socket.CloseRead() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			waiting := mustBlock(t, func() error { return socket.WaitForReadyRead(ctx) })
			test.wake(t, socket, conn, cancel)
			err := receive(t, waiting)
			require.ErrorIs(t, err, test.want)
			if test.want == nil {
				return
			}
			if test.bare {
				require.Equal(t, test.want, err)
			}
			// A later call returns the same error.
			require.ErrorIs(t, socket.WaitForReadyRead(ctx), test.want)
		})
	}
	t.Run("context's deadline", func(t *testing.T) {
		t.Parallel()
		socket, _ := pair(t)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, socket.WaitForReadyRead(ctx))
	})
}

func TestCloseReadEndsOnlyReading(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sendFromPeer(t, socket, conn, "unread")
	socket.Peek(1)
	require.NoError(t, socket.CloseRead())
	require.Zero(t, socket.BytesAvailable())
	require.Equal(t, io.EOF, readByte(socket)())
	require.Nil(t, socket.ReadAll())
	require.NoError(t, socket.CloseRead(), "second call")

	require.Equal(t, tcpserver.StateConnected, socket.State())
	require.NoError(t, socket.Send([]byte("still here")))
	require.NoError(t, socket.CloseWrite())
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "still here", string(got))
	require.Equal(t, tcpserver.StateUnconnected, socket.State(), "both directions are closed")
	require.NoError(t, socket.Err())
}

func TestCloseReadAfterCloseWriteEndsTheConnection(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	require.NoError(t, socket.CloseWrite())
	require.NoError(t, socket.CloseRead())
	require.Equal(t, tcpserver.StateUnconnected, socket.State())
}

func TestCloseReadUnblocksRead(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	reading := mustBlock(t, readByte(socket))
	require.NoError(t, socket.CloseRead())
	require.Equal(t, io.EOF, receive(t, reading))
}

func TestBytesReadCountsBytesTakenFromSystem(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.Zero(t, socket.BytesRead())
	sendFromPeer(t, socket, conn, "0123456789")
	require.Zero(t, socket.BytesRead(), "the bytes are still in the system")
	socket.Peek(1)
	require.EqualValues(t, 10, socket.BytesRead(), "Peek must take the bytes from the system")
	require.NoError(t, readByte(socket)())
	socket.Discard(1)
	socket.ReadAll()
	require.EqualValues(t, 10, socket.BytesRead())
	sendFromPeer(t, socket, conn, "x")
	require.NoError(t, readByte(socket)())
	require.EqualValues(t, 11, socket.BytesRead())
	socket.Close()
	require.EqualValues(t, 11, socket.BytesRead())
}

func TestReadDeadlineStaysExpiredUntilMoved(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(70*time.Millisecond)))
	require.ErrorIs(t, receive(t, mustBlock(t, readByte(socket))), os.ErrDeadlineExceeded)

	// It stays expired, even if data arrives, until it is moved.
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(patience)))
	sendFromPeer(t, socket, conn, "ab")
	require.ErrorIs(t, readByte(socket)(), os.ErrDeadlineExceeded)
	_, err := socket.TryRead(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
	require.NoError(t, readByte(socket)())
	require.NoError(t, socket.SetReadDeadline(time.Time{}))
	require.NoError(t, readByte(socket)())

	// Moving the deadline affects a Read that is waiting.
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(150*time.Millisecond)))
	reading := mustBlock(t, readByte(socket))
	require.NoError(t, socket.SetReadDeadline(time.Time{}))
	select {
	case err := <-reading:
		require.FailNow(t, "Read returned after the deadline was cleared", "error: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
	require.NoError(t, socket.SetDeadline(time.Now().Add(-time.Second)))
	require.ErrorIs(t, receive(t, reading), os.ErrDeadlineExceeded, "an earlier deadline must end the Read")
}

// Read may believe that the system holds more bytes when it does not; the buffered bytes must be returned nevertheless.
func TestReadReturnsBufferedBytesWithoutBlocking(t *testing.T) {
	t.Parallel()
	t.Run("full buffer", func(t *testing.T) {
		t.Parallel()
		socket, conn := connect(t, listen(t, &tcpserver.TcpServer{ReadBufferSize: 4096}))
		sendFromPeer(t, socket, conn, randomLetters(4096))
		require.Len(t, socket.Peek(4096), 4096)
		n, err := socket.Read(make([]byte, 8192))
		require.NoError(t, err)
		require.Equal(t, 4096, n)
	})
	t.Run("in a handler", func(t *testing.T) {
		t.Parallel()
		socket, conn := pair(t)
		sendFromPeer(t, socket, conn, randomLetters(64<<10))
		got := make(chan int, 10)
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
			n, _ := socket.Read(make([]byte, 128<<10))
			got <- n
		}})
		require.Equal(t, 64<<10, receive(t, got))
	})
	t.Run("after BytesAvailable and WaitForReadyRead", func(t *testing.T) {
		t.Parallel()
		socket, conn := pair(t)
		for range 100 {
			writeString(t, conn, "0123456789")
			require.NoError(t, socket.WaitForReadyRead(within(t)))
			read := 0
			for p := make([]byte, 100); read < 10; {
				socket.BytesAvailable()
				n, err := socket.Read(p)
				require.NoError(t, err)
				read += n
			}
		}
	})
}
