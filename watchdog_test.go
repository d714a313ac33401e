package tcpserver_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// The tests of this file block a handler on a poller with one loop, and check that other handlers are not delayed: the
// watchdog lets another goroutine take over the loop. They measure time and are not parallel.

// maxDelay is how long a slow handler may delay others.
const maxDelay = 200 * time.Millisecond

// A gate blocks handlers.
type gate struct {
	entered chan struct{}
	release chan struct{} // one value for each handler
}

func newGate() *gate { return &gate{make(chan struct{}, 100), make(chan struct{}, 100)} }

// open releases n handlers that wait now or later.
func (g *gate) open(n int) {
	for range n {
		g.release <- struct{}{}
	}
}

func (g *gate) wait() {
	g.entered <- struct{}{}
	select {
	case <-g.release:
	case <-time.After(2 * time.Second):
	}
}

// roundTripTime returns how long the answer to a message on conn takes.
func roundTripTime(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	writeString(t, conn, "ping")
	mustRead(t, conn, "ping")
	return time.Since(begin)
}

// requireShortDelay checks the median, because the machine is busy with other things too.
func requireShortDelay(t *testing.T, rounds []time.Duration) {
	t.Helper()
	slices.Sort(rounds)
	t.Log(rounds)
	require.Less(t, rounds[len(rounds)/2], maxDelay)
}

// listenOnOneLoop starts a server on a poller with one loop and returns it with a client whose messages it echoes.
func listenOnOneLoop(t *testing.T) (*tcpserver.TcpServer, *net.TCPConn) {
	t.Helper()
	server := listen(t, &tcpserver.TcpServer{Poller: pollerWithLoops(t, 1), WriteBufferSize: 16 << 20})
	socket, conn := connect(t, server)
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: echoBack})
	return server, conn
}

const slowRounds = 5

// A slowSocket is a socket whose handler blocks at its gate.
type slowSocket struct {
	*gate
	t       *testing.T
	socket  *tcpserver.TcpSocket
	conn    *net.TCPConn
	unblock func() // if not nil, it ends what the gate does not
}

// slowHandlers are the ways to block in a handler. Each sees to it that its handler is called.
var slowHandlers = map[string]func(s *slowSocket) *tcpserver.SocketHandlers{
	"waiting in ReadyRead": func(s *slowSocket) *tcpserver.SocketHandlers {
		writeString(s.t, s.conn, "x")
		return &tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) { s.wait() }}
	},
	"waiting in BytesWritten": func(s *slowSocket) *tcpserver.SocketHandlers {
		s.socket.Send(make([]byte, 16<<20))
		go io.Copy(io.Discard, s.conn)
		var once atomic.Bool
		return &tcpserver.SocketHandlers{BytesWritten: func(*tcpserver.TcpSocket, int) {
			if !once.Swap(true) {
				s.wait()
			}
		}}
	},
	"waiting in ReadClosed": func(s *slowSocket) *tcpserver.SocketHandlers {
		s.conn.CloseWrite()
		return &tcpserver.SocketHandlers{ReadClosed: func(*tcpserver.TcpSocket) { s.wait() }}
	},
	"waiting in Disconnected": func(s *slowSocket) *tcpserver.SocketHandlers {
		s.conn.Close()
		return &tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) { s.wait() }}
	},
	"computing": func(s *slowSocket) *tcpserver.SocketHandlers {
		writeString(s.t, s.conn, "x")
		return &tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) {
			s.entered <- struct{}{}
			for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
				select {
				case <-s.release:
					return
				default:
				}
			}
		}}
	},
	"in Write": func(s *slowSocket) *tcpserver.SocketHandlers {
		writeString(s.t, s.conn, "x")
		s.unblock = func() { s.conn.SetLinger(0); s.conn.Close() }
		var once atomic.Bool
		return &tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
			if once.Swap(true) {
				return
			}
			s.entered <- struct{}{}
			if n, err := socket.Write(make([]byte, 64<<20)); err == nil {
				s.t.Errorf("Write sent %d bytes to a peer that does not read", n)
			}
		}}
	},
	"in Read": func(s *slowSocket) *tcpserver.SocketHandlers {
		writeString(s.t, s.conn, "x")
		s.unblock = func() { s.conn.Close() }
		return &tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
			if p := make([]byte, 2); socket.BytesAvailable() > 0 {
				s.entered <- struct{}{}
				io.ReadFull(socket, p)
			}
		}}
	},
}

func TestSlowHandlerDoesNotDelayOtherSockets(t *testing.T) {
	for name, block := range slowHandlers {
		t.Run(name, func(t *testing.T) {
			server, other := listenOnOneLoop(t)
			var rounds []time.Duration
			for range slowRounds {
				socket, conn := connect(t, server)
				slow := &slowSocket{gate: newGate(), t: t, socket: socket, conn: conn}
				handlers := block(slow)
				done := make(chan struct{})
				if disconnected := handlers.Disconnected; disconnected != nil {
					handlers.Disconnected = func(s *tcpserver.TcpSocket, err error) {
						disconnected(s, err)
						close(done)
					}
				} else {
					handlers.Disconnected = func(*tcpserver.TcpSocket, error) { close(done) }
				}
				socket.SetHandlers(handlers)
				receive(t, slow.entered)
				rounds = append(rounds, roundTripTime(t, other))
				select {
				case <-done:
					require.Fail(t, "the handler did not block")
				default:
				}
				slow.open(1)
				if slow.unblock != nil {
					slow.unblock()
				}
				socket.Close()
				receive(t, done)
			}
			requireShortDelay(t, rounds)
		})
	}
}

func TestFiftySlowHandlersDoNotDelayOtherSockets(t *testing.T) {
	const many = 50
	server, other := listenOnOneLoop(t)
	g := newGate()
	var sockets []*tcpserver.TcpSocket
	var conns []*net.TCPConn
	w := newRecorder(t)
	done := make(chan struct{}, many)
	for range many {
		socket, conn := connect(t, server)
		sockets, conns = append(sockets, socket), append(conns, conn)
		socket.SetHandlers(&tcpserver.SocketHandlers{
			ReadyRead: func(socket *tcpserver.TcpSocket) {
				if line, ok := socket.ReadLine(); ok {
					g.wait()
					w.keep(line)
					w.tell()
				}
			},
			Disconnected: func(*tcpserver.TcpSocket, error) { done <- struct{}{} },
		})
	}
	var starting, blocking []time.Duration
	want := ""
	for range slowRounds {
		for _, conn := range conns {
			writeString(t, conn, "x\n")
			want += "x\n"
		}
		starting = append(starting, roundTripTime(t, other))
		for range many {
			receive(t, g.entered)
		}
		blocking = append(blocking, roundTripTime(t, other))
		g.open(many)
		w.awaitBytes(want)
	}
	requireShortDelay(t, blocking)
	// Each of the fifty delays the loop for a few milliseconds until the watchdog detects it.
	slices.Sort(starting)
	t.Log(starting)
	require.Less(t, starting[slowRounds/2], time.Second)
	for _, socket := range sockets {
		socket.Close()
	}
	for range many {
		receive(t, done)
	}
}

func TestSlowNewConnectionHandlerDoesNotDelaySockets(t *testing.T) {
	var inside, calls atomic.Int32
	g := newGate()
	server := listen(t, &tcpserver.TcpServer{
		Poller: pollerWithLoops(t, 1),
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if inside.Add(1) != 1 {
				t.Error("two calls of NewConnectionHandler ran at a time")
			}
			calls.Add(1)
			g.wait()
			inside.Add(-1)
		},
	})
	// The first connection blocks the handler and must be served nevertheless.
	first := dial(t, server)
	receive(t, g.entered)
	socket := take(t, server)
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: echoBack})
	rounds := []time.Duration{roundTripTime(t, first)}
	for range slowRounds {
		begin := time.Now()
		conn := dial(t, server)
		take(t, server).SetHandlers(&tcpserver.SocketHandlers{ReadyRead: echoBack})
		rounds = append(rounds, roundTripTime(t, conn)+time.Since(begin), roundTripTime(t, first))
	}
	require.EqualValues(t, 1, calls.Load())
	g.open(slowRounds + 1)
	for range slowRounds {
		receive(t, g.entered)
	}
	require.EqualValues(t, slowRounds+1, calls.Load())
	requireShortDelay(t, rounds)
}

// Connections that the system has already queued when the handler begins cause no further event.
func TestSlowNewConnectionHandlerDoesNotStopAccepting(t *testing.T) {
	const clients = 10
	g := newGate()
	server := listen(t, &tcpserver.TcpServer{
		Poller:               pollerWithLoops(t, 1),
		NewConnectionHandler: func(*tcpserver.TcpServer) { g.wait() },
	})
	server.PauseAccepting()
	for range clients {
		dial(t, server)
	}
	server.ResumeAccepting()
	receive(t, g.entered)
	begin := time.Now()
	for server.PendingConnections() < clients && time.Since(begin) < time.Second {
		time.Sleep(time.Millisecond)
	}
	pending := server.PendingConnections()
	g.open(clients)
	require.Equal(t, clients, pending, "connections accepted while the handler blocks")
	for range clients - 1 {
		receive(t, g.entered)
	}
}

func TestSocketWithSlowHandlerLosesNothing(t *testing.T) {
	server, other := listenOnOneLoop(t)
	socket, conn := connect(t, server)
	g := newGate()
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		line, ok := socket.ReadLine()
		if ok && strings.HasPrefix(string(line), "wait") {
			g.wait()
		}
		w.keep(line)
	}
	socket.SetHandlers(w.handlers())
	want := ""
	for i := range 3 {
		text := fmt.Sprintf("wait %d\n", i)
		writeString(t, conn, text)
		receive(t, g.entered)
		calls := w.count()
		for j := range 20 {
			line := fmt.Sprintf("line %d\n", j)
			writeString(t, conn, line)
			text += line
		}
		if i == 2 {
			require.NoError(t, conn.CloseWrite())
		}
		roundTripTime(t, other)
		socket.SetHandlers(w.handlers())
		socket.PauseReading()
		socket.ResumeReading()
		roundTripTime(t, other)
		require.Equal(t, calls, w.count())
		g.open(1)
		want += text
		w.awaitBytes(want)
	}
	require.NoError(t, w.awaitEnd())
	require.Equal(t, []string{"ReadyRead", "ReadClosed", "Disconnected"}, w.names())
	roundTripTime(t, other)
}

func TestDisconnectedWaitsForSlowHandler(t *testing.T) {
	for name, end := range map[string]func(socket *tcpserver.TcpSocket, conn *net.TCPConn){
		"Close": func(socket *tcpserver.TcpSocket, conn *net.TCPConn) { socket.Close() },
		"Abort": func(socket *tcpserver.TcpSocket, conn *net.TCPConn) { socket.Abort() },
		"reset": func(socket *tcpserver.TcpSocket, conn *net.TCPConn) { conn.SetLinger(0); conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			server, other := listenOnOneLoop(t)
			socket, conn := connect(t, server)
			g := newGate()
			w := newRecorder(t)
			returned := false
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				socket.ReadLine()
				g.wait()
				returned = true
			}
			w.disconnected = func(*tcpserver.TcpSocket, error) {
				if !returned {
					t.Error("Disconnected was called while another handler was running")
				}
			}
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "1\n2\n")
			receive(t, g.entered)
			end(socket, conn)
			switch name {
			case "Close": // closing does not wait for the handler
				require.Empty(t, mustReadAll(t, conn))
			case "Abort":
				mustReadReset(t, conn)
			}
			roundTripTime(t, other)
			require.Equal(t, []string{"ReadyRead"}, w.names())
			g.open(2)
			err := w.awaitEnd()
			if name == "reset" {
				require.ErrorIs(t, err, tcpserver.ErrReset)
			} else {
				require.NoError(t, err)
				require.Equal(t, 1, w.count())
			}
			require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
		})
	}
}

// When the last connection ends, calls that are due for other servers must not be lost.
func TestSlowDisconnectedDoesNotDelayOtherServers(t *testing.T) {
	poller := pollerWithLoops(t, 1)
	server := listen(t, &tcpserver.TcpServer{Poller: poller})
	other := &tcpserver.TcpServer{Poller: poller}
	g := newGate()
	const sockets = 3
	for range sockets {
		socket, _ := connect(t, server)
		socket.SetHandlers(&tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) {
			g.entered <- struct{}{}
			<-g.release
		}})
	}
	closed := make(chan struct{}, 1)
	other.ClosedHandler = func(*tcpserver.TcpServer, error) { closed <- struct{}{} }
	listen(t, other)
	server.Close()
	server.CloseConnections()
	other.Close()
	for range sockets {
		receive(t, g.entered)
	}
	receive(t, closed)
	listen(t, other)
	connect(t, other)
	other.Close()
	g.open(sockets)
}

func TestSlowHandlersHoldNoReadBuffers(t *testing.T) {
	server := listen(t, &tcpserver.TcpServer{Poller: pollerWithLoops(t, 1)})
	const sockets = 200
	g := newGate()
	g.entered = make(chan struct{}, sockets)
	before := heapInUse()
	for range sockets {
		socket, conn := connect(t, server)
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
			socket.ReadAll()
			g.entered <- struct{}{}
			<-g.release
		}})
		writeString(t, conn, "x")
	}
	for range sockets {
		receive(t, g.entered)
	}
	require.Eventually(t, func() bool { return heapInUse() < before+sockets*(32<<10) }, patience, 10*time.Millisecond)
	close(g.release)
}
