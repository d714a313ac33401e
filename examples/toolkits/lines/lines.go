// Package lines is the server that the programs of this module show: it counts clients and lines, and answers each line
// with its number. A client that sends "quit" ends the program.
package lines

import (
	"bytes"
	"fmt"

	"github.com/pullaccept/tcpserver"
)

// maxLine is the length of the longest line, in bytes. A client that sends a longer one is dropped.
const maxLine = 4 << 10

// A Server is used on the thread of the user interface. Its handlers run there, too, so there is no mutex. The zero
// value is ready to use once Changed and Quit are set.
type Server struct {
	Changed func() // shows what String returns
	Quit    func() // ends the program

	server  tcpserver.TcpServer
	clients map[*tcpserver.TcpSocket]struct{}
	lines   int
	last    string
}

// Listen listens on addr, HOST:PORT. exec runs the handlers on the thread of the user interface.
func (s *Server) Listen(addr string, exec tcpserver.Executor) error {
	s.clients = make(map[*tcpserver.TcpSocket]struct{})
	s.server.Executor = exec
	s.server.NewConnectionHandler = s.connected
	return s.server.Listen("tcp", addr)
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() string { return s.server.Addr().String() }

// Close closes the server and its connections. It is called before the toolkit ends; no handler runs after it. It may
// be called again.
func (s *Server) Close() {
	s.server.Close()
	for socket := range s.clients {
		socket.SetHandlers(nil)
		socket.Close() // in the background, when what was sent has left
	}
	clear(s.clients)
}

// String describes what has happened.
func (s *Server) String() string {
	return fmt.Sprintf("clients: %d\nlines: %d\nlast: %q", len(s.clients), s.lines, s.last)
}

func (s *Server) connected(server *tcpserver.TcpServer) {
	socket := server.NextPendingConnection()
	if socket == nil {
		return // it has gone
	}
	s.clients[socket] = struct{}{}
	var text []byte // the beginning of a line
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) { text = s.received(socket, append(text, socket.ReadAll()...)) },
		Disconnected: func(socket *tcpserver.TcpSocket, _ error) {
			delete(s.clients, socket)
			s.Changed()
		},
	})
	s.Changed()
}

// received answers the lines in text, shows all of them at once, and returns the rest. A client that does not take its
// answers is dropped when the send queue is full.
func (s *Server) received(socket *tcpserver.TcpSocket, text []byte) []byte {
	var answers []byte
	quit := false
	for {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole {
			break
		}
		if len(line) > maxLine {
			socket.Abort()
			return nil
		}
		s.lines++
		s.last = string(bytes.TrimSuffix(line, []byte{'\r'}))
		answers = fmt.Appendf(answers, "%d: %s\n", s.lines, s.last)
		quit = quit || s.last == "quit"
		text = rest
	}
	if len(text) > maxLine || len(answers) > 0 && socket.Send(answers) != nil {
		socket.Abort()
	}
	s.Changed()
	if quit {
		s.Close()
		s.Quit()
	}
	return text
}
