package msgserver

import (
	"context"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/gammazero/deque"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// A ThreadServer decodes the messages of many clients in parallel on the event loops of the poller, and runs its other
// callbacks, one after another, on one goroutine: the worker, which is the one that called [ThreadServer.Run] or
// [ThreadServer.Serve]. The zero value of every field is a good default. The fields must be set before Run and not
// changed while it runs. The methods may be called from any goroutine.
type ThreadServer[Client, Message any] struct {
	// ClientConnected is called for a new client, before anything is read from it. If it returns an error, the client
	// is refused: OnError is called with the error, and no other callback is called for the client. If nil, the client
	// is the zero Client.
	ClientConnected func(socket *tcpserver.TcpSocket) (Client, error)

	// ReadClientMessage decodes the first message in buf and returns its size in bytes, or 0 if buf contains no whole
	// message yet. It is called on the event loops of the poller, in parallel for different clients, but for one client
	// in order and by one goroutine at a time. buf is valid only during the call and is never longer than
	// MaxBufferSize. An error ends the client after the messages before it. bufio.ErrFinalToken does that without being
	// reported, and if n > 0, the message returned with it is the last. If nil, whatever has arrived is one zero
	// Message.
	ReadClientMessage func(client Client, buf []byte) (msg Message, n int, err error)

	// ClientMessage is called for each message of a client, in the order in which they arrived. While more than 256 KiB
	// are queued for the client, its messages wait.
	ClientMessage func(client Client, msg Message)

	// ClientDisconnected is called once for each client that ClientConnected has accepted, after its last message. The
	// socket is closed. err is the reason, or nil after an orderly end.
	ClientDisconnected func(client Client, err error)

	// Update is called every UpdateTime.
	Update func()

	// AfterEvent is called after each other callback on the worker.
	AfterEvent func()

	// OnError is called when ClientConnected refuses a client, when a client's bytes cannot be decoded, and when a
	// callback panics, with a *tcpserver.PanicError and its stack; stack is nil otherwise. An error that concerns one
	// client is a *ClientError; SendData may still send to that client. An end of stream or a reset is not an error,
	// and ErrSlowClient is reported only to ClientDisconnected. If nil, errors are written to ErrorOutput.
	OnError func(err error, stack []byte)

	// ErrorOutput is where errors are written if OnError is nil. If nil, they are written to os.Stderr.
	ErrorOutput io.Writer

	// Threads is the number of event loops on which Run reads and decodes. The default is 10.
	Threads int

	// MaxSocketsPerThread times Threads is the largest number of clients. Further connections are refused. The default
	// is 64.
	MaxSocketsPerThread int

	// InitialBufferSize is the initial size, in bytes, of the buffer for part of a message. A client has one only while
	// it has sent part of a message. The default is 1 KiB (1024).
	InitialBufferSize int

	// MaxBufferSize is the size of the longest message, in bytes. The default is 64 KiB (65536).
	MaxBufferSize int

	// MessageHeaderSize is the size of the shortest message, in bytes: ReadClientMessage is not called with fewer. It
	// must not be larger than MaxBufferSize. The default is 1.
	MessageHeaderSize int

	// Listen is the backlog that Run listens with. The default is 10.
	Listen int

	// ConnectLag is how long a client may take none of the data that SendData has queued for it, as the package
	// documentation describes. The default is 500 ms.
	ConnectLag time.Duration

	// UpdateTime is the time from one Update to the next. The default is one second.
	UpdateTime time.Duration

	// MaxSendBuffer is how many bytes SendData may queue for one client, beyond what the system takes. A client for
	// which more would be queued is dropped with ErrSlowClient. A single call of SendData may send as much. The default
	// is 64 MiB.
	MaxSendBuffer int

	shuttingDown sched.Bool // clients are no longer added or read; set by the worker, with mu held

	mu       sched.Mutex // guards the block below
	wakeup   sched.Cond  // on mu; signalled when the worker may have something to do
	running  bool
	ended    error // why accepting has ended; nil until then
	tasks    deque.Deque[task[Client, Message]]
	sessions map[*tcpserver.TcpSocket]*session[Client, Message] // also before their ClientConnected
	added    uint64                                             // how many clients were added
	refused  uint64
}

// Run listens on the TCP address of host and port and serves as [ThreadServer.Serve] does, with a poller of its own
// that has Threads event loops. If it cannot listen, it returns that error at once.
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

// Serve serves the connections of a server that is already listening. It returns the error of ctx when ctx ends, or
// [tcpserver.ErrServerClosed] when the server is closed elsewhere. Before it returns, it closes the server, handles the
// messages that have been decoded, closes the clients, and waits for the last ClientDisconnected. What SendData has
// queued is still sent, within the server's CloseTimeout. Serve waits for callbacks that are running, ReadClientMessage
// included, however long they take. It returns an error at once if s is already running, which is [ErrRunning], or if
// MessageHeaderSize is larger than MaxBufferSize. After it has returned, it may be called again.
func (s *ThreadServer[C, M]) Serve(ctx context.Context, server *tcpserver.TcpServer) error {
	if err := s.begin(); err != nil {
		return err
	}
	ctx, cancel := sched.WithCancel(ctx)
	defer cancel()
	sched.Go(func() { s.accept(ctx, server) })
	var updates *updateTimer
	if s.Update != nil {
		updates = startUpdates(s.UpdateTime, &s.wakeup)
		defer updates.timer.Stop()
	}
	defer func() { // also if a callback calls runtime.Goexit
		server.Close()
		s.awaitAcceptEnd()
		s.end(updates, server.CloseTimeout)
	}()
	s.runTasks(updates, func() bool { return s.ended != nil })
	return s.ended
}

// awaitAcceptEnd waits until accept, whose server is closed, has ended.
func (s *ThreadServer[C, M]) awaitAcceptEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ended == nil {
		s.wakeup.Wait()
	}
}

// end calls shutdown, again if a callback calls runtime.Goexit there.
func (s *ThreadServer[C, M]) end(updates *updateTimer, limit time.Duration) {
	finished := false
	defer func() {
		if !finished {
			s.end(updates, limit)
		}
	}()
	s.shutdown(updates, limit)
	finished = true
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
	s.running, s.ended = true, nil
	if s.wakeup.L == nil { // the timer of an earlier run may still look at it
		s.wakeup.L = &s.mu
	}
	return nil
}

// accept adds the connections of server until accepting ends, and tells the worker why that was.
func (s *ThreadServer[C, M]) accept(ctx context.Context, server *tcpserver.TcpServer) {
	socket, err := server.AcceptSocket(ctx)
	for ; err == nil; socket, err = server.AcceptSocket(ctx) {
		s.AddSocket(socket)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	s.wakeup.Signal()
}

func (s *ThreadServer[C, M]) headerSize() int  { return orDefault(s.MessageHeaderSize, 1) }
func (s *ThreadServer[C, M]) bufferLimit() int { return orDefault(s.MaxBufferSize, 64<<10) }

// AddSocket adds a connection that was accepted elsewhere as a client. If there are too many clients, or Serve is about
// to return, it closes the connection and counts it in Refused. It may be called before Run and between two Runs. It
// resumes reading if that is paused; CloseRead must not have been called. If socket already belongs to a client, it
// does nothing.
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
	s.added++
	c.number = s.added
	s.sessions[socket] = c
	s.push(task[C, M]{kind: taskConnect, client: c})
	return true
}

// Refused returns how many connections were closed instead of added because there were too many clients, or because
// Serve was about to return.
func (s *ThreadServer[C, M]) Refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// StopClient closes the connection of a client. What SendData has queued is still sent, messages that have already been
// decoded are still handled, nothing more is decoded, and ClientDisconnected follows. A second call does nothing. If
// socket does not belong to a client, StopClient closes it.
func (s *ThreadServer[C, M]) StopClient(socket *tcpserver.TcpSocket) {
	if c := s.session(socket); c != nil {
		c.stop(nil)
	} else {
		socket.Close()
	}
}

// SendData sends data to a client, and queues a copy of what the system does not take. It never waits. A client that
// takes nothing for ConnectLag, or for which more than MaxSendBuffer would be queued, is dropped with [ErrSlowClient].
// Data for a client that is being closed is discarded. If socket does not belong to a client, SendData calls
// [tcpserver.TcpSocket.Send], and aborts the connection if that returns [tcpserver.ErrWriteBufferFull].
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
