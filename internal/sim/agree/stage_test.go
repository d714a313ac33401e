package agree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// A stage is where a scenario takes place.
type stage struct {
	t      *testing.T
	server *tcpserver.TcpServer
	socket *tcpserver.TcpSocket // the last one that was taken

	mu    sched.Mutex // guards the block below
	news  *sched.Cond
	lines map[string][]string // what each party has seen
}

// A client is the other end of a connection. Each system has its own.
type client interface {
	Send(p []byte) error
	Recv(p []byte) (int, error) // io.EOF at the end of the stream, errReset after a reset
	CloseWrite()
	Close()
	Reset()
}

var errReset = errors.New("reset")

func newStage(t *testing.T) *stage {
	s := &stage{t: t, lines: map[string][]string{}}
	s.news = sched.NewCond(&s.mu)
	s.server = &tcpserver.TcpServer{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	return s
}

// listen listens with the present configuration.
func (s *stage) listen() {
	if err := s.server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fail(s.t, "listen: %v", err)
	}
}

// serve takes each connection and sets h.
func (s *stage) serve(h *tcpserver.SocketHandlers) {
	s.server.NewConnectionHandler = func(server *tcpserver.TcpServer) {
		socket := server.NextPendingConnection()
		s.mu.Lock()
		s.socket = socket
		s.mu.Unlock()
		s.note("server", "new connection")
		socket.SetHandlers(h)
	}
	s.listen()
}

// handlers returns handlers that read everything and note what they are told.
func (s *stage) handlers() *tcpserver.SocketHandlers {
	return &tcpserver.SocketHandlers{
		ReadyRead:    func(socket *tcpserver.TcpSocket) { s.read(socket.ReadAll()) },
		ReadClosed:   func(*tcpserver.TcpSocket) { s.note("server", "end of stream") },
		Disconnected: func(_ *tcpserver.TcpSocket, err error) { s.note("server", "disconnected: %s", name(err)) },
	}
}

// name returns the name of an error, which is the same on all systems.
func name(err error) string {
	var failure *tcpserver.PanicError
	switch {
	case err == nil:
		return "nil"
	case errors.As(err, &failure):
		return "panic"
	}
	for _, sentinel := range []error{io.EOF, tcpserver.ErrReset, tcpserver.ErrIdleTimeout, tcpserver.ErrSocketClosed,
		tcpserver.ErrServerClosed, tcpserver.ErrWouldBlock, tcpserver.ErrWriteBufferFull} {
		if errors.Is(err, sentinel) {
			return strings.TrimPrefix(sentinel.Error(), "tcpserver: ")
		}
	}
	if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
		return "timeout"
	}
	return err.Error()
}

// note adds a line to what a party has seen.
func (s *stage) note(party, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines[party] = append(s.lines[party], fmt.Sprintf(format, args...))
	s.news.Broadcast()
}

// read notes bytes that the server has read. How they were cut on the way makes no difference.
func (s *stage) read(p []byte) {
	if len(p) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines["server"]
	if n := len(lines); n > 0 && strings.HasPrefix(lines[n-1], "read ") {
		lines[n-1] += string(p)
	} else {
		s.lines["server"] = append(lines, "read "+string(p))
	}
	s.news.Broadcast()
}

// await waits until the server has seen line last.
func (s *stage) await(line string) {
	s.until(line, func() bool {
		lines := s.lines["server"]
		return len(lines) > 0 && lines[len(lines)-1] == line
	})
}

// until waits until condition holds. It is asked under mu after each note.
func (s *stage) until(what string, condition func() bool) {
	over := false
	timer := sched.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.news.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	for !condition() && !over {
		s.news.Wait()
	}
	s.mu.Unlock()
	if over {
		fail(s.t, "waiting for %q; there is %q", what, s.lines)
	}
}

// patience is how long to wait for something that must happen.
const patience = 20 * time.Second

// poll waits until a property of the server, which nobody is told of, is as it should be.
func (s *stage) poll(what string, condition func() bool) {
	for range 2000 {
		if condition() {
			return
		}
		pause(10 * time.Millisecond)
	}
	fail(s.t, "waiting for %s", what)
}

// receive reads n bytes, or to the end, and notes them.
func (s *stage) receive(c client, n int) {
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for got.Len() < n {
		m, err := c.Recv(buf[:min(len(buf), n-got.Len())])
		got.Write(buf[:m])
		if err != nil {
			s.note("client", "received %s, then %s", brief(got.Bytes()), name(err))
			return
		}
	}
	s.note("client", "received %s", brief(got.Bytes()))
}

// brief returns what was received, or how much if it is long.
func brief(p []byte) string {
	switch {
	case len(p) == large:
		return "all of a large answer"
	case len(p) > 30:
		return fmt.Sprintf("%d bytes", len(p))
	}
	return fmt.Sprintf("%q", p)
}

func (s *stage) send(c client, text string) {
	if err := c.Send([]byte(text)); err != nil {
		fail(s.t, "send: %v", err)
	}
}

// everything is more than any client sends or receives here.
const everything = 1 << 30

// result returns what each party has seen.
func (s *stage) result() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, party := range []string{"server", "client"} {
		for _, line := range s.lines[party] {
			fmt.Fprintf(&b, "%s: %s\n", party, line)
		}
	}
	return b.String()
}

// end ends what is left.
func (s *stage) end() {
	s.server.Close()
	s.server.CloseConnections()
}
