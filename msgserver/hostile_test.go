package msgserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
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
	begun int // how many clients were connected; used only in callbacks
	ended int // how many were disconnected; used only in callbacks
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

// beHostile connects clients of each hostile kind, and returns when they have ended.
func beHostile(server *tcpserver.TcpServer) {
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
}

// Some clients send byte by byte, some never read, some reset at any moment, some send thousands of tiny messages, and
// the callbacks stop, write to and close any client.
func TestCallbacksStayInOrderWithHostileClients(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		r := &register{t: t, state: map[*tcpserver.TcpSocket]string{}}
		s.lag = 20 * time.Millisecond
		s.maxBuffer = 1000
		var connecting *tcpserver.TcpSocket
		interfere := func(socket *tcpserver.TcpSocket) {
			for _, other := range append(r.others(), socket) {
				switch rand.IntN(20) {
				case 0:
					if other != connecting { // otherwise a ServerLoop would refuse it
						s.stop(other)
					}
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
			r.begun++
			connecting = socket
			call(socket, "new", "connected")
			connecting = nil
			return nil
		}
		s.said = func(socket *tcpserver.TcpSocket, _ string) { call(socket, "connected", "connected") }
		s.disconnected = func(socket *tcpserver.TcpSocket) {
			call(socket, "connected", "ended")
			r.ended++
		}
		beHostile(serve(t, s.serve))
		counts := make(chan [2]int)
		eventually(t, func() bool {
			s.work(func() { counts <- [2]int{r.begun, r.ended} })
			got := receive(t, counts)
			return got[0] > 0 && got[0] == got[1]
		})
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

// heapInUse returns how many bytes of the heap are in use.
func heapInUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // a sync.Pool is emptied by two collections
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Clients that never finish their messages hold what they have sent, in one buffer each, and no goroutine.
func TestUnfinishedMessagesHoldOneBufferEach(t *testing.T) {
	const clients, limit, pieces = 50, 64 << 10, 8
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.maxBuffer = limit
		s.answer()
		sockets := make(chan *tcpserver.TcpSocket, clients+1)
		s.connected = func(socket *tcpserver.TcpSocket) error { sockets <- socket; return nil }
		server := serve(t, s.serve)
		good := dial(t, server)
		receive(t, sockets)
		var slow []*client
		var all []*tcpserver.TcpSocket
		for range clients {
			slow = append(slow, dial(t, server))
			all = append(all, receive(t, sockets))
		}
		heap, goroutines := heapInUse(), runtime.NumGoroutine()
		piece := strings.Repeat("x", limit/pieces-1)
		for range pieces {
			for _, conn := range slow {
				conn.send(piece)
			}
			good.send("hello\n")
			require.Equal(t, "hello!\n", good.line())
		}
		eventually(t, func() bool {
			return !slices.ContainsFunc(all, func(s *tcpserver.TcpSocket) bool { return s.BytesRead() < limit-pieces })
		})
		// A buffer that grows has up to twice the bytes that it holds. The rest is less than a tenth of one for each.
		servertest.Eventually(t, func() bool { return heapInUse() <= heap+2*clients*limit+1<<18 })
		require.False(t, servertest.Leaked(goroutines, servertest.OpenFiles()))
		for _, conn := range slow {
			conn.send("\n")
			require.Len(t, conn.line(), limit-pieces+len("!\n"))
		}
	})
}

// Clients that send as fast as they can, and never read, are held back: at most highWater is queued for one, and what
// the server collects before it sends. When Serve ends, which waits for nobody, the replies to what is received follow.
func TestFloodingClientsDelayNoOther(t *testing.T) {
	const clients, limit = 4, 16 << 10
	const queued = highWater + maxOut + 64<<10 + 2*limit
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.lag, s.maxBuffer = time.Hour, limit
		s.answer()
		line := strings.Repeat("x", 999) + "\n"
		answer := s.said
		sockets := make(chan *tcpserver.TcpSocket, clients+1)
		s.connected = func(socket *tcpserver.TcpSocket) error { sockets <- socket; return nil }
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			answer(socket, line)
			assert.LessOrEqual(t, socket.BytesToWrite(), queued)
		}
		server := serve(t, s.serve)
		good := dial(t, server)
		receive(t, sockets)
		flood := []byte(strings.Repeat(line, 100))
		heap := heapInUse()
		stop := make(chan struct{})
		var flooding sync.WaitGroup
		for range clients {
			conn := dial(t, server)
			flooding.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
						conn.Write(flood)
					}
				}
			})
		}
		for range 50 {
			good.send("hello\n")
			require.Equal(t, "hello!\n", good.line())
		}
		for range clients {
			socket := receive(t, sockets)
			eventually(t, func() bool { return socket.BytesToWrite() > highWater })
		}
		close(stop)
		flooding.Wait()
		servertest.Eventually(t, func() bool { return heapInUse() <= heap+2*clients*queued })
		runtime.KeepAlive(flood)
	})
}

// A message that comes in packets of one byte is handled once, and so is what follows it.
func TestMessagesInPacketsOfOneByteAreHandledOnce(t *testing.T) {
	const lines = 300
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.answer()
		conn := dial(t, serve(t, s.serve))
		go func() {
			for i := range lines {
				for _, b := range fmt.Appendln(nil, "line", i) {
					if _, err := conn.Write([]byte{b}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}()
		for i := range lines {
			require.Equal(t, fmt.Sprintf("line %d!\n", i), conn.line())
		}
	})
}

// A client that half-closes its connection, takes nothing of its reply and stays is dropped after ConnectLag. One that
// leaves at once is connected and disconnected once.
func TestClientsThatStayOrLeaveAreDisconnectedOnce(t *testing.T) {
	t.Parallel()
	const clients = 100
	onBoth(t, func(t *testing.T, s *lineServer) {
		t.Parallel()
		s.lag = 50 * time.Millisecond
		const stay = 4
		var connected, disconnected int
		gone := make(chan time.Duration, stay) // how long those that stay have stayed, if that is known to be short
		s.connected = func(*tcpserver.TcpSocket) error { connected++; return nil }
		s.disconnected = func(*tcpserver.TcpSocket) { disconnected++ }
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			if line == "much" {
				s.write(socket, make([]byte, 10<<20))
				go func() {
					start, known := time.Now(), (&output{socket: socket}).progress().known
					eventually(t, func() bool { return socket.State() == tcpserver.StateUnconnected })
					if !known {
						start = time.Now()
					}
					gone <- time.Since(start)
				}()
			} else {
				s.write(socket, []byte(line+"!\n"))
			}
		}
		server := serve(t, s.serve)
		for range stay {
			stays := dial(t, server)
			require.NoError(t, stays.Conn.(*net.TCPConn).SetReadBuffer(16<<10)) // so that it can take little
			stays.send("much\n")
			stays.halfClose()
		}
		good := dial(t, server)
		for i := range clients {
			conn, err := net.Dial("tcp", server.Addr().String())
			require.NoError(t, err)
			fmt.Fprint(conn, "hello\nhel")
			if i%2 == 0 {
				conn.(*net.TCPConn).SetLinger(0)
			}
			conn.Close()
			good.send("hello\n")
			require.Equal(t, "hello!\n", good.line())
		}
		eventually(t, func() bool { return server.ConnectionCount() == 1 })
		counts := make(chan [2]int)
		eventually(t, func() bool {
			s.work(func() { counts <- [2]int{connected, disconnected} })
			got := receive(t, counts)
			return got[0] == got[1]+1
		})
		for range stay { // one that has taken little is dropped after one or two seconds
			require.Less(t, receive(t, gone), 4*time.Second)
		}
	})
}
