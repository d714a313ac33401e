// Package tcpserver is a TCP server from which connections are pulled, in the manner of Qt's QTcpServer.
//
// A TcpServer accepts connections into a bounded queue and tells the program, which takes them when it likes. While
// the queue is full, or accepting is paused, the rest wait in the system. What the program takes is a TcpSocket: a
// net.Conn that can also be asked what has come, be read and written without waiting, and call handlers. A few event
// loops serve all sockets, so that an idle one costs neither a goroutine nor a buffer. It listens on TCP or unix
// sockets.
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
// Linux, with epoll; macOS and the BSDs, with kqueue; Windows, with AFD. Elsewhere the package compiles, Supported
// returns false and Listen returns ErrUnsupported. What differs between systems is in docs/platforms.md.
package tcpserver

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/gammazero/deque"
)

var (
	_ net.Listener = (*TcpServer)(nil)
	_ syscall.Conn = (*TcpServer)(nil)
)

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
	// is false then. It is not told of what came before a Close or a Listen; ClosedHandler is. err is a *net.OpError.
	AcceptErrorHandler func(server *TcpServer, err error)

	// DropHandler is called for a connection that was turned away: see SetMaxConnections, Overflow and Filter. Where
	// connections are turned away faster than it is called, some are only counted.
	DropHandler func(server *TcpServer, drop Drop)

	// ClosedHandler is called once for each period of listening, after it has ended and the last connection of the
	// period too, whose Disconnected comes before. It is never called inside Close. err is nil after Close, and
	// otherwise what has ended the listening.
	ClosedHandler func(server *TcpServer, err error)

	// Executor runs the handlers of the server and of its sockets, and the callbacks of the Async methods. nil: a
	// goroutine of the poller.
	Executor Executor

	// Poller serves the server and its sockets. nil: the one that all such servers of the process share.
	Poller *Poller

	// Backlog is how many connections the system queues that were not accepted yet. 0: the system's maximum.
	// Negative: Listen returns ErrBacklog.
	Backlog int

	// Overflow says what happens to connections when the queue is full. The zero value, OverflowWait, leaves them to
	// the system.
	Overflow OverflowPolicy

	// Filter is asked for each connection, on a goroutine of the poller and before it is queued; false turns it away.
	// nil: all are welcome. The IPv4 address of a dual-stack server's peer is an IPv4 address here. Connections of
	// unix sockets have none and are not filtered. A panic turns the connection away and is logged. One connection is
	// asked for at a time: a Filter that takes its time holds up all accepting, and should look things up in memory
	// rather than ask others. It must not wait for the end of the server, which waits for it.
	Filter func(remote netip.AddrPort) bool

	// ReusePort has several sockets listen on one port, in this process or others of the same user; the system
	// shares the connections out among them, on Linux, FreeBSD and DragonFly BSD evenly. All of them need it. On
	// Windows Listen returns ErrUnsupported.
	ReusePort bool

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
	// negative: 64 KiB (65536). The most is 2 GiB - 1.
	ReadBufferSize int

	// WriteBufferSize is how many bytes Send queues before it returns ErrWriteBufferFull. 0 or negative: 1 MiB
	// (1048576). The most is 2 GiB - 1.
	WriteBufferSize int

	// KeepAlive is set on the connections: whether and how the system finds out that a peer is gone while nothing is
	// sent. Zero value: off, as in Qt; where it is enabled, zero fields have the defaults of net.KeepAliveConfig.
	KeepAlive net.KeepAliveConfig

	// SocketMode is the permission bits of the file of a unix socket. 0: those that the umask leaves. On Windows, where
	// files have none, Listen returns ErrUnsupported for others. Setting them, and removing the file at the end, go by
	// its path: whoever else may write to the directory can put something else there in between.
	SocketMode fs.FileMode

	// Logger is told of handlers that panic, Filter among them. nil: slog.Default().
	Logger *slog.Logger

	mu   sync.Mutex // guards what follows, and the listening descriptor
	cond *sync.Cond // on mu: something was queued, or listening has ended; nil until it is needed

	cur     *listener   // nil while not listening
	bound   *listener   // by Bind, until ListenBound or Close
	periods []*listener // those whose ClosedHandler has not returned; cur is the last of them
	closed  bool        // Close was called, or listening failed, since the last Listen
	pending deque.Deque[*TcpSocket]
	max     maxPending
	paused  bool
	retry   backoff
	err     error

	accepted, dropped, acceptErrors uint64

	open           int   // sockets that have not ended, the pending ones among them
	maxConnections int   // of open; 0: no limit
	callbacks      int   // callbacks of ListenAsync and CloseAsync that have not returned
	unlink         *bool // SetUnlinkOnClose; nil: as listener.unlink says
	unreferenced   bool
	counted        struct{ serving, alive bool } // among those that Wait waits for

	life    context.Context // of ListenAsync; nil until it is called, and after Close
	endLife context.CancelFunc

	strand serverStrand
}

// defaultMaxPending is Qt's.
const defaultMaxPending = 30

// maxPending is the limit of the queue, less the default: so the zero value is the default.
type maxPending int

func (m maxPending) limit() int { return int(m) + defaultMaxPending }

// IsListening reports whether the server listens, be it paused or not.
func (s *TcpServer) IsListening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur != nil
}

// Addr returns the address that the server listens on or is bound to, a *net.TCPAddr with the port that was picked for
// port 0, or a *net.UnixAddr; nil when it is neither bound nor listening.
func (s *TcpServer) Addr() net.Addr {
	s.mu.Lock()
	ln := s.address()
	s.mu.Unlock()
	if ln == nil {
		return nil
	}
	return ln.netAddr() // asks the system for the name of an interface: not under the lock
}

// Port returns the port that the server listens on or is bound to; 0 when it has none.
func (s *TcpServer) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ln := s.address(); ln != nil {
		return int(ln.addr.Port)
	}
	return 0
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
		Dropped:      s.dropped,
		AcceptErrors: s.acceptErrors,
		Pending:      s.pending.Len(),
		Open:         s.open,
	}
}
