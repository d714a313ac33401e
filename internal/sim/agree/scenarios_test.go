package agree

import (
	"context"
	"strings"
	"time"

	"github.com/pullaccept/tcpserver"
)

// A scenario is a sequence of events with one outcome. Each step waits for what the previous one leads to.
type scenario struct {
	name string
	play func(s *stage)
	want string
}

var scenarios = []scenario{
	{"echo", func(s *stage) {
		h := s.handlers()
		h.ReadyRead = func(socket *tcpserver.TcpSocket) {
			p := socket.ReadAll()
			s.read(p)
			socket.Send(p)
		}
		s.serve(h)
		c := s.dial()
		s.send(c, "hello")
		s.receive(c, 5)
		c.CloseWrite()
		s.receive(c, everything)
		s.await("disconnected: nil")
	}, `
server: new connection
server: read hello
server: end of stream
server: disconnected: nil
client: received "hello"
client: received "", then EOF
`},
	{"end of stream without data", func(s *stage) {
		s.serve(s.handlers())
		c := s.dial()
		c.CloseWrite()
		s.receive(c, everything)
		s.await("disconnected: nil")
	}, `
server: new connection
server: end of stream
server: disconnected: nil
client: received "", then EOF
`},
	{"reset by the client", func(s *stage) {
		s.serve(s.handlers())
		c := s.dial()
		s.send(c, "x")
		s.await("read x")
		c.Reset()
		s.await("disconnected: connection reset by peer")
	}, `
server: new connection
server: read x
server: disconnected: connection reset by peer
`},
	{"reset while reading is paused", func(s *stage) {
		h := s.handlers()
		s.serve(h)
		c := s.dial()
		s.send(c, "x")
		s.await("read x")
		s.socket.PauseReading()
		c.Reset()
		s.await("disconnected: connection reset by peer")
	}, `
server: new connection
server: read x
server: disconnected: connection reset by peer
`},
	{"close with unread input", func(s *stage) {
		h := s.handlers()
		h.ReadyRead = func(socket *tcpserver.TcpSocket) {
			if socket.BytesAvailable() == 5 {
				socket.Close()
			}
		}
		s.serve(h)
		c := s.dial()
		s.send(c, "hello")
		s.receive(c, everything)
		s.await("disconnected: nil")
	}, `
server: new connection
server: disconnected: nil
client: received "", then EOF
`},
	{"abort", func(s *stage) {
		h := s.handlers()
		h.ReadyRead = func(socket *tcpserver.TcpSocket) { socket.Abort() }
		s.serve(h)
		c := s.dial()
		s.send(c, "x")
		s.receive(c, everything)
		s.await("disconnected: nil")
	}, `
server: new connection
server: disconnected: nil
client: received "", then reset
`},
	{"panic in a handler", func(s *stage) {
		h := s.handlers()
		h.ReadyRead = func(*tcpserver.TcpSocket) { panic("x") }
		s.serve(h)
		c := s.dial()
		s.send(c, "x")
		s.receive(c, everything)
		s.await("disconnected: panic")
	}, `
server: new connection
server: disconnected: panic
client: received "", then reset
`},
	{"a large answer and close", func(s *stage) {
		h := s.handlers()
		h.ReadyRead = func(socket *tcpserver.TcpSocket) {
			s.read(socket.ReadAll())
			socket.Send(make([]byte, large))
			socket.Close()
		}
		s.serve(h)
		c := s.dial()
		s.send(c, "x")
		s.receive(c, everything)
		s.await("disconnected: nil")
	}, `
server: new connection
server: read x
server: disconnected: nil
client: received all of a large answer, then EOF
`},
	{"the server ends its stream first", func(s *stage) {
		s.serve(s.handlers())
		c := s.dial()
		s.await("new connection")
		s.socket.Send([]byte("bye"))
		s.socket.CloseWrite()
		s.receive(c, everything)
		s.send(c, "late")
		s.await("read late")
		c.CloseWrite()
		s.await("disconnected: nil")
	}, `
server: new connection
server: read late
server: end of stream
server: disconnected: nil
client: received "bye", then EOF
`},
	{"half-open", func(s *stage) {
		s.server.AllowHalfOpen = true
		s.serve(s.handlers())
		c := s.dial()
		c.CloseWrite()
		s.await("end of stream")
		s.socket.Send([]byte("late"))
		s.receive(c, 4)
		s.socket.CloseWrite()
		s.receive(c, everything)
		s.await("disconnected: nil")
	}, `
server: new connection
server: end of stream
server: disconnected: nil
client: received "late"
client: received "", then EOF
`},
	{"a reset connection leaves the queue", func(s *stage) {
		s.listen()
		c := s.dial()
		s.poll("a pending connection", s.server.HasPendingConnections)
		c.Reset()
		s.poll("an empty queue", func() bool { return s.server.Stats().Open == 0 })
		s.note("server", "%+v", s.server.Stats())
	}, `
server: {Accepted:1 Dropped:0 AcceptErrors:0 Pending:0 Open:0}
`},
	{"close with a pending connection", func(s *stage) {
		s.listen()
		c := s.dial()
		s.poll("a pending connection", s.server.HasPendingConnections)
		s.server.Close()
		s.receive(c, everything)
	}, `
client: received "", then EOF
`},
	{"a full queue", func(s *stage) {
		s.server.SetMaxPendingConnections(1)
		s.listen()
		a, b := s.dial(), s.dial()
		s.poll("a pending connection", s.server.HasPendingConnections)
		s.note("server", "accepting: %v", s.server.IsAccepting())
		first := s.server.NextPendingConnection()
		s.poll("the second one", s.server.HasPendingConnections)
		second := s.server.NextPendingConnection()
		first.Close()
		s.receive(a, everything)
		second.Close()
		s.receive(b, everything)
		s.note("server", "accepted %d", s.server.Stats().Accepted)
	}, `
server: accepting: false
server: accepted 2
client: received "", then EOF
client: received "", then EOF
`},
	{"a pause of accepting", func(s *stage) {
		s.server.PauseAccepting()
		s.listen()
		c := s.dial()
		s.send(c, "x")
		s.note("server", "pending: %v", s.server.HasPendingConnections())
		s.server.ResumeAccepting()
		s.poll("a pending connection", s.server.HasPendingConnections)
		s.server.NextPendingConnection().Close()
		s.receive(c, everything)
	}, `
server: pending: false
client: received "", then EOF
`},
	{"a pause of reading", func(s *stage) {
		s.serve(s.handlers())
		c := s.dial()
		s.await("new connection")
		s.socket.PauseReading()
		s.send(c, "x")
		s.poll("a byte", func() bool { return s.socket.BytesAvailable() == 1 })
		s.note("server", "resume")
		s.socket.ResumeReading()
		s.await("read x")
		c.Close()
		s.await("disconnected: nil")
	}, `
server: new connection
server: resume
server: read x
server: end of stream
server: disconnected: nil
`},
	{"blocking reads and writes", func(s *stage) {
		s.listen()
		c := s.dial()
		socket, err := s.server.AcceptSocket(context.Background())
		s.note("server", "accept: %s", name(err))
		p := make([]byte, 10)
		_, err = socket.TryRead(p)
		s.note("server", "try to read: %s", name(err))
		socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err = socket.Read(p)
		s.note("server", "read: %s", name(err))
		socket.SetReadDeadline(time.Time{})
		s.send(c, "hello")
		n, err := socket.Read(p)
		s.note("server", "read %q: %s", p[:n], name(err))
		n, err = socket.Write([]byte("answer"))
		s.note("server", "write %d: %s", n, name(err))
		c.CloseWrite()
		_, err = socket.Read(p)
		s.note("server", "read: %s", name(err))
		socket.Close()
		_, err = socket.Read(p)
		s.note("server", "read: %s", name(err))
		s.receive(c, everything)
	}, `
server: accept: nil
server: try to read: would block
server: read: timeout
server: read "hello": nil
server: write 6: nil
server: read: EOF
server: read: socket closed
client: received "answer", then EOF
`},
	{"a reset ends a blocking read", func(s *stage) {
		s.listen()
		c := s.dial()
		socket, _ := s.server.AcceptSocket(context.Background())
		s.send(c, "x")
		p := make([]byte, 10)
		n, err := socket.Read(p)
		s.note("server", "read %q: %s", p[:n], name(err))
		c.Reset()
		_, err = socket.Read(p)
		s.note("server", "read: %s", name(err))
		s.note("server", "state: %v", socket.State())
	}, `
server: read "x": nil
server: read: connection reset by peer
server: state: Unconnected
`},
	{"an idle timeout", func(s *stage) {
		s.server.IdleTimeout = 100 * time.Millisecond
		s.serve(s.handlers())
		c := s.dial()
		s.receive(c, everything)
		s.await("disconnected: idle timeout")
	}, `
server: new connection
server: disconnected: idle timeout
client: received "", then EOF
`},
	{"close to a client that does not read", func(s *stage) {
		s.server.CloseTimeout = 50 * time.Millisecond
		s.server.WriteBufferSize = 64 << 20
		s.serve(s.handlers())
		c := s.dial()
		s.await("new connection")
		s.socket.Send(make([]byte, tooMuch))
		s.socket.Close()
		s.await("disconnected: timeout")
		for _, err := c.Recv(make([]byte, 1<<16)); ; _, err = c.Recv(make([]byte, 1<<16)) {
			if err != nil {
				s.note("client", "received some, then %s", name(err))
				break
			}
		}
	}, `
server: new connection
server: disconnected: timeout
client: received some, then reset
`},
	{"lines", func(s *stage) {
		h := s.handlers()
		h.ReadyRead = func(socket *tcpserver.TcpSocket) {
			for socket.CanReadLine() {
				line, _ := socket.ReadLine()
				s.note("server", "line %s", strings.TrimSpace(string(line)))
			}
		}
		s.serve(h)
		c := s.dial()
		s.send(c, "one\ntw")
		s.await("line one")
		s.send(c, "o\nthree\n")
		s.await("line three")
		c.CloseWrite()
		s.await("disconnected: nil")
	}, `
server: new connection
server: line one
server: line two
server: line three
server: end of stream
server: disconnected: nil
`},
	{"too many connections", func(s *stage) {
		s.server.SetMaxConnections(1)
		s.server.DropHandler = func(_ *tcpserver.TcpServer, d tcpserver.Drop) {
			s.note("server", "dropped: %v", d.Reason)
		}
		s.serve(s.handlers())
		c := s.dial()
		s.await("new connection")
		d := s.dial()
		s.receive(d, everything)
		s.await("dropped: MaxConnections")
		c.Close()
		s.await("disconnected: nil")
	}, `
server: new connection
server: dropped: MaxConnections
server: end of stream
server: disconnected: nil
client: received "", then EOF
`},
	{"close and listen again", func(s *stage) {
		s.listen()
		addr := s.server.Addr().String()
		s.server.Close()
		_, err := s.server.AcceptSocket(context.Background())
		s.note("server", "accept: %s", name(err))
		if err := s.server.Listen("tcp", addr); err != nil {
			fail(s.t, "listen again: %v", err)
		}
		c := s.dial()
		socket, err := s.server.AcceptSocket(context.Background())
		s.note("server", "accept: %s", name(err))
		socket.Close()
		s.receive(c, everything)
	}, `
server: accept: server closed
server: accept: nil
client: received "", then EOF
`},
}
