//go:build sim

package explore

import (
	"net"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// limits are those of a server.
type limits struct {
	pending     int    // the highest limit of the queue that there has been
	connections int    // the highest limit of connections that there has been
	unlimited   bool   // there was none at some time
	stopped     bool   // accepting is paused and has stopped for sure
	accepted    uint64 // how many connections were accepted until then
}

// init notes the limits of a server that is new.
func (l *limits) init(c *Server) {
	const byDefault = 30
	l.pending = c.MaxPending
	if l.pending == 0 {
		l.pending = byDefault
	}
	l.limitConnections(c.MaxConnections)
}

func (l *limits) limitConnections(n int) {
	l.connections = max(l.connections, n)
	l.unlimited = l.unlimited || n <= 0
}

// setMaxPending changes the limit of the queue. What was accepted under a higher limit stays.
func (w *world) setMaxPending(n int) {
	h := w.handlersOfServer(w.server)
	h.limits.pending = max(h.limits.pending, n)
	h.s.SetMaxPendingConnections(n)
}

func (w *world) setMaxConnections(n int) {
	h := w.handlersOfServer(w.server)
	h.limits.limitConnections(n)
	h.s.SetMaxConnections(n)
}

// pause pauses accepting, and notes whether that is paused. After calls that overlap, that is not known.
func (w *world) pause(on bool, call func()) {
	h := w.handlersOfServer(w.server)
	w.checkLimits(h)
	w.pausing++
	w.pauses++
	number, alone := w.pauses, w.pausing == 1
	h.limits.stopped = false
	w.pauseVague = w.pauseVague || w.pausing > 1 || len(w.all) > 1
	call()
	w.paused = on
	w.pausing--
	if on && !h.s.IsAccepting() {
		accepted := h.s.Stats().Accepted
		h.limits.stopped = alone && w.pauses == number
		h.limits.accepted = accepted
	}
}

// checkLimits fails if a server has more than it may have.
func (w *world) checkLimits(h *serverHandlers) {
	l := &h.limits
	stopped, accepted, pauses := l.stopped, l.accepted, w.pauses
	st := h.s.Stats()
	if st.Pending > st.Open || st.Open < 0 {
		sched.Fail("%+v", st)
	}
	switch {
	case st.Pending > l.pending:
		sched.Fail("%d connections are pending, the limit is %d", st.Pending, l.pending)
	case st.Open > l.connections && !l.unlimited:
		sched.Fail("%d connections are open, the limit is %d", st.Open, l.connections)
	case stopped && l.stopped && pauses == w.pauses && st.Accepted > accepted:
		sched.Fail("%d connections were accepted during a pause", st.Accepted-accepted)
	}
}

// isRefused reports whether the filter refuses a client.
func (w *world) isRefused(port uint16) bool { return w.p.Server.Filter && port%4 == 0 }

// checkDrop fails if there is no reason to drop a connection.
func (h *serverHandlers) checkDrop(d tcpserver.Drop) {
	c := h.w.p.Server
	reason := false
	remote, ok := d.Remote.(*net.TCPAddr)
	switch d.Reason {
	case tcpserver.DropFiltered:
		reason = ok && h.w.isRefused(uint16(remote.Port))
	case tcpserver.DropMaxConnections:
		reason = h.limits.connections > 0
	case tcpserver.DropQueueFull:
		reason = c.OverflowDrop
	}
	if !reason || !ok || d.Local == nil {
		sched.Fail("a drop without a reason: %+v", d)
	}
}
