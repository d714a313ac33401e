//go:build sim

package explore

import (
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// checkStill holds the world against the model while nothing moves.
func (w *world) checkStill() {
	for _, b := range w.blocks {
		if b.could() && !w.ui.isBusy() {
			sched.Fail("%s waits, and need not", b.what)
		}
	}
	for _, l := range w.links {
		if l != nil && l.socket != nil {
			w.checkLink(l)
		}
	}
	for _, h := range w.served {
		w.checkLimits(h)
	}
	w.checkAccepting()
	w.checkCounts()
	if !w.p.Stalls && !w.faulty {
		w.checkIdle()
	}
}

// checkLink holds a connection against the model.
func (w *world) checkLink(l *link) {
	i := tcpserver.Inspect(l.socket)
	if i.State == tcpserver.StateUnconnected {
		w.checkEnd(l, i.Err)
	}
	switch {
	case i.State == tcpserver.StateClosing && !w.p.Stalls && l.flush.isOver(w.closeTimeout()):
		sched.Fail("%v: it is closing for longer than CloseTimeout", l)
	case i.State == tcpserver.StateClosing && i.Queued == 0:
		sched.Fail("%v: it is closing and has nothing to send", l)
	case i.State != tcpserver.StateUnconnected && i.Queued > 0 && l.conn.RoomToSend() >= w.third() && !l.vanished:
		sched.Fail("%v: %d bytes are queued, and the system has room for %d", l, i.Queued, l.conn.RoomToSend())
	case i.State == tcpserver.StateUnconnected && !l.conn.ServerGone():
		sched.Fail("%v: it has ended, and its descriptor is open", l)
	}
	if !i.HasHandlers || w.ui.isBusy() || l.inside != "" || w.ui.isTaken() {
		return
	}
	switch {
	case i.Running:
		sched.Fail("%v: handlers are due and do not run", l)
	case i.State == tcpserver.StateUnconnected && !l.over:
		sched.Fail("%v: it has ended without Disconnected", l)
	case i.State != tcpserver.StateConnected || l.closing:
	default:
		w.checkInput(l, i)
	}
}

// third is how much room makes the system report that it takes bytes again.
func (w *world) third() int { return max(1, w.k.SendBuffer/3) }

// checkInput holds what a connection with handlers has received against the model.
func (w *world) checkInput(l *link, i tcpserver.Insight) {
	eof, reset := l.conn.EndArrived()
	full := i.Buffered >= i.Limit
	switch {
	case i.Paused:
	case !full && i.InputOpen && (l.conn.Held() > 0 || eof || reset):
		sched.Fail("%v: input was not read", l)
	case l.seen < l.pos+i.Buffered && len(l.ahead) == 0 && !l.vague:
		sched.Fail("%v: ReadyRead was not called for %d bytes", l, l.pos+i.Buffered-l.seen)
	case l.left && i.Buffered > 0 && !l.worker:
		sched.Fail("%v: ReadyRead has taken some and left some, and was not called again", l)
	case eof && i.Buffered == 0 && l.conn.Held() == 0 && !l.told && !l.deaf && !w.faulty:
		sched.Fail("%v: everything is read, and ReadClosed was not called", l)
	}
	if l.told && !i.HalfOpen && i.Queued == 0 && !l.halfOpened {
		sched.Fail("%v: it is open after ReadClosed", l)
	}
	if i.Unreported > 0 && l.react.Written != nil {
		sched.Fail("%v: BytesWritten was not called for %d bytes", l, i.Unreported)
	}
}

// checkCounts holds the servers' counters against the model.
func (w *world) checkCounts() {
	var st tcpserver.ServerStats
	for _, s := range w.all {
		one := s.Stats()
		st.Accepted += one.Accepted
		st.Dropped += one.Dropped
		st.Pending += one.Pending
		st.Open += one.Open
	}
	open, queued, accepted := 0, 0, 0
	for _, l := range w.links {
		if l == nil || !l.conn.Accepted {
			continue
		}
		accepted++
		if !l.conn.ServerGone() {
			open++
			if l.socket == nil {
				queued++
			}
		}
	}
	switch {
	case w.ui.isBusy():
	case st.Open != open:
		sched.Fail("%d connections are open, the servers count %d", open, st.Open)
	case st.Pending != queued:
		sched.Fail("%d connections are pending, the servers count %d", queued, st.Pending)
	case int(st.Accepted+st.Dropped) > accepted || int(st.Accepted) < len(w.taken)+queued:
		sched.Fail("%d connections were accepted and %d handed out, the servers count %+v", accepted, len(w.taken), st)
	}
}

// attempts are those of the system's to accept, as far as connections wait and there is no reason not to accept.
type attempts struct {
	due   bool
	calls int // of accept
	begun int // calls of Listen
}

// mayAccept reports whether connections wait in the backlog, and the server has no reason not to accept, unless
// descriptors or memory are short.
func (w *world) mayAccept() bool {
	s := w.server
	waiting := s.IsListening() && w.k.Waiting(w.port) > 0
	return waiting && !w.paused && !w.pauseVague && s.PendingConnections() < s.MaxPendingConnections()
}

// checkAccepting fails if connections wait in the backlog and there is no reason not to accept. Whatever is short, it
// is tried once a second.
func (w *world) checkAccepting() {
	s, was := w.server, w.tried
	w.tried = attempts{w.mayAccept(), w.k.CallsOf(sim.CallAccept), w.begun}
	switch {
	case s.IsListening() && s.IsAccepting() && w.k.Waiting(w.port) > 0:
		sched.Fail("connections wait to be accepted: %+v", s.Stats())
	case !w.tried.due:
	case !w.faulty:
		sched.Fail("the server has no reason not to accept: %+v", s.Stats())
	case w.tried == was && !w.p.Stalls:
		sched.Fail("the server does not try to accept any more: %+v", s.Stats())
	}
}

// awaitsTimeout reports whether something will have happened some seconds from now, although nobody moves.
func (w *world) awaitsTimeout() bool {
	if w.tried.due {
		return true
	}
	for _, l := range w.taken {
		i := tcpserver.Inspect(l.socket)
		d, _ := w.idleTimeout(l)
		closing := i.State == tcpserver.StateClosing && w.closeTimeout() > 0
		if closing || i.State != tcpserver.StateUnconnected && d > 0 {
			return true
		}
	}
	return false
}

// end ends everything, and checks what is left.
func (w *world) end() {
	w.over = true
	w.k.SetFiles(1 << 16)
	for _, s := range w.all {
		s.Close()
		s.CloseConnections()
	}
	for _, l := range w.links {
		if l != nil && l.socket != nil {
			l.socket.Abort()
		}
	}
	sched.Sleep(10 * time.Second)
	for _, l := range w.links {
		if l != nil {
			l.conn.Reset()
		}
	}
	for _, s := range w.all {
		s.Close() // a ListenAsync may have come late
		s.CloseConnections()
	}
	sched.Settle(time.Hour)
	for _, l := range w.links {
		if l != nil {
			l.checkSent()
			l.checkWritten()
			l.checkTaken()
		}
	}
	if !w.ui.isDead() {
		w.checkEnded()
	}
	w.ui.stop()
	sched.Settle(time.Hour)
	if n := w.k.OpenFiles(); n > 0 {
		sched.Fail("%d descriptors are left", n)
	}
	if left := tcpserver.Leftovers(); left != "" && !w.ui.isDead() {
		sched.Fail("%s", left)
	}
	if tasks := sched.Waiting(); len(tasks) > 0 {
		sched.Fail("tasks are left: %v\n%s", tasks, sched.Describe())
	}
}

// checkEnded fails if a connection or a server has not ended.
func (w *world) checkEnded() {
	for _, l := range w.taken {
		i := tcpserver.Inspect(l.socket)
		if i.State != tcpserver.StateUnconnected || i.HasHandlers && !l.over {
			sched.Fail("%v: it has not ended", l)
		}
	}
	open := 0
	for _, s := range w.all {
		st := s.Stats()
		open += st.Open + st.Pending
	}
	if open > 0 {
		sched.Fail("%d connections are counted as open", open)
	}
	for _, h := range w.served {
		if h.closes != h.periods {
			sched.Fail("%d periods of listening, and %d calls of ClosedHandler", h.periods, h.closes)
		}
	}
}
