// Package tcpserver is a TCP server from which connections are pulled, in the manner of Qt's QTcpServer.
//
// A TcpServer accepts connections into a bounded queue and tells the program, which takes them when it likes. While
// the queue is full, or accepting is paused, the rest wait in the system. What the program takes is a TcpSocket: a
// net.Conn that can also be asked what has come, be read and written without waiting, and call handlers. A few event
// loops serve all sockets, so that an idle one costs neither a goroutine nor a buffer.
//
// There are three ways to write a server, which may be mixed:
//
//   - A loop: for socket := range server.Connections(ctx), and a goroutine a client that reads and writes.
//   - Handlers on the poller: NewConnectionHandler and TcpSocket.SetHandlers. They run on the event loops.
//   - Handlers on an Executor: the same, on the thread that owns a user interface.
//
// # Concurrency
//
// Multiple goroutines may invoke methods on a TcpServer or a TcpSocket simultaneously. Handlers of one object run
// one at a time and in order, never with a lock held and never inside a method that the program called; handlers of
// different objects may run at the same time. Under an Executor all handlers of a server and its sockets run one at
// a time.
//
// # Platforms
//
// Linux, with epoll. Elsewhere the package compiles, Supported returns false and Listen returns ErrUnsupported.
package tcpserver

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gammazero/deque"
)

var _ net.Listener = (*TcpServer)(nil)

// A TcpServer listens for connections and queues them. The zero value is ready for Listen. It is not copied after
// its first use. The fields are copied by Listen: a change counts from the next Listen.
//
// Once the program no longer uses a server it calls Close. The sockets that it took live on.
type TcpServer struct {
	// NewConnectionHandler is called once for each connection, after it was queued. It may take that one, or any
	// number, or none. One that was reset by its peer meanwhile, or taken elsewhere, is no longer there.
	NewConnectionHandler func(server *TcpServer)

	// AcceptErrorHandler is called when accepting fails. For want of descriptors or memory it is called once when
	// that begins; the server tries again by itself, after 5 ms, later up to a second, and at once when one of its
	// sockets ends. Any other error that a single connection cannot explain has ended the listening: IsListening
	// is false then. err is a *net.OpError.
	AcceptErrorHandler func(server *TcpServer, err error)

	// Executor runs the handlers of the server and of its sockets, and the callbacks of the Async methods. nil: a
	// goroutine of the poller.
	Executor Executor

	// Poller serves the server and its sockets. nil: the one that all such servers of the process share.
	Poller *Poller

	// Backlog is how many connections the system queues that were not accepted yet. 0: the system's maximum.
	// Negative: Listen returns ErrBacklog.
	Backlog int

	// AllowHalfOpen keeps a socket with handlers open for sending after the peer has finished: ReadClosed does not
	// lead to the end of the connection. false: it does, as soon as what Send has queued is sent.
	AllowHalfOpen bool

	// IdleTimeout ends sockets on which nothing was received and nothing sent for that long, with ErrIdleTimeout.
	// It is up to two tenths of a second late. 0 or negative: never.
	IdleTimeout time.Duration

	// CloseTimeout is how long a socket goes on sending, after Close, what Send has queued. Then the connection is
	// reset. 0: 5 seconds. Negative: without limit.
	CloseTimeout time.Duration

	// ReadBufferSize is how many bytes a socket holds unread before it stops taking more from the system. 0 or
	// negative: 64 KiB (65536).
	ReadBufferSize int

	// WriteBufferSize is how many bytes Send queues before it returns ErrWriteBufferFull. 0 or negative: 1 MiB
	// (1048576).
	WriteBufferSize int

	// Logger is told of handlers that panic. nil: silent.
	Logger *slog.Logger

	mu   sync.Mutex // guards what follows, and the listening descriptor
	cond *sync.Cond // on mu: something was queued, or listening has ended; nil until somebody waits

	cur     *listener // nil while not listening
	closed  bool      // Close was called, or listening failed, since the last Listen
	pending deque.Deque[*TcpSocket]
	max     maxPending
	paused  bool
	retry   backoff
	err     error

	accepted, acceptErrors uint64
	open                   int // sockets that have not ended, the pending ones among them

	life    context.Context // of ListenAsync; nil until it is called, and after Close
	endLife context.CancelFunc

	lane serverLane
}

// defaultMaxPending is Qt's.
const defaultMaxPending = 30

// maxPending is the limit of the queue, less the default: so the zero value is the default.
type maxPending int

func (m maxPending) limit() int { return int(m) + defaultMaxPending }

// A listener is one period of listening: the descriptor, and a copy of the configuration that also serves the sockets
// accepted from it. It does not change once the server listens, but for its last fields.
type listener struct {
	server  *TcpServer
	fd      handle
	key     slotKey
	loop    *loop
	network string
	addr    sockAddr

	poller        *Poller
	backlog       int
	newConnection func(*TcpServer)
	acceptError   func(*TcpServer, error)
	exec          Executor
	dispatch      *dispatcher // of exec; nil: handlers run on the loops
	allowHalfOpen bool
	idleTimeout   time.Duration
	closeTimeout  time.Duration
	readLimit     int
	writeLimit    int
	logger        *slog.Logger

	ready  bool // there may be connections to accept; guarded by server.mu
	called bool // a turn has been asked of the loop; guarded by server.mu
	// admitting: a connection is on its way into the queue. The next is accepted when it is there, also by a
	// goroutine that has taken over the loop, so that they keep their order. Guarded by server.mu.
	admitting bool
	dealt     atomic.Uint64 // connections accepted, for choosing a loop
}

func orDefault[T int | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// newListener copies the configuration.
func (s *TcpServer) newListener(network string) *listener {
	ln := &listener{
		server:        s,
		network:       network,
		poller:        s.Poller,
		backlog:       s.Backlog,
		newConnection: s.NewConnectionHandler,
		acceptError:   s.AcceptErrorHandler,
		exec:          s.Executor,
		allowHalfOpen: s.AllowHalfOpen,
		idleTimeout:   s.IdleTimeout,
		closeTimeout:  s.CloseTimeout,
		readLimit:     orDefault(s.ReadBufferSize, defaultReadBuffer),
		writeLimit:    orDefault(s.WriteBufferSize, defaultWriteBuffer),
		logger:        s.Logger,
	}
	if ln.poller == nil {
		ln.poller = &sharedPoller
	}
	if ln.closeTimeout == 0 {
		ln.closeTimeout = 5 * time.Second
	}
	return ln
}

func (ln *listener) logError(msg string, args ...any) {
	if ln.logger != nil {
		ln.logger.Error("tcpserver: "+msg, args...)
	}
}

// Close stops listening and ends the pending connections, whose peers get an end of stream; those that the system
// still holds are reset by it. Sockets that were taken live on. Calls that wait for a connection return
// ErrServerClosed. No handler of the server is called any more; called elsewhere than on the handlers' own goroutine,
// Close may find one running. The same address can be listened on again at once, by this server too. On a server
// that does not listen Close does nothing. It returns nil.
func (s *TcpServer) Close() error {
	s.mu.Lock()
	ln := s.cur
	s.lane.failure = nil
	if s.life != nil {
		s.endLife()
		s.life = nil
	}
	s.mu.Unlock()
	if ln != nil {
		s.stopListening(ln)
	}
	return nil
}

// stopListening ends the period of ln, unless it has ended.
func (s *TcpServer) stopListening(ln *listener) bool {
	s.mu.Lock()
	if s.cur != ln {
		s.mu.Unlock()
		return false
	}
	s.cur = nil
	s.closed = true
	s.retry.stop()
	s.lane.connections = 0
	var left []*TcpSocket
	for s.pending.Len() > 0 {
		left = append(left, s.popPending())
	}
	ln.loop.kern.remove(ln.fd)
	sysClose(ln.fd)
	s.wakeWaiting()
	s.mu.Unlock()

	for _, socket := range left {
		socket.Close()
	}
	ln.loop.remove(ln.key)
	ln.loop.poller.release()
	return true
}

// IsListening reports whether the server listens, be it paused or not.
func (s *TcpServer) IsListening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur != nil
}

// Addr returns the address that the server listens on, a *net.TCPAddr with the port that was picked for port 0; nil
// while it does not listen.
func (s *TcpServer) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return nil
	}
	return s.cur.addr.netAddr()
}

// Port returns the port that the server listens on; 0 while it does not listen.
func (s *TcpServer) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return 0
	}
	return int(s.cur.addr.port)
}

// Err returns what the last Listen or accept that failed has reported; nil when there is none. A successful Listen
// clears it.
func (s *TcpServer) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ErrorString returns the text of Err, or "".
func (s *TcpServer) ErrorString() string { return errorString(s.Err()) }

// ConnectionCount returns how many of the server's connections have not ended: those that were taken and the pending
// ones.
func (s *TcpServer) ConnectionCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// ServerStats is a snapshot of a server's counters.
type ServerStats struct {
	Accepted     uint64 // connections queued since the server was made
	Dropped      uint64 // connections turned away
	AcceptErrors uint64 // accepts that failed, those that concerned a single connection among them
	Pending      int    // connections in the queue
	Open         int    // connections that have not ended, the pending ones among them
}

// Stats returns the counters. They go on over Close and Listen.
func (s *TcpServer) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStats{
		Accepted:     s.accepted,
		AcceptErrors: s.acceptErrors,
		Pending:      s.pending.Len(),
		Open:         s.open,
	}
}

// socketEnded is told by each socket when its connection ends.
func (s *TcpServer) socketEnded(socket *TcpSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.dropPending(socket)
}
