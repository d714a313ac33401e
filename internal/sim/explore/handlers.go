//go:build sim

package explore

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))

// errPanic is what handlers panic with.
var errPanic = errors.New("panic of a handler")

func asOpError(err error, op **net.OpError) bool { return errors.As(err, op) }

// handlersOf returns handlers of a connection that check their order and do what the program says.
func (w *world) handlersOf(l *link) *tcpserver.SocketHandlers {
	h := &tcpserver.SocketHandlers{
		ReadyRead:    func(*tcpserver.TcpSocket) { w.readyRead(l) },
		ReadClosed:   func(*tcpserver.TcpSocket) { w.readClosed(l) },
		Disconnected: func(_ *tcpserver.TcpSocket, err error) { w.disconnected(l, err) },
	}
	if l.react.Written != nil {
		h.BytesWritten = func(_ *tcpserver.TcpSocket, n int) { w.bytesWritten(l, n) }
	}
	return h
}

// enter begins a call of a handler of a connection.
func (w *world) enter(l *link, name string) (leave func()) {
	sched.Note("%s of %d", name, l.id)
	switch last := name == "Disconnected"; {
	case l.over:
		sched.Fail("%v: %s after Disconnected", l, name)
	case l.inside != "":
		sched.Fail("%v: %s while %s runs", l, name, l.inside)
	case l.exact && !last:
		sched.Fail("%v: %s after Close in a handler", l, name)
	case l.closed && !last:
		if l.late++; l.late > 1 {
			sched.Fail("%v: %s after Close, and not the first one", l, name)
		}
	}
	l.inside, l.task = name, sched.ID()
	l.entries++
	leaveServer := func() {}
	if w.p.Server.Executor != NoExecutor {
		leaveServer = w.enterServer(l.socket.Server(), name)
	}
	return func() {
		l.view.check()
		l.inside, l.view = "", nil
		leaveServer()
	}
}

// enterServer begins a call of a handler or callback of a server or, with an executor, of one of its sockets. They run
// one at a time and, with an executor, only there.
func (w *world) enterServer(s *tcpserver.TcpServer, name string) (leave func()) {
	h := w.handlersOfServer(s)
	if w.p.Server.Executor != NoExecutor && w.ui.calls == 0 {
		sched.Fail("%s runs outside the executor", name)
	}
	if h.inside != "" {
		sched.Fail("%s runs beside %s of the same server", name, h.inside)
	}
	h.inside = name
	h.entries++
	return func() { h.inside = "" }
}

func (w *world) readyRead(l *link) {
	defer w.enter(l, "ReadyRead")()
	// A method of the socket would look at the system, and so make up for a wake-up that was lost.
	l.seen = max(l.seen, l.pos+tcpserver.Inspect(l.socket).Buffered)
	readings := l.mark()
	if readings < 0 {
		l.seen = l.conn.Arrived() // another call may have taken bytes that are not counted yet
	}
	if l.paused {
		if l.lateRead++; l.lateRead > 1 {
			sched.Fail("%v: ReadyRead while reading is paused", l)
		}
	}
	l.took, l.own = 0, 0
	most := tcpserver.Inspect(l.socket).Buffered
	sizings, looks, looking := l.sizings, l.looks, l.looking > 0
	a := &actor{w: w, link: l}
	var s Script
	if n := len(l.react.Ready); n > 0 {
		l.calls++
		s = l.react.Ready[(l.calls-1)%n]
	}
	a.do(s)
	l.left = l.took > 0
	most += tcpserver.Inspect(l.socket).Limit
	alone := l.readings == readings+l.own && l.sizings == sizings && l.sizings%2 == 0 && l.looks == looks && !looking
	if l.took > most && alone && !s.has(SRead, SWaitRead) {
		sched.Fail("%v: a call of ReadyRead could take %d bytes, the limit is %d", l, l.took, most)
	}
}

func (w *world) bytesWritten(l *link, n int) {
	defer w.enter(l, "BytesWritten")()
	w.checkWritten(l, n)
	(&actor{w: w, link: l}).do(l.react.Written)
}

func (w *world) readClosed(l *link) {
	defer w.enter(l, "ReadClosed")()
	if l.told && !l.again {
		sched.Fail("%v: ReadClosed twice", l)
	}
	l.told, l.again = true, false
	if !w.faulty && len(l.ahead) == 0 && l.reading == 0 && !l.vague && l.pos != l.conn.Arrived() {
		sched.Fail("%v: ReadClosed before everything was taken", l)
	}
	defer l.flush.end()
	(&actor{w: w, link: l}).do(l.react.Closed)
	l.flush.begin()
}

func (w *world) disconnected(l *link, err error) {
	defer w.enter(l, "Disconnected")()
	l.over, l.err = true, err
	readings := l.mark()
	i := tcpserver.Inspect(l.socket)
	known := l.readings == readings && len(l.ahead) == 0 && !l.vague && l.pausing == 0 && l.resumed != time.Now()
	if known && !i.Paused && !l.closing && l.seen < l.pos+i.Buffered {
		sched.Fail("%v: Disconnected before ReadyRead for %d bytes", l, l.pos+i.Buffered-l.seen)
	}
	closed := l.closing || w.over || w.aborting > 0 || w.pollerClosed
	if n := i.Unreported; n > 0 && l.react.Written != nil && !closed {
		sched.Fail("%v: Disconnected before BytesWritten for %d bytes", l, n)
	}
	if l.socket.State() != tcpserver.StateUnconnected {
		sched.Fail("%v: Disconnected while connected", l)
	}
	if want := l.socket.Err(); want != err {
		sched.Fail("%v: Disconnected gets %v, Err returns %v", l, err, want)
	}
	w.checkEnd(l, err)
	(&actor{w: w, link: l}).do(l.react.End)
}

// serverHandlers are the handlers of a server.
type serverHandlers struct {
	w           *world
	s           *tcpserver.TcpServer
	connections int // calls of NewConnectionHandler
	lastTaken   int // sim.Conn.Order of the connection that was handed out last
	periods     int // of listening that have begun
	closes      int // calls of ClosedHandler
	returned    int // calls of ClosedHandler that have returned
	callbacks   int // of ListenAsync and CloseAsync that have not returned

	inside  string // the handler or callback that runs; with an executor, also one of its sockets
	entries int    // calls of them

	limits       limits
	unreferenced bool // Unref was called
}

// handlersOfServer returns the handlers of a server.
func (w *world) handlersOfServer(s *tcpserver.TcpServer) *serverHandlers {
	return w.served[slices.Index(w.all, s)]
}

func (h *serverHandlers) newConnection(s *tcpserver.TcpServer) {
	w := h.w
	defer w.enterServer(s, "NewConnectionHandler")()
	if w.closedExact[s] {
		sched.Fail("NewConnectionHandler after Close in a handler")
	}
	w.checkLimits(h)
	h.connections++
	if n := s.Stats().Accepted; uint64(h.connections) > n {
		sched.Fail("%d calls of NewConnectionHandler for %d connections", h.connections, n)
	}
	defer w.sleepInHandler("NewConnectionHandler", w.p.Server.Slow)
	for n := w.p.Server.Take; n != 0; n-- {
		socket := s.NextPendingConnection()
		if socket == nil {
			return
		}
		w.adopt(socket)
	}
}

func (h *serverHandlers) drop(_ *tcpserver.TcpServer, d tcpserver.Drop) {
	defer h.w.enterServer(h.s, "DropHandler")()
	h.checkDrop(d)
}

func (h *serverHandlers) acceptError(_ *tcpserver.TcpServer, err error) {
	defer h.w.enterServer(h.s, "AcceptErrorHandler")()
	if !h.w.faulty {
		sched.Fail("AcceptErrorHandler: %v", err)
	}
}

func (h *serverHandlers) closed(s *tcpserver.TcpServer, err error) {
	defer h.w.enterServer(s, "ClosedHandler")()
	defer func() { h.returned++ }()
	h.closes++
	for _, l := range h.w.taken {
		if h.w.begun > 1 || l.socket.Server() != s {
			continue
		}
		i := tcpserver.Inspect(l.socket)
		if i.State != tcpserver.StateUnconnected || i.HasHandlers && !l.over && l.heardLate == 0 {
			sched.Fail("%v: ClosedHandler before Disconnected", l)
		}
	}
	if err != nil && !h.w.faulty && h.w.poller == nil {
		sched.Fail("ClosedHandler: %v", err)
	}
	h.w.sleepInHandler("ClosedHandler", h.w.p.Server.Slow)
}
