//go:build sim

package agree

import (
	"io"
	"testing"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

func TestRawWriteReturnsWhenTheConnectionEnds(t *testing.T) {
	runSeeds(t, 1000, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		raw, err := socket.SyscallConn()
		if err != nil {
			sched.Fail("SyscallConn: %v", err)
		}
		conn.CloseWrite()
		sched.Sleep(time.Second)
		socket.Read(make([]byte, 1))
		sched.Go(func() { raw.Control(func(uintptr) { sched.Sleep(time.Minute) }) }) // it keeps the descriptor open
		sched.Sleep(time.Second)
		returned := false
		sched.Go(func() {
			raw.Write(func(uintptr) bool { return false })
			returned = true
		})
		points(30)
		socket.CloseWrite() // both directions have ended
		sched.Sleep(time.Hour)
		if !returned {
			sched.Fail("Write of the raw connection has not returned, state %v", socket.State())
		}
		conn.Close()
		server.Close()
	})
}

func TestIdleTimeoutThatIsRemovedEndsNothing(t *testing.T) {
	runSeeds(t, 5000, sim.Config{}, func() {
		server := &tcpserver.TcpServer{IdleTimeout: time.Second}
		socket, conn := mustConnect(server)
		sched.Sleep(time.Second + time.Duration(sched.Intn(3))*100*time.Millisecond)
		points(60)
		socket.SetIdleTimeout(0)
		state := socket.State()
		sched.Sleep(time.Minute)
		if state == tcpserver.StateConnected && socket.State() != state {
			sched.Fail("the connection has ended after SetIdleTimeout(0): %v", socket.Err())
		}
		conn.Close()
		socket.Abort()
		server.Close()
	})
}

// A CloseTimeout that passes when the queue has just been sent has cut off nothing.
func TestErrIsNilIfAllWasSentAtCloseTimeout(t *testing.T) {
	const size = 192
	runSeeds(t, 1000, narrow, func() {
		server := &tcpserver.TcpServer{CloseTimeout: time.Second}
		socket, conn := mustConnect(server)
		socket.Send(make([]byte, size))
		sched.Sleep(time.Millisecond)
		socket.Close()
		sched.Sleep(time.Second)
		points(10)
		got := 0
		var end error
		for p := make([]byte, 64); end == nil; {
			var n int
			n, end = conn.Recv(p)
			got += n
		}
		sched.Sleep(time.Second)
		if err := socket.Err(); (got == size && end == io.EOF) != (err == nil) {
			sched.Fail("the client got %d bytes and %v, Err: %v", got, end, err)
		}
		conn.Close()
		server.Close()
	})
}

// NewConnectionHandler may set handlers for a socket that has ended, or ends meanwhile.
func TestClosedHandlerComesAfterDisconnectedOfLateHandlers(t *testing.T) {
	runSeeds(t, 2000, sim.Config{}, func() {
		closed, disconnected, set := false, false, false
		server := &tcpserver.TcpServer{ClosedHandler: func(*tcpserver.TcpServer, error) { closed = true }}
		server.NewConnectionHandler = func(s *tcpserver.TcpServer) {
			socket := s.NextPendingConnection()
			if socket == nil {
				return
			}
			points(20)
			socket.SetHandlers(&tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) {
				if closed {
					sched.Fail("Disconnected after ClosedHandler")
				}
				disconnected = true
			}})
			set = true
		}
		server.Listen("tcp", "127.0.0.1:0")
		conn := mustDial(server)
		points(100)
		server.Close()
		server.CloseConnections()
		sched.Sleep(time.Minute)
		if set != disconnected || !closed {
			sched.Fail("handlers were set: %v, Disconnected: %v, ClosedHandler: %v", set, disconnected, closed)
		}
		conn.Close()
	})
}

// Handlers may be set beside the end of the connection and beside Shutdown, more than once, and removed again. The
// server, the poller and Wait count as before.
func TestShutdownWaitsForHandlersThatAreSetBesideTheEnd(t *testing.T) {
	runSeeds(t, 2000, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		if sched.Intn(2) == 0 {
			server.Executor = func(f func()) { sched.Go(f) }
		}
		socket, conn := mustConnect(server)
		down, set, told := false, false, 0
		handlers := func() *tcpserver.SocketHandlers {
			return &tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) {
				told++
				sched.Sleep(time.Second)
				if down && set {
					sched.Fail("Shutdown has returned before Disconnected")
				}
			}}
		}
		sched.Go(func() {
			points(30)
			socket.Abort()
		})
		sched.Go(func() {
			server.Shutdown(sched.NewContext(time.Hour))
			down = true
		})
		points(60)
		switch sched.Intn(3) {
		case 0:
			socket.SetHandlers(handlers())
			socket.SetHandlers(nil)
		case 1:
			socket.SetHandlers(&tcpserver.SocketHandlers{})
		}
		sched.Go(func() { socket.SetHandlers(handlers()) })
		socket.SetHandlers(handlers())
		set = !down
		sched.Sleep(time.Minute)
		if told != 1 || !down {
			sched.Fail("Disconnected was called %d times, Shutdown has returned: %v", told, down)
		}
		if err := tcpserver.Wait(sched.NewContext(time.Hour)); err != nil {
			sched.Fail("Wait: %v", err)
		}
		conn.Close()
	})
}

// What is unread when the connection ends may be announced only after that, when reading is resumed.
func TestShutdownWaitsForHandlersThatResumeReadingCalls(t *testing.T) {
	runSeeds(t, 500, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		conn.Send([]byte("hello"))
		sched.Sleep(time.Second)
		socket.Peek(5)
		socket.PauseReading()
		begun, returned := false, false
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) {
			begun = true
			sched.Sleep(time.Second)
			returned = true
		}})
		sched.Go(func() { conn.Reset() })
		points(40)
		socket.ResumeReading()
		socket.WaitForDisconnected(sched.NewContext(time.Minute))
		if err := server.Shutdown(sched.NewContext(time.Minute)); err != nil {
			sched.Fail("Shutdown: %v", err)
		}
		if begun && !returned {
			sched.Fail("Shutdown has returned before ReadyRead")
		}
		sched.Sleep(time.Minute)
		if !returned {
			sched.Fail("ReadyRead was not called")
		}
	})
}
