//go:build sim

package agree

import (
	"testing"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// The end of both directions ends a connection, although its handlers are removed while the end of the stream arrives.
func TestEndIsNoticedWhileHandlersAreRemoved(t *testing.T) {
	runSeeds(t, 2000, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		socket.SetHandlers(&tcpserver.SocketHandlers{})
		socket.CloseWrite()
		sched.Go(func() { conn.CloseWrite() })
		points(40)
		socket.SetHandlers(nil)
		if err := socket.WaitForDisconnected(sched.NewContext(time.Minute)); err != nil {
			sched.Fail("WaitForDisconnected: %v, state %v", err, socket.State())
		}
		conn.Close()
		server.Close()
	})
}

// Handlers that are set before Disconnected was called are told of what the socket holds, and of what was sent, before
// they are told of the end.
func TestLateHandlersMissNothingWhileTheConnectionEnds(t *testing.T) {
	runSeeds(t, 5000, narrow, func() {
		server := new(tcpserver.TcpServer)
		if sched.Intn(2) == 0 {
			server.Executor = func(f func()) { sched.Go(f) }
		}
		socket, conn := mustConnect(server)
		conn.Send([]byte("hello"))
		sched.Sleep(time.Second)
		socket.Peek(5)
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) {}})
		sched.Sleep(time.Second)
		socket.Send(make([]byte, 300))
		conn.Recv(make([]byte, 64))
		sched.Sleep(time.Second)
		sched.Go(func() { conn.Reset() })
		points(60)
		read, written, ended := false, false, false
		socket.SetHandlers(&tcpserver.SocketHandlers{
			ReadyRead:    func(*tcpserver.TcpSocket) { read = true },
			BytesWritten: func(*tcpserver.TcpSocket, int) { written = true },
			Disconnected: func(*tcpserver.TcpSocket, error) { ended = true },
		})
		sched.Sleep(time.Minute)
		if !read || !written || !ended {
			sched.Fail("ReadyRead: %v, BytesWritten: %v, Disconnected: %v", read, written, ended)
		}
		server.Close()
	})
}

// A loop that is asked to send more runs no handlers: they are the Executor's.
func TestLongQueueIsSentBesideTheExecutor(t *testing.T) {
	const room = 2 << 20 // more than a flush sends at once
	runSeeds(t, 100, sim.Config{SendBuffer: room, ReceiveBuffer: room}, func() {
		running := 0
		server := &tcpserver.TcpServer{WriteBufferSize: 4 * room, Executor: func(f func()) {
			sched.Go(func() {
				running++
				f()
				running--
			})
		}}
		socket, conn := mustConnect(server)
		check := func(*tcpserver.TcpSocket) {
			if running == 0 {
				sched.Fail("a handler runs outside the Executor")
			}
		}
		socket.SetHandlers(&tcpserver.SocketHandlers{
			ReadyRead:    check,
			BytesWritten: func(socket *tcpserver.TcpSocket, _ int) { check(socket) },
		})
		socket.Send(make([]byte, 4*room))
		for p := make([]byte, room); socket.BytesToWrite() > 0; {
			conn.Recv(p)
			conn.Send([]byte("x"))
		}
		sched.Sleep(time.Minute)
		conn.Close()
		socket.Abort()
		server.Close()
	})
}

// Whoever sets handlers may see the end before the descriptor is released.
func TestDisconnectedAndShutdownComeAfterTheDescriptorIsReleased(t *testing.T) {
	runSeeds(t, 3000, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		if sched.Intn(3) == 0 {
			server.Executor = func(f func()) { sched.Go(f) }
		}
		socket, conn := mustConnect(server)
		sched.Sleep(time.Second) // until the goroutine that accepts has let it go
		server.Close()
		released := func(when string) {
			if !conn.ServerGone() {
				sched.Fail("%s, and the descriptor is open", when)
			}
		}
		sched.Go(func() {
			server.Shutdown(sched.NewContext(time.Hour))
			released("Shutdown has returned")
		})
		sched.Go(func() {
			points(10)
			socket.Abort()
		})
		points(40)
		socket.SetHandlers(&tcpserver.SocketHandlers{
			Disconnected: func(*tcpserver.TcpSocket, error) { released("Disconnected is called") },
		})
		sched.Sleep(time.Minute)
		conn.Close()
	})
}

func TestWaitForDisconnectedReturnsWhenTheConnectionIsNotCounted(t *testing.T) {
	runSeeds(t, 1000, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		sched.Go(func() { socket.Abort() })
		points(20)
		if err := socket.WaitForDisconnected(sched.NewContext(time.Minute)); err != nil {
			sched.Fail("WaitForDisconnected: %v", err)
		}
		if n := server.ConnectionCount(); n != 0 {
			sched.Fail("the server counts %d connections", n)
		}
		conn.Close()
		server.Close()
	})
}

// Other handlers learn that the stream has ended, whenever they are set.
func TestOtherHandlersAreToldOfTheEndOfTheStream(t *testing.T) {
	runSeeds(t, 1000, sim.Config{}, func() {
		server := &tcpserver.TcpServer{AllowHalfOpen: true}
		if sched.Intn(2) == 0 {
			server.Executor = func(f func()) { sched.Go(f) }
		}
		socket, conn := mustConnect(server)
		running, told := false, 0
		handlers := func() *tcpserver.SocketHandlers {
			calls := 0
			return &tcpserver.SocketHandlers{ReadClosed: func(*tcpserver.TcpSocket) {
				if calls++; running || calls > 1 {
					sched.Fail("ReadClosed is called twice, or beside another")
				}
				told++
				running = true
				points(5)
				running = false
			}}
		}
		first, second := handlers(), handlers()
		socket.SetHandlers(first)
		sched.Go(func() { conn.CloseWrite() })
		points(60)
		socket.SetHandlers(second)
		socket.SetHandlers(second)
		sched.Sleep(time.Second)
		if told == 0 {
			sched.Fail("ReadClosed was not called")
		}
		was := told
		socket.SetHandlers(handlers())
		sched.Sleep(time.Second)
		if told != was+1 || socket.State() != tcpserver.StateConnected {
			sched.Fail("ReadClosed was called %d times, then %d, state %v", was, told, socket.State())
		}
		socket.CloseWrite()
		if err := socket.WaitForDisconnected(sched.NewContext(time.Minute)); err != nil {
			sched.Fail("both directions have ended, and the connection has not: %v", err)
		}
		conn.Close()
		server.Close()
	})
}

// The first ReadClosed that returns decides whether the socket stays open. Only then other handlers are told.
func TestReadClosedDecidesOnceWhetherTheSocketStaysOpen(t *testing.T) {
	runSeeds(t, 500, narrow, func() {
		allow := sched.Intn(2) == 0
		server := &tcpserver.TcpServer{AllowHalfOpen: allow}
		socket, conn := mustConnect(server)
		inside, told := sched.Intn(2) == 0, 0
		others := &tcpserver.SocketHandlers{ReadClosed: func(*tcpserver.TcpSocket) { told++ }}
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadClosed: func(socket *tcpserver.TcpSocket) {
			if inside {
				socket.SetHandlers(others)
				allow = !allow
				socket.SetAllowHalfOpen(allow)
			}
			socket.Send(make([]byte, 1000)) // more than the system takes
		}})
		conn.CloseWrite()
		sched.Sleep(time.Second)
		stays := allow
		socket.SetAllowHalfOpen(!stays)
		if !inside {
			socket.PauseReading()
			socket.SetHandlers(others)
			socket.ResumeReading()
		}
		sched.Sleep(time.Second)
		want, state := 0, tcpserver.StateClosing
		if stays {
			want, state = 1, tcpserver.StateConnected
		}
		if told != want || socket.State() != state {
			sched.Fail("stays: %v, inside: %v; told %d times, state %v", stays, inside, told, socket.State())
		}
		conn.Close()
		socket.Abort()
		server.Close()
	})
}
