package tcpserver

import (
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// A socketConfig is the part of a server's configuration that its sockets use. A listener shares one with all sockets
// that it accepts. It does not change while it is in use.
type socketConfig struct {
	listener *listener // counts the socket

	network string
	addr    sys.Addr // local address; if it is a wildcard, each socket asks the system for its own
	path    string   // path or abstract name of a unix socket

	dispatch      *dispatcher // for the Executor; if nil, handlers run on the loops
	allowHalfOpen bool
	idleTimeout   time.Duration
	closeTimeout  time.Duration
	readLimit     int
	writeLimit    int
	logger        *slog.Logger
}

func (c *socketConfig) netAddr() net.Addr { return c.addr.NetAddr(c.path) }

func (c *socketConfig) logError(msg string, args ...any) { logError(c.logger, msg, args...) }

// A listener is one period of listening: the descriptor and a copy of the server's fields. Fields that server.mu does
// not guard do not change once the server listens.
type listener struct {
	socketConfig

	server  *TcpServer
	fd      sys.FD
	key     slotKey
	loop    *loop
	adopted bool        // the descriptor comes from ListenFile or ListenOn
	file    *socketFile // file of a unix socket
	unlink  bool        // whether to remove the file at the end, unless SetUnlinkOnClose was called

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
	called bool // the loop was asked to call onPost; guarded by server.mu
	// admitting means that a connection is being queued, or accepted without the lock. The next one is accepted only
	// after it, even by a goroutine that has taken over the loop, so that connections keep their order. Guarded by
	// server.mu.
	admitting bool
	nextLoop  sched.Uint64 // connections accepted, for choosing a loop

	// References to the descriptor, guarded by server.mu. Code that holds server.mu needs none.
	shared bool // others share the open file description and may clear its non-blocking mode
	uses   int  // references (incref)
	closed bool // no more references; the last one closes the descriptor

	acceptBy deadline // set by SetDeadline; guarded by server.mu

	// The end of the period, guarded by server.mu.
	ended        bool
	cause        error // why the period ended; nil if by Close
	open         int   // its connections in server.open
	members      int   // sockets that have not ended, or whose Disconnected has not returned
	closing      closedState
	closeWaiters []*closeWaiter // callbacks of CloseAsync that wait for the end of the period
}

func orDefault[T int | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// newListener returns a listener with a copy of the server's configuration.
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

// logError logs the failure of a handler. If logger is nil, it uses the default logger.
func logError(logger *slog.Logger, msg string, args ...any) {
	if logger == nil {
		logger = slog.Default()
	}
	logger.Error("tcpserver: "+msg, args...)
}
