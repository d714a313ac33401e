package tcpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestSendIsAllOrNothing(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	queued := socket.BytesToWrite()
	require.LessOrEqual(t, queued, mib, "the default write buffer size")
	// The system may have taken some bytes from the queue meanwhile, hence 64 KiB more.
	err := socket.Send(make([]byte, mib-queued+64<<10))
	require.Equal(t, tcpserver.ErrWriteBufferFull, err, "the error must be ErrWriteBufferFull itself")
	require.LessOrEqual(t, socket.BytesToWrite(), queued)
	require.NoError(t, socket.CloseWrite())
	mustReadExactly(t, conn, sent)
	require.Zero(t, socket.BytesToWrite())
	require.EqualValues(t, len(sent), socket.BytesSent())
}

func TestSendRejectsMoreThanWriteBufferSize(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.Equal(t, tcpserver.ErrWriteBufferFull, socket.Send(make([]byte, mib+1)), "on an empty queue")
	socket.SetWriteBufferSize(4)
	require.Equal(t, tcpserver.ErrWriteBufferFull, socket.Send([]byte("12345")))
	require.NoError(t, socket.Send([]byte("1234")))
	socket.SetWriteBufferSize(2 * mib)
	require.NoError(t, socket.Send(make([]byte, 2*mib)))
	socket.SetWriteBufferSize(0)
	require.Equal(t, tcpserver.ErrWriteBufferFull, socket.Send(make([]byte, mib+1)), "0 restores the default")
	require.NoError(t, socket.Send(nil))
	require.NoError(t, socket.CloseWrite())
	mustReadExactly(t, conn, append([]byte("1234"), make([]byte, 2*mib)...))
}

func TestServerWriteBufferSizeAppliesToSockets(t *testing.T) {
	t.Parallel()
	socket, _ := connect(t, listen(t, &tcpserver.TcpServer{WriteBufferSize: 10}))
	require.Equal(t, tcpserver.ErrWriteBufferFull, socket.Send(make([]byte, 11)))
	require.NoError(t, socket.Send(make([]byte, 10)))
}

func TestSendCopiesItsArgument(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	socket.SetWriteBufferSize(2 * mib)
	p := randomBytes(77, 100_000)
	sent = append(sent, p...)
	require.NoError(t, socket.Send(p))
	clear(p)
	require.NoError(t, socket.CloseWrite())
	mustReadExactly(t, conn, sent)
}

// This test measures the heap and is not parallel.
func TestSendQueueStaysBoundedWhenPeerDoesNotRead(t *testing.T) {
	socket, conn := pair(t)
	require.NoError(t, conn.SetReadBuffer(128<<10))
	require.NoError(t, socket.SetWriteBuffer(128<<10))
	p := make([]byte, 100)
	before := heapInUse()
	rejected := 0
	for range 100_000 {
		if socket.Send(p) != nil {
			rejected++
		}
	}
	require.NotZero(t, rejected)
	require.LessOrEqual(t, socket.BytesToWrite(), mib)
	require.Less(t, heapInUse(), before+mib+mib/2, "the queue of 1 MiB and half as much again")
}

// Every call writes one record: the writer's number, the record's number, the length and the bytes.
func TestConcurrentWritesAndSendsDoNotInterleave(t *testing.T) {
	t.Parallel()
	const writers, records, header = 6, 120, 9
	socket, conn := pair(t)
	require.NoError(t, conn.SetReadBuffer(128<<10)) // small, so that most calls block or queue
	require.NoError(t, socket.SetWriteBuffer(128<<10))
	var wg sync.WaitGroup
	for id := range byte(writers) {
		wg.Go(func() {
			for seq := range uint32(records) {
				size := 1 + int(seq*seq*97)%50_000
				if seq%10 == 0 {
					size = 400_000
				}
				p := bytes.Repeat([]byte{id}, header+size)
				binary.BigEndian.PutUint32(p[1:], seq)
				binary.BigEndian.PutUint32(p[5:], uint32(size))
				if (seq+uint32(id))%2 == 0 {
					n, err := socket.Write(p)
					if err != nil || n != len(p) {
						return // the reader fails for want of this record
					}
					continue
				}
				for socket.Send(p) == tcpserver.ErrWriteBufferFull {
					if socket.WaitForBytesWritten(within(t)) != nil {
						return
					}
				}
			}
		})
	}
	go func() {
		wg.Wait()
		socket.CloseWrite()
	}()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	r := bufio.NewReaderSize(conn, 4<<10)
	var next [writers]uint32
	for range writers * records {
		var h [header]byte
		_, err := io.ReadFull(r, h[:])
		require.NoError(t, err)
		id, seq := h[0], binary.BigEndian.Uint32(h[1:])
		require.Less(t, id, byte(writers))
		require.Equal(t, next[id], seq, "records of writer %d", id)
		next[id]++
		p := make([]byte, binary.BigEndian.Uint32(h[5:]))
		_, err = io.ReadFull(r, p)
		require.NoError(t, err)
		require.Equal(t, len(p), bytes.Count(p, []byte{id}), "record %d of writer %d", seq, id)
	}
	_, err := r.ReadByte()
	require.Equal(t, io.EOF, err)
}

// A Write that times out in the middle of the queue does not affect the bytes before and after it.
func TestTimedOutWriteKeepsSendQueueInOrder(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	writing := mustBlock(t, func() error {
		n, err := socket.Write(randomBytes(100, 10_000))
		require.Zero(t, n)
		return err
	})
	socket.SetWriteBufferSize(2 * mib)
	behind := randomBytes(101, 300_000)
	require.NoError(t, socket.Send(behind))
	require.NoError(t, socket.SetWriteDeadline(time.Now()))
	require.ErrorIs(t, receive(t, writing), os.ErrDeadlineExceeded)
	require.NoError(t, socket.CloseWrite())
	mustReadExactly(t, conn, append(sent, behind...))
}

func TestBlockedWriteReturnsOnDeadlineCloseOrReset(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) error
		want error
	}{
		{name: "deadline", want: os.ErrDeadlineExceeded,
			end: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn) error {
				return socket.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			}},
		{name: "deadline that was cleared and set again", want: os.ErrDeadlineExceeded,
			end: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn) error {
				socket.SetWriteDeadline(time.Now().Add(patience))
				socket.SetWriteDeadline(time.Time{})
				return socket.SetDeadline(time.Now().Add(-time.Second))
			}},
		{name: "Close", want: tcpserver.ErrSocketClosed,
			end: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn) error { return socket.Close() }},
		{name: "Abort", want: tcpserver.ErrSocketClosed,
			end: func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn) error { return socket.Abort() }},
		{name: "reset", want: tcpserver.ErrReset,
			end: func(t *testing.T, _ *tcpserver.TcpSocket, conn *net.TCPConn) error { reset(t, conn); return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			p := randomBytes(1, large)
			var n int
			writing := mustBlock(t, func() (err error) {
				n, err = socket.Write(p)
				return err
			})
			require.NoError(t, test.end(t, socket, conn))
			require.ErrorIs(t, receive(t, writing), test.want)
			require.Positive(t, n)
			require.Less(t, n, len(p))
			require.EqualValues(t, n, socket.BytesSent())
			if test.want != tcpserver.ErrReset {
				socket.Close()
				mustReadPrefixThenReset(t, conn, p[:n])
			}
		})
	}
}

func TestCloseWriteReturnsWhySendingHasFailed(t *testing.T) {
	server := listen(t, new(tcpserver.TcpServer))
	socket, conn := connect(t, server)
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
	until(t, func() bool { return socket.Send([]byte("x")) != nil })
	require.ErrorIs(t, socket.CloseWrite(), tcpserver.ErrReset)
}

func TestCloseWriteLetsBlockedWriteFinish(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	p := randomBytes(1, large)
	writing := mustBlock(t, func() error {
		_, err := socket.Write(p)
		return err
	})
	behind := randomBytes(2, 1000)
	require.NoError(t, socket.Send(behind))
	require.NoError(t, socket.CloseWrite())
	_, err := socket.Write([]byte("late"))
	require.ErrorIs(t, err, tcpserver.ErrSocketClosed)
	mustReadExactly(t, conn, append(p, behind...))
	require.NoError(t, receive(t, writing))
}

func TestWaitingWriteReportsWhyItFailedDespiteCloseWrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(socket *tcpserver.TcpSocket, conn *net.TCPConn)
		want error
	}{
		"reset": {func(_ *tcpserver.TcpSocket, conn *net.TCPConn) { reset(t, conn) }, tcpserver.ErrReset},
		"idle": {
			func(socket *tcpserver.TcpSocket, _ *net.TCPConn) { socket.SetIdleTimeout(100 * time.Millisecond) },
			tcpserver.ErrIdleTimeout,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			writing := mustBlock(t, func() error {
				_, err := socket.Write(make([]byte, 64*mib))
				return err
			})
			until(t, func() bool { return socket.BytesSent() > 0 })
			require.NoError(t, socket.CloseWrite())
			c.end(socket, conn)
			require.ErrorIs(t, receive(t, writing), c.want)
		})
	}
}

func TestNothingIsSentAfterTruncatedWrite(t *testing.T) {
	t.Parallel()
	ends := map[string]func(t *testing.T, socket *tcpserver.TcpSocket){
		"Close": func(t *testing.T, socket *tcpserver.TcpSocket) { require.NoError(t, socket.Close()) },
		"deadline": func(t *testing.T, socket *tcpserver.TcpSocket) {
			require.NoError(t, socket.SetWriteDeadline(time.Now()))
		},
		"SetHandlers and Close": func(t *testing.T, socket *tcpserver.TcpSocket) {
			socket.SetHandlers(new(tcpserver.SocketHandlers))
			require.NoError(t, socket.Close())
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			p := randomBytes(1, large)
			var n int
			writing := mustBlock(t, func() (err error) {
				n, err = socket.Write(p)
				return err
			})
			require.NoError(t, socket.Send([]byte("SEND")))
			second := mustBlock(t, func() error {
				_, err := socket.Write([]byte("SECOND"))
				return err
			})
			end(t, socket)
			require.Error(t, receive(t, writing))
			require.Error(t, receive(t, second))
			require.Error(t, socket.Send([]byte("LATER")))
			_, err := socket.Write([]byte("LATER"))
			require.ErrorIs(t, err, net.ErrClosed)
			require.Equal(t, tcpserver.StateUnconnected, socket.State())
			mustReadPrefixThenReset(t, conn, p[:n])
		})
	}
}

// If nothing is queued behind a Write that timed out, another Write may continue where it stopped, as with any
// net.Conn.
func TestWriteCanContinueAfterDeadline(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	p := randomBytes(1, large)
	var n int
	writing := mustBlock(t, func() (err error) {
		n, err = socket.Write(p)
		return err
	})
	require.NoError(t, socket.SetWriteDeadline(time.Now()))
	require.ErrorIs(t, receive(t, writing), os.ErrDeadlineExceeded)
	require.Positive(t, n)
	require.ErrorIs(t, socket.Send([]byte("hole")), os.ErrDeadlineExceeded)
	require.ErrorIs(t, socket.CloseWrite(), os.ErrDeadlineExceeded)

	require.NoError(t, socket.SetWriteDeadline(time.Time{}))
	writing = mustBlock(t, func() error {
		_, err := socket.Write(p[n:])
		return err
	})
	got := make([]byte, len(p))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(p, got))
	require.NoError(t, receive(t, writing))
	require.NoError(t, socket.Send([]byte("end")))
	require.NoError(t, socket.Close())
	mustReadExactly(t, conn, []byte("end"))
}

func TestWriteDeadlineStaysExpiredUntilMoved(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, socket.SetWriteDeadline(time.Now().Add(-time.Second)))
	n, err := socket.Write([]byte("no"))
	require.Zero(t, n)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, socket.Send([]byte("Send has none ")))
	require.NoError(t, socket.WaitForBytesWritten(within(t)), "nothing is queued")
	require.NoError(t, socket.SetWriteDeadline(time.Time{}))
	_, err = socket.Write([]byte("yes"))
	require.NoError(t, err)
	require.NoError(t, socket.Close())
	mustReadExactly(t, conn, []byte("Send has none yes"))
}

func TestWaitForBytesWrittenReturnsWhenQueueIsSent(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, socket.WaitForBytesWritten(within(t)), "nothing is queued")
	sent := fillSendQueue(t, socket, conn)
	waiting := mustBlock(t, func() error { return socket.WaitForBytesWritten(within(t)) })
	got := make([]byte, len(sent))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.NoError(t, receive(t, waiting))
	require.Zero(t, socket.BytesToWrite())
	require.True(t, bytes.Equal(sent, got))
}

func TestWaitForBytesWrittenReturnsOnTimeoutAbortOrReset(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn, cancel func())
		want error
	}{
		{"context", func(_ *testing.T, _ *tcpserver.TcpSocket, _ *net.TCPConn, cancel func()) { cancel() },
			context.Canceled},
		{"deadline", func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn, _ func()) {
			socket.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		}, os.ErrDeadlineExceeded},
		{"Abort", func(_ *testing.T, socket *tcpserver.TcpSocket, _ *net.TCPConn, _ func()) { socket.Abort() },
			tcpserver.ErrSocketClosed},
		{"reset", func(t *testing.T, _ *tcpserver.TcpSocket, conn *net.TCPConn, _ func()) { reset(t, conn) },
			tcpserver.ErrReset},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			fillSendQueue(t, socket, conn)
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			waiting := mustBlock(t, func() error { return socket.WaitForBytesWritten(ctx) })
			test.end(t, socket, conn, cancel)
			err := receive(t, waiting)
			require.ErrorIs(t, err, test.want)
			if test.want == context.Canceled {
				require.Equal(t, test.want, err, "the error must be that of the context itself")
			}
		})
	}
}

func TestBytesSentCountsWriteAndSend(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.Zero(t, socket.BytesSent())
	require.NoError(t, socket.Send(make([]byte, 10)))
	n, err := socket.Write(make([]byte, 5))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.EqualValues(t, 15, socket.BytesSent())
	require.Zero(t, socket.BytesToWrite())
	require.NoError(t, socket.Close())
	require.EqualValues(t, 15, socket.BytesSent())
	mustReadExactly(t, conn, make([]byte, 15))
}
