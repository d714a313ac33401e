package tcpserver

import (
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// A listener is one period of listening: the descriptor, and a copy of the configuration that also serves the sockets
// accepted from it. It does not change once the server listens, but for its last fields.
type listener struct {
	server  *TcpServer
	fd      sys.FD
	key     slotKey
	loop    *loop
	network string
	addr    sys.Addr
	adopted bool        // by ListenFile or ListenOn
	path    string      // of a unix socket
	file    *socketFile // its file
	unlink  bool        // the file is removed at the end, unless SetUnlinkOnClose says otherwise

	poller        *Poller
	backlog       int
	newConnection func(*TcpServer)
	acceptError   func(*TcpServer, error)
	dropHandler   func(*TcpServer, Drop)
	closedHandler func(*TcpServer, error)
	overflow      OverflowPolicy
	filter        func(netip.AddrPort) bool
	reusePort     bool
	keepAlive     net.KeepAliveConfig
	socketMode    fs.FileMode
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
	// admitting: a connection is on its way into the queue, or is being accepted without the lock. The next is
	// accepted when it is there, also by a goroutine that has taken over the loop, so that they keep their order.
	// Guarded by server.mu.
	admitting bool
	nextLoop  atomic.Uint64 // connections accepted, for choosing a loop

	// The descriptor: what is done with it under server.mu needs no use of its own. Guarded by server.mu.
	shared bool // others have its open file description too, and may clear its non-blocking mode
	uses   int  // without the lock
	closed bool // by the last use, if there are any

	acceptBy deadline // SetDeadline; guarded by server.mu

	// The end of the period; guarded by server.mu.
	ended        bool
	cause        error // why; nil: by Close
	open         int   // of server.open, those that it has accepted
	members      int   // sockets whose Disconnected is still to come, or the end if they have none
	told         bool  // ClosedHandler is due, or has been called
	closeWaiters []*closeWaiter
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
		dropHandler:   s.DropHandler,
		closedHandler: s.ClosedHandler,
		overflow:      s.Overflow,
		filter:        s.Filter,
		reusePort:     s.ReusePort,
		keepAlive:     s.KeepAlive,
		socketMode:    s.SocketMode,
		exec:          s.Executor,
		allowHalfOpen: s.AllowHalfOpen,
		idleTimeout:   s.IdleTimeout,
		closeTimeout:  s.CloseTimeout,
		readLimit:     orDefault(int(clampSize(s.ReadBufferSize)), defaultReadBuffer),
		writeLimit:    orDefault(int(clampSize(s.WriteBufferSize)), defaultWriteBuffer),
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

func (ln *listener) logError(msg string, args ...any) { logError(ln.logger, msg, args...) }

// logError tells logger, or if that is nil the default one, what has befallen a handler.
func logError(logger *slog.Logger, msg string, args ...any) {
	if logger == nil {
		logger = slog.Default()
	}
	logger.Error("tcpserver: "+msg, args...)
}
