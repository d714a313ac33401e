package msgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// A lineServer is a ThreadServer or a ServerLoop whose messages are lines. The line "bad" cannot be decoded.
type lineServer struct {
	connected    func(*tcpserver.TcpSocket) error
	said         func(*tcpserver.TcpSocket, string)
	disconnected func(*tcpserver.TcpSocket)
	failed       func(error)
	update       func()

	lag                time.Duration
	maxBuffer, maxSend int
	updateTime         time.Duration
	serve              func(context.Context, *tcpserver.TcpServer) error
	write              func(*tcpserver.TcpSocket, []byte)
	stop               func(*tcpserver.TcpSocket)
	work               func(func())
}

var errBad = errors.New("bad line")

// onBoth runs a test with a ThreadServer and with a ServerLoop.
func onBoth(t *testing.T, test func(t *testing.T, s *lineServer)) {
	for name, build := range map[string]func(*lineServer){"ThreadServer": asThreadServer, "ServerLoop": asServerLoop} {
		t.Run(name, func(t *testing.T) { test(t, newLineServer(build)) })
	}
}

// newLineServer returns a server whose callbacks do nothing.
func newLineServer(build func(*lineServer)) *lineServer {
	s := new(lineServer)
	s.connected = func(*tcpserver.TcpSocket) error { return nil }
	s.said = func(*tcpserver.TcpSocket, string) {}
	s.disconnected = func(*tcpserver.TcpSocket) {}
	s.failed = func(error) {}
	s.updateTime = time.Hour
	build(s)
	return s
}

func asThreadServer(s *lineServer) {
	decode := Lines[*tcpserver.TcpSocket](0)
	server := &ThreadServer[*tcpserver.TcpSocket, string]{
		ClientConnected: func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) {
			return socket, s.connected(socket)
		},
		ReadClientMessage: func(socket *tcpserver.TcpSocket, buf []byte) (string, int, error) {
			line, n, err := decode(socket, buf)
			if line == "bad" {
				err = errBad
			}
			return line, n, err
		},
		ClientMessage:      func(socket *tcpserver.TcpSocket, line string) { s.said(socket, line) },
		ClientDisconnected: func(socket *tcpserver.TcpSocket, err error) { s.disconnectedBy(socket, err) },
		OnError:            func(err error, _ []byte) { s.failed(err) },
	}
	s.write, s.stop, s.work = server.SendData, server.StopClient, server.Work
	s.serve = func(ctx context.Context, tcp *tcpserver.TcpServer) error {
		server.ConnectLag, server.MaxBufferSize, server.MaxSendBuffer = s.lag, s.maxBuffer, s.maxSend
		server.UpdateTime, server.Update = s.updateTime, s.update
		return server.Serve(ctx, tcp)
	}
}

// disconnectedBy reports an ErrSlowClient as a ServerLoop does.
func (s *lineServer) disconnectedBy(socket *tcpserver.TcpSocket, err error) {
	if errors.Is(err, ErrSlowClient) {
		s.failed(&ClientError{socket, err})
	}
	s.disconnected(socket)
}

func asServerLoop(s *lineServer) {
	loop := &ServerLoop[*tcpserver.TcpSocket]{
		NewData: func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, s.connected(socket) },
		ProcessClientData: func(socket *tcpserver.TcpSocket, buf []byte) (int, error) {
			line, _, whole := bytes.Cut(buf, []byte("\n"))
			switch {
			case !whole:
				return 0, nil
			case string(line) == "bad":
				return 0, errBad
			}
			s.said(socket, string(line))
			return len(line) + 1, nil
		},
		ClientDisconnected: func(socket *tcpserver.TcpSocket) { s.disconnected(socket) },
		OnError:            func(err error) { s.failed(err) },
	}
	s.write, s.work = loop.ClientWrite, loop.Work
	s.stop = func(socket *tcpserver.TcpSocket) { loop.CloseConnection(socket) }
	s.serve = func(ctx context.Context, tcp *tcpserver.TcpServer) error {
		loop.ConnectLag, loop.MaxBufferSize, loop.MaxSendBuffer = s.lag, s.maxBuffer, s.maxSend
		loop.UpdateTime, loop.Update = s.updateTime, s.update
		return loop.Serve(ctx, tcp)
	}
}

// answer answers each line with the same line and '!'.
func (s *lineServer) answer() {
	s.said = func(socket *tcpserver.TcpSocket, line string) { s.write(socket, []byte(line+"!\n")) }
}

// halfClose ends the client's stream and keeps reading possible.
func (c *client) halfClose() {
	c.t.Helper()
	require.NoError(c.t, c.Conn.(*net.TCPConn).CloseWrite())
}

// rest reads to the end of the stream, which must not be a reset, and returns what it has read.
func (c *client) rest() string {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(servertest.Patience)))
	all, err := io.ReadAll(c.lines)
	require.NoError(c.t, err)
	return string(all)
}

func TestHalfClosedClientIsAnswered(t *testing.T) {
	for _, halfOpen := range []bool{false, true} {
		onBoth(t, func(t *testing.T, s *lineServer) {
			ends := make(chan *tcpserver.TcpSocket, 100)
			s.disconnected = func(socket *tcpserver.TcpSocket) { ends <- socket }
			s.failed = func(err error) { assert.NoError(t, err) }
			s.answer()
			server := new(tcpserver.TcpServer)
			server.AllowHalfOpen = halfOpen
			serveOn(t, server, s.serve)
			for range 20 {
				conn := dial(t, server)
				conn.send("one\ntwo\nunfinished")
				conn.halfClose()
				require.Equal(t, "one!\ntwo!\n", conn.rest())
				receive(t, ends)
			}
			never(t, ends)
		})
	}
}

// CloseTimeout does not cut off a large reply to a client that has half-closed its connection.
func TestHalfClosedClientGetsWholeLargeReply(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.said = func(socket *tcpserver.TcpSocket, _ string) { s.write(socket, make([]byte, 10<<20)) }
		server := &tcpserver.TcpServer{CloseTimeout: time.Millisecond}
		serveOn(t, server, s.serve)
		conn := dial(t, server)
		conn.send("much\n")
		conn.halfClose()
		require.Len(t, conn.rest(), 10<<20)
	})
}

// CloseTimeout does not cut off what was written before the program stops a client.
func TestEndedClientGetsALargeReplyWhole(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		ends := make(chan *tcpserver.TcpSocket, 100)
		s.disconnected = func(socket *tcpserver.TcpSocket) { ends <- socket }
		s.said = func(socket *tcpserver.TcpSocket, _ string) {
			s.write(socket, make([]byte, 10<<20))
			s.stop(socket)
			s.stop(socket)
			s.write(socket, []byte("nobody gets it"))
		}
		server := &tcpserver.TcpServer{CloseTimeout: time.Millisecond}
		serveOn(t, server, s.serve)
		conn := dial(t, server)
		conn.send("much\nand more\n")
		require.Len(t, conn.rest(), 10<<20)
		receive(t, ends)
		never(t, ends)
	})
}

func TestRepliesBeforeAnErrorArrive(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.answer()
		errs, ends := make(chan error, 10), make(chan *tcpserver.TcpSocket, 10)
		s.disconnected = func(socket *tcpserver.TcpSocket) { ends <- socket }
		s.failed = func(err error) {
			var of *ClientError
			if assert.ErrorAs(t, err, &of) {
				s.write(of.Socket, []byte("error: "+of.Err.Error()+"\n"))
			}
			errs <- err
		}
		server := serve(t, s.serve)
		for range 20 {
			conn := dial(t, server)
			conn.send("one\ntwo\nbad\nthree\n")
			require.Equal(t, "one!\ntwo!\nerror: bad line\n", conn.rest())
			require.ErrorIs(t, receive(t, errs), errBad)
			receive(t, ends)
		}
		never(t, errs)
		never(t, ends)
	})
}

func TestRepliesBeforeAPanicArrive(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		errs := make(chan error, 10)
		s.failed = func(err error) { errs <- err }
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			s.write(socket, []byte(line+"!\n"))
			if line == "panic" {
				panic("at the disco")
			}
		}
		conn := dial(t, serve(t, s.serve))
		conn.send("one\npanic\n")
		require.Equal(t, "one!\npanic!\n", conn.rest())
		var p *tcpserver.PanicError
		require.ErrorAs(t, receive(t, errs), &p)
	})
}

func TestRefusedClientGetsWhatWasWrittenToIt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.connected = func(socket *tcpserver.TcpSocket) error {
			s.write(socket, bytes.Repeat([]byte("full house\n"), 200_000))
			return errors.New("full house")
		}
		s.disconnected = func(*tcpserver.TcpSocket) { assert.Fail(t, "it never became a client") }
		errs := make(chan error, 10)
		s.failed = func(err error) { errs <- err }
		server := &tcpserver.TcpServer{CloseTimeout: time.Millisecond, WriteBufferSize: 1000}
		serveOn(t, server, s.serve)
		require.Len(t, dial(t, server).rest(), 2_200_000)
		var of *ClientError
		require.ErrorAs(t, receive(t, errs), &of)
		require.NotNil(t, of.Socket)
	})
}

// What is written to a client is sent although nothing arrives from that client.
func TestWritesOfAnyCallbackAreSentAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		var first *tcpserver.TcpSocket
		connected := make(chan struct{}, 10)
		s.updateTime = time.Millisecond
		s.connected = func(socket *tcpserver.TcpSocket) error {
			if first == nil {
				first = socket
			}
			connected <- struct{}{}
			return nil
		}
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			if line == "panic" {
				panic(line)
			}
			s.write(first, []byte("message\n"))
		}
		s.disconnected = func(*tcpserver.TcpSocket) { s.write(first, []byte("disconnected\n")) }
		s.failed = func(error) { s.write(first, []byte("failed\n")) }
		updates := 0
		s.update = func() {
			if updates++; updates > 5 && first != nil {
				s.write(first, []byte("update\n"))
				updates = -1 << 30
			}
		}
		server := serve(t, s.serve)
		conn := dial(t, server)
		receive(t, connected)
		require.Equal(t, "update\n", conn.line())
		s.work(func() { s.write(first, []byte("work\n")) })
		require.Equal(t, "work\n", conn.line())
		other := dial(t, server)
		other.send("say\n")
		require.Equal(t, "message\n", conn.line())
		other.send("panic\n")
		require.Equal(t, "failed\n", conn.line())
		require.Equal(t, "disconnected\n", conn.line())
	})
}

func TestReplyOfAnySizeArrivesWhole(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			var n int
			fmt.Sscan(line, &n)
			s.write(socket, append(bytes.Repeat([]byte("x"), n), '\n'))
		}
		s.connected = func(socket *tcpserver.TcpSocket) error {
			s.write(socket, append(make([]byte, 3<<20), '\n'))
			return nil
		}
		conn := dial(t, serve(t, s.serve))
		require.Len(t, conn.line(), 3<<20+1)
		for _, n := range []int{0, 1, 1 << 20, 1<<20 + 1, 10 << 20} {
			conn.send(fmt.Sprintln(n))
			require.Len(t, conn.line(), n+1)
		}
	})
}

// The requests of a client that does not read the replies wait, so that no more than highWater and one reply are queued
// for it. None is lost when it reads.
func TestRequestsWaitUntilTheirRepliesAreTaken(t *testing.T) {
	for _, most := range []int{0, 400_000} {
		requestsWait(t, most)
	}
}

func requestsWait(t *testing.T, maxSend int) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		const requests, size = 60, 190_000
		s.lag, s.maxSend = time.Hour, maxSend
		var handled atomic.Int32
		sockets := make(chan *tcpserver.TcpSocket, 1)
		s.connected = func(socket *tcpserver.TcpSocket) error { sockets <- socket; return nil }
		reply := append(bytes.Repeat([]byte("x"), size-1), '\n')
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			assert.Equal(t, fmt.Sprint(handled.Add(1)), line)
			s.write(socket, reply)
			assert.LessOrEqual(t, socket.BytesToWrite(), highWater+size)
		}
		server := serve(t, s.serve)
		conn := dial(t, server)
		var all strings.Builder
		for i := range requests {
			fmt.Fprintln(&all, i+1)
		}
		conn.send(all.String())
		conn.halfClose()
		socket := receive(t, sockets)
		eventually(t, func() bool { return socket.BytesToWrite() > 200_000 })
		done := make(chan struct{})
		s.work(func() { close(done) }) // the worker is not blocked
		receive(t, done)
		require.Less(t, handled.Load(), int32(requests))
		require.Len(t, conn.rest(), requests*size)
		require.EqualValues(t, requests, handled.Load())
	})
}

// While a client takes nothing, the server does not read from it, so that TCP slows it down.
func TestServerStopsReadingWhileClientTakesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.lag = time.Hour
		sockets := make(chan *tcpserver.TcpSocket, 1)
		s.connected = func(socket *tcpserver.TcpSocket) error { sockets <- socket; return nil }
		var handled atomic.Int32
		s.said = func(*tcpserver.TcpSocket, string) { handled.Add(1) }
		conn := dial(t, serve(t, s.serve))
		socket := receive(t, sockets)
		s.work(func() { s.write(socket, make([]byte, 10<<20)) })
		eventually(t, func() bool { return socket.BytesToWrite() > highWater })
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		line := append(bytes.Repeat([]byte("x"), 999), '\n')
		sent := 0
		for {
			n, err := conn.Write(line)
			sent += n
			if err != nil {
				require.ErrorContains(t, err, "timeout", "the system's buffers are full")
				break
			}
		}
		require.Zero(t, handled.Load())
		require.LessOrEqual(t, socket.BytesRead(), uint64(1<<20))
		read := make(chan int64, 1)
		go func() {
			n, _ := io.CopyN(io.Discard, conn, 10<<20)
			read <- n
		}()
		require.EqualValues(t, 10<<20, receive(t, read))
		eventually(t, func() bool { return handled.Load() == int32(sent/len(line)) })
	})
}

// readAt reads at a steady rate, in bytes per second, for the time how, and returns how many bytes it has read.
func (c *client) readAt(rate int, how time.Duration) int {
	buf := make([]byte, 1<<20)
	read := 0
	begin := time.Now()
	for now := range time.Tick(20 * time.Millisecond) {
		for due := int(now.Sub(begin).Seconds()*float64(rate)) - read; due > 0; {
			n, err := c.Read(buf[:min(due, len(buf))])
			if !assert.NoError(c.t, err, "%d bytes per second, after %v", rate, now.Sub(begin)) {
				return read
			}
			read += n
			due -= n
		}
		if now.Sub(begin) > how {
			break
		}
	}
	return read
}

// A client that reads at 100 kB/s or more is never dropped, however much is queued.
func TestSteadyReaderIsNotDropped(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *lineServer) {
		t.Parallel()
		s.said = func(socket *tcpserver.TcpSocket, _ string) { s.write(socket, make([]byte, 20<<20)) }
		s.failed = func(err error) { assert.NoError(t, err) }
		server := serve(t, s.serve)
		done := make(chan int, 10)
		rates := []int{100, 200, 500, 1000, 2000}
		for _, rate := range rates {
			conn := dial(t, server)
			conn.send("much\n")
			go func() {
				n := conn.readAt(rate*1000, 4*time.Second)
				conn.Close() // otherwise it would be dropped, rightly, while the others still read
				done <- n
			}()
		}
		for range rates {
			require.Positive(t, receive(t, done))
		}
	})
}

func TestClientThatTakesNothingIsDropped(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *lineServer) {
		t.Parallel()
		s.lag = 50 * time.Millisecond
		errs, ends := make(chan error, 10), make(chan *tcpserver.TcpSocket, 10)
		s.failed = func(err error) { errs <- err }
		s.disconnected = func(socket *tcpserver.TcpSocket) { ends <- socket }
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			s.write(socket, make([]byte, 10<<20))
			if line == "and stop" {
				s.stop(socket)
			}
		}
		server := serve(t, s.serve)
		conn, stopped := dial(t, server), dial(t, server)
		conn.send("much\n")
		stopped.send("and stop\n")
		var of *ClientError
		require.ErrorAs(t, receive(t, errs), &of)
		require.ErrorIs(t, of, ErrSlowClient)
		require.Contains(t, []*tcpserver.TcpSocket{receive(t, ends), receive(t, ends)}, of.Socket)
		eventually(t, func() bool { return server.ConnectionCount() == 0 })
		for _, c := range []*client{conn, stopped} {
			mustBeCut(t, c)
		}
	})
}

func TestClientBeyondMaxSendBufferIsDropped(t *testing.T) {
	for _, most := range []int{10_000, 3 << 20} {
		onBoth(t, func(t *testing.T, s *lineServer) {
			s.maxSend, s.lag = most, time.Hour
			errs, ends := make(chan error, 10), make(chan *tcpserver.TcpSocket, 10)
			s.failed = func(err error) { errs <- err }
			s.disconnected = func(socket *tcpserver.TcpSocket) { ends <- socket }
			s.said = func(socket *tcpserver.TcpSocket, _ string) {
				for socket.State() == tcpserver.StateConnected {
					s.write(socket, make([]byte, 100_000))
					assert.LessOrEqual(t, socket.BytesToWrite(), most)
				}
			}
			server := serve(t, s.serve)
			dial(t, server).send("much\n")
			require.ErrorIs(t, receive(t, errs), ErrSlowClient)
			receive(t, ends)
			never(t, errs)
		})
	}
}

// Which messages are too long does not depend on how TCP divides the stream.
func TestLimitDoesNotDependOnHowTheStreamIsDivided(t *testing.T) {
	const limit = 8
	for length := limit - 2; length <= limit+2; length++ {
		line := strings.Repeat("x", length-1) + "\n"
		stream := "ok\n" + line + "more\n"
		want := []string{"ok", line[:length-1], "more"}
		if length > limit {
			want = []string{"ok", ErrBufferFull.Error()}
		}
		for first := range len(stream) + 1 {
			for second := first; second <= len(stream); second++ {
				chunks := [][]byte{[]byte(stream[:first]), []byte(stream[first:second]), []byte(stream[second:])}
				require.Equal(t, want, cutByThreadServer(t, limit, chunks), "%q %d %d", stream, first, second)
				require.Equal(t, want, cutByServerLoop(t, limit, chunks), "%q %d %d", stream, first, second)
			}
		}
	}
}

func cutByThreadServer(t *testing.T, limit int, chunks [][]byte) (got []string) {
	s := &ThreadServer[int, string]{
		MaxBufferSize: limit,
		ReadClientMessage: func(_ int, buf []byte) (string, int, error) {
			require.LessOrEqual(t, len(buf), limit)
			return Lines[int](0)(0, buf)
		},
	}
	c := &session[int, string]{server: s}
	for _, chunk := range chunks {
		_, err := c.decode(chunk)
		for s.tasks.Len() > 0 {
			got = append(got, s.tasks.PopFront().msg)
		}
		if err != nil {
			return append(got, err.Error())
		}
	}
	return got
}

func cutByServerLoop(t *testing.T, limit int, chunks [][]byte) (got []string) {
	l := &ServerLoop[int]{MaxBufferSize: limit, shuttingDown: true}
	l.ProcessClientData = func(_ int, buf []byte) (int, error) {
		require.LessOrEqual(t, len(buf), limit)
		line, _, whole := bytes.Cut(buf, []byte("\n"))
		if !whole {
			return 0, nil
		}
		got = append(got, string(line))
		return len(line) + 1, nil
	}
	c := &loopClient[int]{loop: l}
	for _, chunk := range chunks {
		buf := append(c.rest, chunk...)
		left, _, err := l.consume(c, buf)
		if err != nil {
			return append(got, err.Error())
		}
		c.keepRest(buf, left)
	}
	return got
}

// sendIn sends text in pieces until the server closes the connection.
func (c *client) sendIn(pieces int, text string) {
	for piece := range slices.Chunk([]byte(text), (len(text)+pieces-1)/pieces) {
		if _, err := c.Write(piece); err != nil {
			return
		}
	}
}

// The same over the network: a message that is one byte too long, sent at once and byte by byte.
func TestMessageOneByteTooLongIsRefusedHoweverItArrives(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.maxBuffer = 100
		errs := make(chan error, 10)
		s.failed = func(err error) { errs <- err }
		s.answer()
		server := serve(t, s.serve)
		line := strings.Repeat("x", 99)
		for _, pieces := range []int{1, 2, 50, 100} {
			conn := dial(t, server)
			conn.sendIn(pieces, line+"\n")
			require.Equal(t, line+"!\n", conn.line())
			conn.sendIn(pieces, line+"x\n")
			require.ErrorIs(t, receive(t, errs), ErrBufferFull)
			conn.ended()
		}
	})
}

// Serve returns at the end of its context although the queue is never empty.
func TestServeEndsWhileWorkIsAlwaysQueued(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		server := servertest.Listen(t, new(tcpserver.TcpServer))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		n := 0
		var again func()
		again = func() {
			if n++; n == 1000 {
				cancel()
			}
			s.work(again)
		}
		s.work(again)
		ended := make(chan error, 1)
		go func() { ended <- s.serve(ctx, server) }()
		require.ErrorIs(t, receive(t, ended), context.Canceled)
	})
}

func TestReceivedMessagesAreHandledBeforeServeReturns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		server := servertest.Listen(t, new(tcpserver.TcpServer))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		sockets := make(chan *tcpserver.TcpSocket, 1)
		s.connected = func(socket *tcpserver.TcpSocket) error { sockets <- socket; return nil }
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			if line == "1" {
				cancel()
				eventually(t, func() bool { return socket.BytesRead() == uint64(len("1\n2\n3\n")) })
			}
			s.write(socket, []byte(line+"!\n"))
		}
		ended := make(chan error, 1)
		go func() { ended <- s.serve(ctx, server) }()
		conn := dial(t, server)
		receive(t, sockets)
		conn.send("1\n2\n3\n")
		require.Equal(t, "1!\n2!\n3!\n", conn.rest())
		require.ErrorIs(t, receive(t, ended), context.Canceled)
	})
}

func TestServeCanBeCalledAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.answer()
		for range 3 {
			server := servertest.Listen(t, new(tcpserver.TcpServer))
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- s.serve(ctx, server) }()
			conn := dial(t, server)
			conn.send("hello\n")
			require.Equal(t, "hello!\n", conn.line())
			cancel()
			require.ErrorIs(t, receive(t, ended), context.Canceled)
			conn.ended()
			done := make(chan struct{})
			s.work(func() { close(done) }) // waits for the next run
			never(t, done)
		}
	})
}

func TestWorkBeforeRunAndFromAnywhere(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		done := make(chan struct{}, 100)
		s.work(func() { done <- struct{}{} })
		serve(t, s.serve)
		receive(t, done)
		for range 10 {
			go s.work(func() { s.work(func() { done <- struct{}{} }) })
		}
		for range 10 {
			receive(t, done)
		}
	})
}

func TestErrorTextsNameThePackageOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.maxBuffer = 10
		errs := make(chan error, 10)
		s.failed = func(err error) { errs <- err }
		server := serve(t, s.serve)
		conn := dial(t, server)
		conn.send("much too long\n")
		err := receive(t, errs)
		want := fmt.Sprintf("msgserver: client %v: no message in a full buffer", conn.LocalAddr())
		require.Equal(t, want, err.Error())
		var out bytes.Buffer
		printError(&out, err)
		printError(&out, errors.New("from another package"))
		require.Equal(t, err.Error()+"\nmsgserver: from another package\n", out.String())
	})
}

// A client that the program stops, or that causes an error, gets everything that was written before, also if it keeps
// sending before it reads that.
func TestStoppedClientThatKeepsSendingGetsItsReply(t *testing.T) {
	const size = 1 << 20
	for name, request := range map[string]string{"stopped": "get and stop\n", "failed": "get\nbad\n"} {
		for how, sendOn := range map[string]func(*client){"a line": (*client).sendALine, "much": (*client).sendMuch} {
			t.Run(name+", "+how, func(t *testing.T) {
				onBoth(t, func(t *testing.T, s *lineServer) {
					t.Parallel()
					taken := make(chan *tcpserver.TcpSocket, 1)
					s.said = func(socket *tcpserver.TcpSocket, line string) {
						s.write(socket, make([]byte, size))
						taken <- socket
						if line == "get and stop" {
							s.stop(socket)
						}
					}
					server := serve(t, s.serve)
					conn := dial(t, server)
					conn.send(request)
					socket := receive(t, taken)
					eventually(t, func() bool { return socket.BytesToWrite() == 0 })
					sendOn(conn)
					require.Equal(t, size, len(conn.rest()))
					conn.Close()
					eventually(t, func() bool { return server.ConnectionCount() == 0 })
				})
			})
		}
	}
}

func (c *client) sendALine() { c.Write([]byte("one more\n")) }

// sendMuch keeps sending in the background until the connection ends.
func (c *client) sendMuch() {
	line := append(bytes.Repeat([]byte("x"), 999), '\n')
	for range 1000 {
		c.Write(line)
	}
	go func() {
		for {
			if _, err := c.Write(line); err != nil {
				return
			}
		}
	}()
}

// A client that has taken everything cannot keep its connection open by sending forever.
func TestStoppedClientIsClosedThoughItKeepsSending(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.said = func(socket *tcpserver.TcpSocket, _ string) { s.write(socket, []byte("bye\n")); s.stop(socket) }
		server := serve(t, s.serve)
		conn := dial(t, server)
		conn.send("one\n")
		conn.sendMuch()
		require.Equal(t, "bye\n", conn.line())
		eventually(t, func() bool { return server.ConnectionCount() == 0 })
	})
}

// At the end of Serve, a client that keeps sending gets what was written before. CloseTimeout cuts off a client that
// takes nothing.
func TestServeDeliversQueuedDataBeforeItReturns(t *testing.T) {
	const size = 1 << 20
	for name, reads := range map[string]bool{"reads": true, "takes nothing": false} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *lineServer) {
				s.lag = time.Hour
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				written := make(chan *tcpserver.TcpSocket, 1)
				s.said = func(socket *tcpserver.TcpSocket, _ string) {
					n := size
					if !reads {
						n = 20 << 20
					}
					s.write(socket, make([]byte, n))
					written <- socket
				}
				server := &tcpserver.TcpServer{CloseTimeout: servertest.Patience}
				if !reads {
					server.CloseTimeout = 100 * time.Millisecond
				}
				servertest.Listen(t, server)
				ended := make(chan error, 1)
				go func() { ended <- s.serve(ctx, server) }()
				conn := dial(t, server)
				conn.send("get\n")
				socket := receive(t, written)
				if reads {
					eventually(t, func() bool { return socket.BytesToWrite() == 0 })
				}
				cancel()
				eventually(t, func() bool { return !server.IsListening() })
				conn.sendALine()
				if reads {
					require.Equal(t, size, len(conn.rest()))
					conn.Close()
				}
				require.ErrorIs(t, receive(t, ended), context.Canceled)
				if !reads {
					mustBeCut(t, conn)
				}
			})
		})
	}
}

// With Work as the Executor, the handlers of the server and its sockets run where the callbacks run, also when Serve
// ends.
func TestWorkAsExecutor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.answer()
		server := &tcpserver.TcpServer{Executor: s.work}
		serveOn(t, server, s.serve)
		conn := dial(t, server)
		for range 10 {
			conn.send("one\n")
			require.Equal(t, "one!\n", conn.line())
		}
	})
}

// A Serve that ends while a connection arrives leaves nothing behind that keeps the next Serve from ending.
func TestServeEndsWhileConnectionsArrive(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		for i := range 50 {
			server := servertest.Listen(t, &tcpserver.TcpServer{CloseTimeout: time.Millisecond})
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- s.serve(ctx, server) }()
			held, hold := make(chan struct{}), make(chan struct{})
			s.work(func() { close(held); <-hold })
			receive(t, held)
			conn, err := net.Dial("tcp", server.Addr().String())
			require.NoError(t, err)
			if i%2 == 0 {
				cancel()
				close(hold)
			} else {
				close(hold)
				cancel()
			}
			require.ErrorIs(t, receive(t, ended), context.Canceled)
			conn.Close()
		}
	})
}

// If nothing is queued for a client, the second piece of a reply may be as long as MaxSendBuffer.
func TestSecondPieceOfReplyMayBeAsLongAsMaxSendBuffer(t *testing.T) {
	const most = 1 << 20
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.maxSend = most
		header := []byte("length: 1048576\n")
		s.said = func(socket *tcpserver.TcpSocket, _ string) {
			s.write(socket, header)
			s.write(socket, make([]byte, most))
			s.stop(socket)
		}
		s.failed = func(err error) { assert.NoError(t, err) }
		conn := dial(t, serve(t, s.serve))
		conn.send("get\n")
		require.Equal(t, len(header)+most, len(conn.rest()))
	})
}

// MaxSendBuffer is about what the system does not take.
func TestLongReplyIsOfferedToTheSystem(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		for _, writeBuffer := range []int{0, 500} {
			s.maxSend = 1000
			s.said = func(socket *tcpserver.TcpSocket, _ string) {
				s.write(socket, append(bytes.Repeat([]byte("x"), 1500), '\n'))
			}
			server := &tcpserver.TcpServer{WriteBufferSize: writeBuffer}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			servertest.Listen(t, server)
			go func() { ended <- s.serve(ctx, server) }()
			conn := dial(t, server)
			conn.send("hello\n")
			require.Len(t, conn.line(), 1501)
			cancel()
			receive(t, ended)
		}
	})
}
