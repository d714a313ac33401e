// Package tcpserver implements a TCP server in the style of Qt's QTcpServer: it queues accepted connections, and the
// program takes them when it is ready. It listens on TCP and unix sockets. A few event loops serve all connections,
// so an idle one costs neither a goroutine nor a buffer.
//
// There are three ways to write a server, and they may be mixed:
//
//   - A loop over [TcpServer.Connections], and for each client a goroutine that reads and writes.
//   - Handlers on the event loops: [TcpServer.NewConnectionHandler] and [TcpSocket.SetHandlers].
//   - Handlers on an [Executor]: the same, on the thread that owns a user interface.
//
// # Accepting
//
// A [TcpServer] starts to listen with [TcpServer.Listen], or on a socket that is already open with
// [TcpServer.ListenFile] or [TcpServer.ListenOn]. It accepts connections into a queue and calls
// [TcpServer.NewConnectionHandler] for each. [TcpServer.NextPendingConnection] takes a connection without waiting;
// [TcpServer.AcceptSocket], [TcpServer.Accept] and [TcpServer.Connections] wait for one.
//
// The server stops accepting while [TcpServer.PauseAccepting] is in effect, while the queue is full
// ([TcpServer.SetMaxPendingConnections]), and while descriptors or memory are short. Meanwhile further connections
// wait in the system's backlog ([TcpServer.Backlog]). Connections that exceed [TcpServer.SetMaxConnections], that
// [TcpServer.Filter] rejects or, with [OverflowDrop], that find the queue full are accepted and closed at once.
//
// # Sockets
//
// A [TcpSocket] is a [net.Conn]. It can also report what has arrived ([TcpSocket.BytesAvailable], [TcpSocket.Peek],
// [TcpSocket.CanReadLine]), be read and written without waiting ([TcpSocket.TryRead], [TcpSocket.ReadAll],
// [TcpSocket.ReadLine], [TcpSocket.Send]), and call handlers ([TcpSocket.SetHandlers]).
//
// # Handlers
//
// Handlers of one object, which is a server or a socket, run one at a time and in order, never with a lock held and
// never inside a method that the program called. They may call any method. On an event loop they may also block:
// after about 10 ms another goroutine takes over the loop, and only the handler's own object waits. A panic there is
// logged; in a handler of a socket, it ends the socket with a [PanicError].
//
// # Executors
//
// If [TcpServer.Executor] is set, it runs the handlers of the server and its sockets, and the callbacks of the Async
// methods, one at a time. A panic there is the application's own. [Queue] is an Executor for programs with a loop of
// their own. On an Executor's thread, outside of handlers, [TcpServer.Shutdown] and [Wait] would wait for handlers
// that cannot run meanwhile; use [TcpServer.CloseAsync] there.
//
// # Closing
//
// [TcpServer.Close] stops listening and closes the pending connections; those that the program has taken stay open.
// [TcpServer.ClosedHandler] is called when the last of them has ended. [TcpServer.Shutdown] waits for that,
// [TcpServer.CloseConnections] resets the connections, and [Wait] waits until no server has anything left to do.
// [TcpSocket.Close] returns at once; what [TcpSocket.Send] has queued is still sent, for at most
// [TcpServer.CloseTimeout]. [TcpSocket.Abort] resets the connection. The event loops end with the last server and
// socket.
//
// # Back-pressure
//
// The queue of pending connections is bounded, and they are not read. A socket stops reading when it holds
// [TcpServer.ReadBufferSize] unread bytes; TCP then holds the peer back. [TcpSocket.Send] queues at most
// [TcpServer.WriteBufferSize] bytes and returns [ErrWriteBufferFull] beyond that; [TcpSocket.Write] waits instead.
//
// # Concurrency
//
// Multiple goroutines may call methods on a [TcpServer], [TcpSocket], [Queue] or [Poller] simultaneously. Handlers of
// different objects may run at the same time; with an Executor, all handlers of a server and its sockets run one at a
// time.
//
// # Platforms
//
// The package runs on Linux (epoll), macOS and the BSDs (kqueue), and Windows (AFD). Elsewhere it compiles,
// [Supported] returns false, and Listen returns [ErrUnsupported]. The differences between systems are listed in
// docs/platforms.md.
package tcpserver

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/gammazero/deque"

	"github.com/pullaccept/tcpserver/internal/sched"
)

var (
	_ net.Listener = (*TcpServer)(nil)
	_ syscall.Conn = (*TcpServer)(nil)
)

// A TcpServer listens for connections and queues them. It is a [net.Listener]. The zero value is ready for
// [TcpServer.Listen]. A TcpServer must not be copied after its first use.
//
// The methods that listen or bind copy the fields: a later change takes effect at the next Listen. Handlers that are
// nil are not called.
//
// Multiple goroutines may call methods on a TcpServer simultaneously. Methods of a server that is closed or has never
// listened return an error or the zero value.
//
// Call [TcpServer.Close] when the server is no longer needed. Connections that the program has taken stay open.
type TcpServer struct {
	// NewConnectionHandler is called once for each connection, after it was queued. It may take that connection, any
	// number of connections, or none. A connection that its peer has reset meanwhile, or that another goroutine has
	// taken, is no longer in the queue.
	NewConnectionHandler func(server *TcpServer)

	// AcceptErrorHandler is called when accepting fails. If descriptors or memory run out, it is called once, when
	// the shortage begins; the server retries after 5 ms, later after up to a second, and at once when one of its
	// sockets ends. Any other error that is not specific to one connection stops the server; [TcpServer.IsListening]
	// then reports false. After a Close or a Listen, earlier errors are no longer reported here; one that stopped the
	// server still reaches ClosedHandler. err is a *[net.OpError].
	AcceptErrorHandler func(server *TcpServer, err error)

	// DropHandler is called for each connection that was dropped: see [TcpServer.SetMaxConnections], Overflow and
	// Filter. If connections are dropped faster than DropHandler returns, some are only counted
	// ([ServerStats.Dropped]).
	DropHandler func(server *TcpServer, drop Drop)

	// ClosedHandler is called once for each period of listening, after listening has ended, the last connection of
	// the period has ended too, and its Disconnected handler has returned. It is never called inside Close. After
	// Close, err is nil; otherwise it is the error that stopped the server.
	ClosedHandler func(server *TcpServer, err error)

	// Executor runs the handlers of the server and its sockets, and the callbacks of the Async methods. If nil, they
	// run on goroutines of the poller.
	Executor Executor

	// Poller serves the server and its sockets. If nil, all such servers of the process share one.
	Poller *Poller

	// Backlog is the number of connections that the system queues before they are accepted. If zero, it is the
	// system's maximum. If negative, Listen returns [ErrBacklog].
	Backlog int

	// Overflow determines what happens to new connections while the queue is full. The default, [OverflowWait],
	// leaves them in the system's backlog.
	Overflow OverflowPolicy

	// Filter decides whether a connection is queued. It is called for each connection, on a goroutine of the poller;
	// if it returns false, the connection is dropped. If nil, no connection is filtered. An IPv4 peer of a dual-stack
	// server has an IPv4 address here, too. Connections on unix sockets have no such address and are not filtered. If
	// Filter panics, the connection is dropped and the panic is logged. Filter is called for one connection at a
	// time: a slow Filter delays all accepting, so it should look things up in memory rather than ask other systems.
	// It must not wait for the end of the server, which waits for Filter.
	Filter func(remote netip.AddrPort) bool

	// ReusePort allows several sockets to listen on one port, in this process or in others of the same user; all of
	// them must set it. The system distributes the connections among them, on Linux, FreeBSD and DragonFly BSD
	// evenly. On Windows, Listen returns [ErrUnsupported].
	ReusePort bool

	// AllowHalfOpen keeps a socket with handlers open for sending after the peer has finished sending. If false, the
	// socket closes after ReadClosed, as soon as what Send has queued is sent.
	AllowHalfOpen bool

	// IdleTimeout is how long a connection may neither receive nor send anything before it ends with
	// [ErrIdleTimeout]. It is up to two tenths of a second late. If zero or negative, there is no timeout.
	IdleTimeout time.Duration

	// CloseTimeout is how long a socket goes on sending, after its Close, what Send has queued. Then the connection
	// is reset. If zero, it is 5 seconds. If negative, there is no limit.
	CloseTimeout time.Duration

	// ReadBufferSize is the number of unread bytes at which a socket stops taking more from the system. If zero or
	// negative, it is 64 KiB (65536). The maximum is 2 GiB - 1.
	ReadBufferSize int

	// WriteBufferSize is the number of bytes that Send queues before it returns [ErrWriteBufferFull]. If zero or
	// negative, it is 1 MiB (1048576). The maximum is 2 GiB - 1.
	WriteBufferSize int

	// KeepAlive configures keep-alive on the connections: whether and how the system detects, while nothing is sent,
	// that a peer is no longer there. The zero value leaves it off, as in Qt. If it is enabled, zero fields have the
	// defaults of [net.KeepAliveConfig].
	KeepAlive net.KeepAliveConfig

	// SocketMode is the permission bits of a unix socket's file. If zero, the umask determines them. On Windows,
	// where files have no permission bits, Listen returns [ErrUnsupported] for any other value. Setting the bits, and
	// removing the file at the end, use its path: anyone else who may write to the directory can replace the file in
	// between.
	SocketMode fs.FileMode

	// Logger logs panics of handlers and of Filter. If nil, it is [slog.Default].
	Logger *slog.Logger

	mu   sched.Mutex // guards the fields below, and the listening descriptor
	cond *sched.Cond // on mu: a connection was queued, or listening or its last connection ended; nil until needed

	cur     *listener   // nil while not listening
	bound   *listener   // by Bind, until ListenBound or Close
	periods []*listener // those with handlers that have not returned; of these cur is one
	closed  bool        // Close was called, or listening failed, since the last Listen
	pending deque.Deque[*TcpSocket]
	max     maxPending
	paused  bool
	retry   backoff
	err     error // what Err returns

	accepted, dropped, acceptErrors uint64

	open           int                           // sockets that have not ended, including the pending ones
	maxConnections int                           // maximum of open; if zero, there is no limit
	callbacks      int                           // callbacks of ListenAsync and CloseAsync that have not returned
	unlink         *bool                         // set by SetUnlinkOnClose; if nil, listener.unlink decides
	unreferenced   bool                          // set by Unref
	counted        struct{ serving, alive bool } // whether Wait counts the server (recount)

	life    context.Context // ends ListenAsync; nil until that is called, and after Close
	endLife context.CancelFunc

	strand serverStrand
}

// defaultMaxPending is the default of Qt.
const defaultMaxPending = 30

// maxPending is the limit of the queue minus the default, so that the zero value is the default.
type maxPending int

func (m maxPending) limit() int { return int(m) + defaultMaxPending }

// IsListening reports whether the server listens, even if accepting is paused.
func (s *TcpServer) IsListening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur != nil
}

// Addr returns the address that the server listens on or is bound to: a *[net.TCPAddr], with the port that the system
// picked if the port was 0, or a *[net.UnixAddr]. It returns nil if the server neither listens nor is bound.
func (s *TcpServer) Addr() net.Addr {
	s.mu.Lock()
	ln := s.address()
	s.mu.Unlock()
	if ln == nil {
		return nil
	}
	return ln.netAddr() // not under the lock: it asks the system for the name of an interface
}

// Port returns the port that the server listens on or is bound to, or 0 if there is none.
func (s *TcpServer) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ln := s.address(); ln != nil {
		return int(ln.addr.Port)
	}
	return 0
}

// Err returns the error that listening, binding or accepting reported last, or nil. A successful Listen clears it.
func (s *TcpServer) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ErrorString returns the text of [TcpServer.Err], or "" if that is nil.
func (s *TcpServer) ErrorString() string { return errorString(s.Err()) }

// ConnectionCount returns the number of connections that have not ended, both pending and taken.
func (s *TcpServer) ConnectionCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// ServerStats is a snapshot of a server's counters.
type ServerStats struct {
	Accepted     uint64 // connections queued since the server was created
	Dropped      uint64 // connections dropped: see DropReason
	AcceptErrors uint64 // accepts that failed, including those that failed because of a single connection
	Pending      int    // connections in the queue
	Open         int    // connections that have not ended, including the pending ones
}

// Stats returns the counters. Close and Listen do not reset them.
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
