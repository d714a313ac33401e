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

// A socketConfig is what a socket takes from where it comes from. A listener shares one with all sockets that it
// accepts. It does not change while it is in use.
type socketConfig struct {
	listener *listener // which counts the socket

	network string
	addr    sys.Addr // of this end; if it is a wildcard, each socket asks the system for its own
	path    string   // of a unix socket

	dispatch      *dispatcher // of the Executor; if nil, handlers run on the loops
	allowHalfOpen bool
	idleTimeout   time.Duration
	closeTimeout  time.Duration
	readLimit     int
	writeLimit    int
	logger        *slog.Logger
}

func (c *socketConfig) netAddr() net.Addr { return c.addr.NetAddr(c.path) }

func (c *socketConfig) logError(msg string, args ...any) { logError(c.logger, msg, args...) }

// A listener is one period of listening: the descriptor, and a copy of the server's fields. The fields that are not
// guarded by server.mu do not change once the server listens.
type listener struct {
	socketConfig

	server  *TcpServer
	fd      sys.FD
	key     slotKey
	loop    *loop
	adopted bool        // by ListenFile or ListenOn
	file    *socketFile // of a unix socket
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
	}
	ln.socketConfig = socketConfig{
		listener:      ln,
		network:       network,
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

// logError tells logger, or if that is nil the default one, what has befallen a handler.
func logError(logger *slog.Logger, msg string, args ...any) {
	if logger == nil {
		logger = slog.Default()
	}
	logger.Error("tcpserver: "+msg, args...)
}
