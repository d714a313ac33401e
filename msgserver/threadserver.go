package msgserver

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gammazero/deque"

	"github.com/pullaccept/tcpserver"
)

// A ThreadServer decodes the messages of many clients in parallel, and calls back on one goroutine, the worker, which is
// the one that called Run or Serve. The zero value of each field is a good default. The fields are set before Run and
// not changed while it runs; the methods may be called from any goroutine.
type ThreadServer[Client, Message any] struct {
	// ClientConnected is called for a new client, before anything is read from it. An error refuses the client; it is
	// told to OnError, and no other callback is called. nil: the client is the zero Client.
	ClientConnected func(socket *tcpserver.TcpSocket) (Client, error)

	// ReadClientMessage decodes the first message in buf and returns how many bytes of buf it takes; 0: there is no
	// whole message yet. It is called on the loops of the poller, for several clients at a time, but for one client
	// in order and by one goroutine at a time. buf is valid during the call. An error ends the client. nil: everything
	// is one zero Message.
	ReadClientMessage func(client Client, buf []byte) (msg Message, n int, err error)

	// ClientMessage is called for each message, in the order in which they came.
	ClientMessage func(client Client, msg Message)

	// ClientDisconnected is called once for each client that ClientConnected has accepted, after its last message. The
	// socket is closed. err is why; nil for an orderly end.
	ClientDisconnected func(client Client, err error)

	// Update is called every UpdateTime.
	Update func()

	// AfterEvent is called after each other callback on the worker.
	AfterEvent func()

	// OnError is told of clients that were refused, could not be decoded, or made a callback panic; stack is nil
	// unless it was a panic. An end of stream or a reset is no error. nil: it is written to ErrorOutput.
	OnError func(err error, stack []byte)

	// ErrorOutput is where errors are written without OnError. nil: os.Stderr.
	ErrorOutput io.Writer

	Threads             int // loops that read and decode, for Run. 0: 10
	MaxSocketsPerThread int // Threads times that many clients are served; others are refused. 0: 64
	InitialBufferSize   int // bytes of a buffer for part of a message, which a client has only then. 0: 1 KiB (1024)
	MaxBufferSize       int // bytes that such a buffer may have. 0: 64 KiB (65536)
	MessageHeaderSize   int // bytes of the shortest message: with fewer ReadClientMessage is not called. 0: 1
	Listen              int // connections that the system queues, for Run. 0: 10

	// ConnectLag is how long a client may take nothing of what SendData has queued for it. 0: 500 ms.
	ConnectLag time.Duration
	// UpdateTime is the time from Update to Update. 0: a second.
	UpdateTime time.Duration

	mu       sync.Mutex // guards the block below
	wake     chan struct{}
	tasks    deque.Deque[task[Client, Message]]
	sessions map[*tcpserver.TcpSocket]*session[Client, Message]
	lagging  map[*tcpserver.TcpSocket]struct{} // whose lag is being watched
	assigned int                               // clients, those whose ClientConnected is still to come among them
	refused  uint64
	running  bool
	ending   bool
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
// server is closed by somebody else: tcpserver.ErrServerClosed. At the end it closes the server and its clients, and
// returns after the last ClientDisconnected. What was sent to the clients is still sent, within the server's
// CloseTimeout.
func (s *ThreadServer[C, M]) Serve(ctx context.Context, server *tcpserver.TcpServer) error {
	if !s.begin() {
		return ErrRunning
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
	err := s.work(ended)
	server.Close()
	s.finish()
	return err
}

func (s *ThreadServer[C, M]) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return false
	}
	s.running, s.ending = true, false
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	s.sessions = make(map[*tcpserver.TcpSocket]*session[C, M])
	s.lagging = make(map[*tcpserver.TcpSocket]struct{})
	return true
}

// work is the worker, until accepting has ended.
func (s *ThreadServer[C, M]) work(ended <-chan error) error {
	updates := time.NewTicker(orDefault(s.UpdateTime, time.Second))
	defer updates.Stop()
	s.nudge() // for what was queued before
	for {
		select {
		case err := <-ended:
			return err
		case <-updates.C:
			s.update()
		case <-s.wake:
			s.runTasks(updates.C)
		}
	}
}

// finish ends the clients, and works until all have ended.
func (s *ThreadServer[C, M]) finish() {
	s.mu.Lock()
	s.ending = true
	var open []*tcpserver.TcpSocket
	for socket := range s.sessions {
		open = append(open, socket)
	}
	s.mu.Unlock()
	for _, socket := range open {
		socket.Close()
	}
	for {
		s.runTasks(nil)
		s.mu.Lock()
		if s.assigned == 0 && s.tasks.Len() == 0 {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		<-s.wake
	}
}

// AddSocket makes a client of a connection that was taken elsewhere, or refuses it if there are too many. It may be
// called before Run.
func (s *ThreadServer[C, M]) AddSocket(socket *tcpserver.TcpSocket) {
	s.mu.Lock()
	if s.ending || s.assigned >= orDefault(s.Threads, 10)*orDefault(s.MaxSocketsPerThread, 64) {
		s.refused++
		s.mu.Unlock()
		socket.Close()
		return
	}
	s.assigned++
	s.push(task[C, M]{kind: taskConnect, socket: socket})
	s.mu.Unlock()
}

// Refused returns how many connections were closed because there were too many clients.
func (s *ThreadServer[C, M]) Refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// StopClient closes the connection of a client: what was sent to it is still sent, nothing more is read, and
// ClientDisconnected follows. Messages that were decoded before are still passed on. A second call does nothing.
func (s *ThreadServer[C, M]) StopClient(socket *tcpserver.TcpSocket) { socket.Close() }

// Work has f called on the worker, in order with everything else there. It may be called before Run; what is queued
// when Run ends waits for the next one.
func (s *ThreadServer[C, M]) Work(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.push(task[C, M]{kind: taskWork, work: f})
}

// SendData sends data to a client, or queues what the system does not take. It never waits. A client that takes nothing
// for ConnectLag, or for which more is queued than the WriteBufferSize of its server, 1 MiB by default, is disconnected.
func (s *ThreadServer[C, M]) SendData(socket *tcpserver.TcpSocket, data []byte) {
	switch err := socket.Send(data); {
	case err == tcpserver.ErrWriteBufferFull:
		s.end(socket, errSlow)
	case err == nil && socket.BytesToWrite() > 0:
		s.watch(socket)
	}
}

// end aborts a connection for a reason of ours.
func (s *ThreadServer[C, M]) end(socket *tcpserver.TcpSocket, cause error) {
	s.mu.Lock()
	if c := s.sessions[socket]; c != nil && c.cause == nil {
		c.cause = cause
	}
	s.mu.Unlock()
	socket.Abort()
}

// watch sees to it that a client for which something is queued takes some of it in time.
func (s *ThreadServer[C, M]) watch(socket *tcpserver.TcpSocket) {
	s.mu.Lock()
	_, watched := s.lagging[socket]
	if !watched {
		s.lagging[socket] = struct{}{}
	}
	s.mu.Unlock()
	if !watched {
		s.await(socket)
	}
}

func (s *ThreadServer[C, M]) await(socket *tcpserver.TcpSocket) {
	before := socket.BytesSent()
	time.AfterFunc(orDefault(s.ConnectLag, 500*time.Millisecond), func() {
		s.mu.Lock()
		waiting := socket.BytesToWrite() > 0
		if !waiting {
			delete(s.lagging, socket)
		}
		s.mu.Unlock()
		switch {
		case !waiting:
		case socket.BytesSent() > before:
			s.await(socket)
		default:
			s.end(socket, errSlow)
		}
	})
}

// A task is something for the worker.
type task[C, M any] struct {
	kind   taskKind
	socket *tcpserver.TcpSocket // taskConnect
	client *session[C, M]       // taskMessage, taskDisconnect
	msg    M                    // taskMessage
	err    error                // taskDisconnect, taskError
	work   func()               // taskWork
}

type taskKind uint8

const (
	taskConnect taskKind = iota
	taskMessage
	taskDisconnect
	taskError
	taskWork
)

// push queues a task. mu is held.
func (s *ThreadServer[C, M]) push(t task[C, M]) {
	s.tasks.PushBack(t)
	if s.tasks.Len() == 1 && s.wake != nil {
		s.nudge()
	}
}

// nudge wakes the worker.
func (s *ThreadServer[C, M]) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// runTasks runs what is queued, and the updates that come up meanwhile.
func (s *ThreadServer[C, M]) runTasks(updates <-chan time.Time) {
	for {
		s.mu.Lock()
		if s.tasks.Len() == 0 {
			s.mu.Unlock()
			return
		}
		t := s.tasks.PopFront()
		s.mu.Unlock()
		s.runTask(t)
		select {
		case <-updates:
			s.update()
		default:
		}
	}
}

func (s *ThreadServer[C, M]) runTask(t task[C, M]) {
	switch t.kind {
	case taskConnect:
		s.connect(t.socket)
	case taskMessage:
		if s.ClientMessage != nil {
			if err := try(func() { s.ClientMessage(t.client.client, t.msg) }); err != nil {
				s.report(err)
				s.end(t.client.socket, err)
			}
		}
		t.client.handled()
	case taskDisconnect:
		s.disconnect(t.client, t.err)
	case taskError:
		s.report(t.err)
	case taskWork:
		s.guard(t.work)
	}
	s.afterEvent()
}

func (s *ThreadServer[C, M]) connect(socket *tcpserver.TcpSocket) {
	c := &session[C, M]{server: s, socket: socket}
	var err error
	if s.ClientConnected != nil {
		if failure := try(func() { c.client, err = s.ClientConnected(socket) }); failure != nil {
			err = failure
		}
		if err != nil {
			s.report(err)
		}
	}
	s.mu.Lock()
	refused := err != nil || s.ending
	if refused {
		s.assigned--
	} else {
		s.sessions[socket] = c
	}
	s.mu.Unlock()
	if refused {
		socket.Close()
		if err == nil {
			s.tellDisconnected(c, nil)
		}
		return
	}
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: c.readyRead, Disconnected: c.disconnected})
}

func (s *ThreadServer[C, M]) disconnect(c *session[C, M], err error) {
	s.mu.Lock()
	delete(s.sessions, c.socket)
	delete(s.lagging, c.socket)
	s.assigned--
	if c.cause != nil {
		err = c.cause
	}
	s.mu.Unlock()
	s.tellDisconnected(c, err)
}

func (s *ThreadServer[C, M]) tellDisconnected(c *session[C, M], err error) {
	if s.ClientDisconnected != nil {
		s.guard(func() { s.ClientDisconnected(c.client, err) })
	}
}

func (s *ThreadServer[C, M]) update() {
	if s.Update != nil {
		s.guard(s.Update)
		s.afterEvent()
	}
}

func (s *ThreadServer[C, M]) afterEvent() {
	if s.AfterEvent != nil {
		s.guard(s.AfterEvent)
	}
}

// guard calls a callback that belongs to no client, or to none any more.
func (s *ThreadServer[C, M]) guard(f func()) {
	if err := try(f); err != nil {
		s.report(err)
	}
}

// report tells OnError. If that panics too, the panic is written at least.
func (s *ThreadServer[C, M]) report(err error) {
	if s.OnError != nil {
		if err = try(func() { s.OnError(err, stackOf(err)) }); err == nil {
			return
		}
	}
	printError(s.ErrorOutput, err)
}
