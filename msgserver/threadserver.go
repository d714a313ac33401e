package msgserver

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gammazero/deque"

	"github.com/pullaccept/tcpserver"
)

// A ThreadServer decodes the messages of many clients in parallel, and calls back on one goroutine, the worker, which
// is the one that called Run or Serve. The zero value of each field is a good default. The fields are set before Run
// and not changed while it runs; the methods may be called from any goroutine.
type ThreadServer[Client, Message any] struct {
	// ClientConnected is called for a new client, before anything is read from it. An error refuses the client; it is
	// told to OnError, and no other callback is called. nil: the client is the zero Client.
	ClientConnected func(socket *tcpserver.TcpSocket) (Client, error)

	// ReadClientMessage decodes the first message in buf and returns how many bytes of buf it takes; 0: there is no
	// whole message yet. It is called on the loops of the poller, for several clients at a time, but for one client
	// in order and by one goroutine at a time. buf is valid during the call, and never longer than MaxBufferSize. An
	// error ends the client after the messages before it; bufio.ErrFinalToken does so without being reported, and the
	// message that comes with it, if n > 0, is the last. nil: everything is one zero Message.
	ReadClientMessage func(client Client, buf []byte) (msg Message, n int, err error)

	// ClientMessage is called for each message, in the order in which they came. While more than 256 KiB are queued
	// for a client, its messages wait.
	ClientMessage func(client Client, msg Message)

	// ClientDisconnected is called once for each client that ClientConnected has accepted, after its last message. The
	// socket is closed. err is why; nil for an orderly end.
	ClientDisconnected func(client Client, err error)

	// Update is called every UpdateTime.
	Update func()

	// AfterEvent is called after each other callback on the worker.
	AfterEvent func()

	// OnError is told of clients that were refused, could not be decoded, or made a callback panic, which is a
	// *tcpserver.PanicError; stack is nil unless it was a panic. Where one client is concerned err is a *ClientError.
	// It may still be sent something then. An end of stream or a reset is no error, and a client that is dropped with
	// ErrSlowClient is told to ClientDisconnected alone. nil: it is written to ErrorOutput.
	OnError func(err error, stack []byte)

	// ErrorOutput is where errors are written without OnError. nil: os.Stderr.
	ErrorOutput io.Writer

	Threads             int // loops that read and decode, for Run. 0: 10
	MaxSocketsPerThread int // Threads times that many clients are served; others are refused. 0: 64
	InitialBufferSize   int // bytes of a buffer for part of a message, which a client has only then. 0: 1 KiB (1024)
	MaxBufferSize       int // bytes of the longest message. 0: 64 KiB (65536)
	MessageHeaderSize   int // bytes of the shortest message: with fewer ReadClientMessage is not called. 0: 1
	Listen              int // connections that the system queues, for Run. 0: 10

	// ConnectLag is how long a client may take nothing of what SendData has queued for it; the package's documentation
	// says what that means. 0: 500 ms.
	ConnectLag time.Duration
	// UpdateTime is the time from Update to Update. 0: a second.
	UpdateTime time.Duration

	// MaxSendBuffer is how many bytes SendData may queue for one client, beyond what the system takes. A client for
	// which it would be more is dropped with ErrSlowClient. A single piece of data may be as long. 0: 64 MiB.
	MaxSendBuffer int

	shuttingDown atomic.Bool // clients are not added, and not read any more; written by the worker, with mu held

	mu       sync.Mutex // guards the block below
	wakeup   chan struct{}
	tasks    deque.Deque[task[Client, Message]]
	sessions map[*tcpserver.TcpSocket]*session[Client, Message] // those whose ClientConnected is still to come, too
	refused  uint64
	running  bool
}

// Run listens on TCP, and serves until ctx ends, whose error it returns. An error of listening is returned at once.
func (s *ThreadServer[C, M]) Run(ctx context.Context, host string, port int) error {
	poller, err := tcpserver.NewPoller(orDefault(s.Threads, 10))
	if err != nil {
		return err
	}
	server := &tcpserver.TcpServer{Poller: poller, Backlog: orDefault(s.Listen, 10)}
	if err := server.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
		return err
	}
	defer server.Close()
	return s.Serve(ctx, server)
}

// Serve takes the connections of a server that listens already, until ctx ends, whose error it returns, or until the
// server is closed by somebody else: tcpserver.ErrServerClosed. At the end it closes the server, handles the messages
// that have been decoded, closes the clients, and returns after the last ClientDisconnected. What was sent to the
// clients is still sent, within the server's CloseTimeout.
func (s *ThreadServer[C, M]) Serve(ctx context.Context, server *tcpserver.TcpServer) error {
	if err := s.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			socket, err := server.AcceptSocket(ctx)
			if err != nil {
				ended <- err
				return
			}
			s.AddSocket(socket)
		}
	}()
	defer cancel()
	err := s.runWorker(ended)
	server.Close()
	s.shutdown(server.CloseTimeout)
	return err
}

func (s *ThreadServer[C, M]) begin() error {
	if s.headerSize() > s.bufferLimit() {
		return errHeaderSize
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return ErrRunning
	}
	s.running = true
	if s.wakeup == nil {
		s.wakeup = make(chan struct{}, 1)
	}
	return nil
}

func (s *ThreadServer[C, M]) headerSize() int  { return orDefault(s.MessageHeaderSize, 1) }
func (s *ThreadServer[C, M]) bufferLimit() int { return orDefault(s.MaxBufferSize, 64<<10) }

// AddSocket makes a client of a connection that was taken elsewhere, or refuses it if there are too many. It may be
// called before Run and between two Runs. A socket that is a client already stays as it is.
func (s *ThreadServer[C, M]) AddSocket(socket *tcpserver.TcpSocket) {
	if !s.register(socket) {
		socket.Close()
	}
}

func (s *ThreadServer[C, M]) register(socket *tcpserver.TcpSocket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[socket] != nil {
		return true
	}
	if s.shuttingDown.Load() || len(s.sessions) >= orDefault(s.Threads, 10)*orDefault(s.MaxSocketsPerThread, 64) {
		s.refused++
		return false
	}
	if s.sessions == nil {
		s.sessions = make(map[*tcpserver.TcpSocket]*session[C, M])
	}
	c := newSession(s, socket)
	s.sessions[socket] = c
	s.push(task[C, M]{kind: taskConnect, client: c})
	return true
}

// Refused returns how many connections were closed because there were too many clients.
func (s *ThreadServer[C, M]) Refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// StopClient closes the connection of a client: what was sent to it is still sent, nothing more is read, and
// ClientDisconnected follows. Messages that were decoded before are still passed on. A second call does nothing. A
// socket that is no client's is closed.
func (s *ThreadServer[C, M]) StopClient(socket *tcpserver.TcpSocket) {
	if c := s.session(socket); c != nil {
		c.stop(nil)
	} else {
		socket.Close()
	}
}

// SendData sends data to a client, or queues a copy of what the system does not take. It never waits. A client that
// takes nothing for ConnectLag, or for which more than MaxSendBuffer would be queued, is dropped with ErrSlowClient. A
// client that is being ended gets nothing any more. For a socket that is no client's it is the socket's Send, but ends
// the connection if that is refused.
func (s *ThreadServer[C, M]) SendData(socket *tcpserver.TcpSocket, data []byte) {
	c := s.session(socket)
	switch {
	case c == nil:
		if socket.Send(data) == tcpserver.ErrWriteBufferFull {
			socket.Abort()
		}
	case !c.closing.Load():
		if err := c.send(data); err != nil {
			c.abortWith(err)
		}
	}
}

func (s *ThreadServer[C, M]) session(socket *tcpserver.TcpSocket) *session[C, M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[socket]
}
