package msgserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// A register checks what callbacks may rely on: no two run at the same time, each client is connected once and
// disconnected once, and no callback is called for it before or after.
type register struct {
	t     testing.TB
	inner atomic.Int32
	state map[*tcpserver.TcpSocket]string
	ended atomic.Int64
}

func (r *register) enter(socket *tcpserver.TcpSocket, from, to string) func() {
	assert.EqualValues(r.t, 1, r.inner.Add(1))
	assert.Equal(r.t, from, r.state[socket])
	r.state[socket] = to
	return func() { r.inner.Add(-1) }
}

// others returns the sockets of some clients, including ended ones.
func (r *register) others() (some []*tcpserver.TcpSocket) {
	for socket := range r.state {
		if some = append(some, socket); len(some) == 3 {
			break
		}
	}
	return some
}

// Some clients send byte by byte, some never read, some reset at any moment, some send thousands of tiny messages, and
// the callbacks stop, write to and close any client.
func TestCallbacksStayInOrderWithHostileClients(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		r := &register{t: t, state: map[*tcpserver.TcpSocket]string{}}
		s.lag = 20 * time.Millisecond
		s.maxBuffer = 1000
		interfere := func(socket *tcpserver.TcpSocket) {
			for _, other := range append(r.others(), socket) {
				switch rand.IntN(20) {
				case 0:
					s.stop(other)
				case 1:
					other.Close()
				case 2:
					other.Abort()
				case 3:
					s.write(other, make([]byte, 1<<20))
				default:
					s.write(other, []byte("hello\n"))
				}
			}
		}
		nested := false
		call := func(socket *tcpserver.TcpSocket, from, to string) {
			if nested { // ServerLoop.CloseConnection calls ClientDisconnected inside another callback
				assert.Equal(t, from, r.state[socket])
				r.state[socket] = to
				return
			}
			leave := r.enter(socket, from, to)
			nested = true
			interfere(socket)
			nested = false
			leave()
		}
		s.connected = func(socket *tcpserver.TcpSocket) error {
			r.state[socket] = "new"
			s.write(socket, []byte("welcome\n"))
			call(socket, "new", "connected")
			return nil
		}
		s.said = func(socket *tcpserver.TcpSocket, _ string) { call(socket, "connected", "connected") }
		s.disconnected = func(socket *tcpserver.TcpSocket) {
			call(socket, "connected", "ended")
			r.ended.Add(1)
		}
		server := serve(t, s.serve)
		var clients sync.WaitGroup
		const each = 8
		for range each {
			for _, hostile := range []func(net.Conn){byteByByte, neverReads, resetsAtAnyMoment, manyTinyMessages} {
				clients.Go(func() {
					conn, err := net.Dial("tcp", server.Addr().String())
					if err == nil { // otherwise a callback has already reset the connection
						hostile(conn)
						conn.Close()
					}
				})
			}
		}
		clients.Wait()
		alive := make(chan struct{})
		s.work(func() { close(alive) })
		receive(t, alive)
	})
}

func byteByByte(conn net.Conn) {
	for i := range 500 {
		if _, err := conn.Write([]byte{"x\n"[i%2]}); err != nil {
			return
		}
	}
	io.CopyN(io.Discard, conn, 100)
}

func neverReads(conn net.Conn) {
	conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for {
		if _, err := conn.Write([]byte("more\nmore\n")); err != nil {
			return
		}
	}
}

func resetsAtAnyMoment(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Read(make([]byte, 1)) // wait until it is accepted: resets before that do not concern this package
	for range rand.IntN(50) {
		fmt.Fprintln(conn, "x")
	}
}

func manyTinyMessages(conn net.Conn) {
	go io.Copy(io.Discard, conn)
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(conn, strings.Repeat("\n", 20_000))
}

// A client may be closed in every callback and in every way, and is disconnected once.
func TestClientCanBeClosedInAnyCallback(t *testing.T) {
	for _, where := range []string{"connected", "said", "disconnected", "failed"} {
		for _, how := range []string{"stop", "close", "abort"} {
			onBoth(t, func(t *testing.T, s *lineServer) {
				ends := make(chan *tcpserver.TcpSocket, 10)
				end := func(here string, socket *tcpserver.TcpSocket) {
					switch {
					case here != where:
					case how == "stop":
						s.stop(socket)
					case how == "close":
						socket.Close()
					default:
						socket.Abort()
					}
					s.write(socket, []byte("x"))
				}
				s.connected = func(socket *tcpserver.TcpSocket) error { end("connected", socket); return nil }
				s.said = func(socket *tcpserver.TcpSocket, _ string) { end("said", socket) }
				s.disconnected = func(socket *tcpserver.TcpSocket) { end("disconnected", socket); ends <- socket }
				s.failed = func(err error) { end("failed", err.(*ClientError).Socket) }
				server := serve(t, s.serve)
				for range 2 {
					conn, err := net.Dial("tcp", server.Addr().String())
					if err == nil { // otherwise the connection has already been reset
						conn.Write([]byte("hello\nbad\n"))
						(&client{conn, t, bufio.NewReader(conn)}).ended()
						conn.Close()
					}
					if where != "connected" || how != "stop" { // which refuses the client of a ServerLoop
						receive(t, ends)
						require.Empty(t, ends)
					}
				}
			})
		}
	}
}

func TestServersShareAPoller(t *testing.T) {
	poller, err := tcpserver.NewPoller(1)
	require.NoError(t, err)
	onBoth(t, func(t *testing.T, first *lineServer) {
		onBoth(t, func(t *testing.T, second *lineServer) {
			first.answer()
			second.answer()
			a, b := &tcpserver.TcpServer{Poller: poller}, &tcpserver.TcpServer{Poller: poller}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			servertest.Listen(t, a)
			ended := make(chan error, 1)
			go func() { ended <- first.serve(ctx, a) }()
			serveOn(t, b, second.serve)
			one, two := dial(t, a), dial(t, b)
			for range 10 {
				one.send("one\n")
				two.send("two\n")
				require.Equal(t, "one!\n", one.line())
				require.Equal(t, "two!\n", two.line())
			}
			cancel()
			require.ErrorIs(t, receive(t, ended), context.Canceled)
			one.ended()
			two.send("two\n")
			require.Equal(t, "two!\n", two.line(), "the end of one server does not affect the other")
		})
	})
}
