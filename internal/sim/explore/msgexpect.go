//go:build sim

package explore

import (
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// owe notes that the callback that runs is about to fail, so that OnError has to follow before any other callback.
// After a panic of OnError nothing has to: it is written.
func (w *msgWorld) owe() {
	if w.inside != "OnError" {
		w.owed = w.inside
	}
}

// refused returns how many connections the server says that it has refused.
func (w *msgWorld) refused() int {
	if s, ok := w.s.(*threadServer); ok {
		return int(s.Refused())
	}
	return 0
}

// maxClients returns how many clients a ThreadServer may have.
func (s *MsgServer) maxClients() int {
	n := 10
	if s.Threads > 0 {
		n = s.Threads
	}
	if s.PerThread > 0 {
		return n * s.PerThread
	}
	return n * 64
}

// isOffered reports whether a connection came to the server, and is none of its clients.
func (l *msgLink) isOffered() bool {
	return l.socket == nil && l.conn.Accepted && (l.added || !l.toAdd)
}

// checkRefused fails if the server has closed connections that did not become clients, and does not count them as
// refused, or if it refuses some although there is room. It is called while nothing moves.
func (w *msgWorld) checkRefused() {
	refused, gone, others := w.refused()-w.refusedBefore, 0, 0
	for _, l := range w.links {
		if l == nil {
			continue
		}
		_, reset := l.conn.EndArrived()
		switch {
		case l.socket != nil || l.missed:
			others++
		case l.isOffered() && l.conn.ServerGone() && !reset: // what is reset while it is pending is forgotten
			gone++
		}
	}
	switch {
	case gone > refused && w.p.Server.Idle == 0: // which also ends what is pending
		sched.Fail("%d connections were closed that never were clients, and %d of them are counted", gone, refused)
	case refused > 0 && others < w.p.Server.maxClients():
		sched.Fail("%d connections were refused, and there were %d others, ever", refused, others)
	}
}

// noteMissed notes, when Serve has returned, which connections did not become clients: why does not matter any more.
func (w *msgWorld) noteMissed() {
	w.refusedBefore = w.refused()
	for _, l := range w.links {
		if l != nil && l.isOffered() {
			l.missed = true
		}
	}
}

// noteStill notes, while nothing moves, what a client may rely on from now on: what the server has read by now is
// processed when Serve ends, and nothing more is read while as much is queued as is.
func (w *msgWorld) noteStill(l *msgLink, i tcpserver.Insight) {
	l.promised, _ = l.due(&w.p.Server, int(l.socket.BytesRead()))
	l.wasOver = i.Queued > w.p.Server.mark()
	l.sentThen, _, _, _ = l.conn.Taken()
}

// checkPromised fails if Serve ends a client of a ServerLoop before it has processed what was received.
func (w *msgWorld) checkPromised(l *msgLink) {
	ends := w.p.Server.Loop && w.isEnding() && !w.faulty
	if ends && l.handled < l.promised && l.failure == nil && !l.stopping && !l.aborting {
		sched.Fail("%v: Serve ends it with %d messages that were received", l, l.promised)
	}
}

// checkReading fails if bytes of a client are decoded that should not have been read: too much was queued when nothing
// moved, and the system has taken nothing of that since.
func (w *msgWorld) checkReading(l *msgLink) {
	sent, _, _, _ := l.conn.Taken()
	if i := tcpserver.Inspect(l.socket); l.wasOver && sent == l.sentThen && i.Queued > w.p.Server.mark() {
		sched.Fail("%v: it is read while %d bytes are queued", l, i.Queued)
	}
}

// updateTime returns the time from one Update to the next.
func (s *MsgServer) updateTime() time.Duration {
	if s.Update > 0 {
		return s.Update
	}
	return time.Second
}

// checkEarly fails if Update of a ThreadServer comes before its time.
func (w *msgWorld) checkEarly() {
	due := w.begun.Add(time.Duration(w.updates) * w.p.Server.updateTime())
	if early := time.Until(due); !w.p.Server.Loop && early > 0 {
		sched.Fail("Update number %d comes %v too early", w.updates, early)
	}
}

// checkStarved fails if a ThreadServer calls back for something else while Update is due. A client's messages that had
// to wait are handled one after another. Update has become due while everything rested, as time passes only then.
func (w *msgWorld) checkStarved(name string, l *msgLink) {
	if c := w.p.Server; c.Loop || c.NoUpdate || name == "AfterEvent" || name == "OnError" {
		return
	}
	late := time.Since(w.updated) - w.p.Server.updateTime()
	if name != "Update" && late > w.slack() && !w.isEnding() && (l == nil || l != w.latest) {
		sched.Fail("%s is called before Update, which is late by %v", name, late)
	}
	w.latest = l
}
