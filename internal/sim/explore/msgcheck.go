//go:build sim

package explore

import (
	"slices"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// isIdle reports whether the worker waits, in a round that nothing has begun to end.
func (w *msgWorld) isIdle() bool {
	return w.serving && w.inside == "" && !w.isEnding() && w.worker >= 0
}

// checkStill holds the world against the model while nothing moves.
func (w *msgWorld) checkStill() {
	if w.faulty || slices.ContainsFunc(w.links, func(l *msgLink) bool { return l != nil && l.decoding }) {
		return // a decoder that sleeps may hold up a loop
	}
	for _, l := range w.links {
		if l != nil {
			w.checkMsgLink(l)
		}
	}
	switch {
	case !w.isIdle():
		return
	case len(w.works) > 0:
		sched.Fail("%d functions passed to Work wait", len(w.works))
	case w.unupdated:
		sched.Fail("a batch of events was not followed by Update")
	case w.owed != "":
		sched.Fail("OnError was not called when %s failed", w.owed)
	}
	w.checkRefused()
	if w.tcp != nil && w.k.Waiting(msgPort) > 0 && w.tcp.IsAccepting() {
		sched.Fail("connections wait to be accepted")
	}
	w.checkUpdate()
}

// slack is how late something may be.
func (w *msgWorld) slack() time.Duration {
	if w.p.Stalls {
		return 100 * time.Millisecond
	}
	return time.Millisecond
}

// checkUpdate fails if Update is overdue.
func (w *msgWorld) checkUpdate() {
	late := time.Since(w.updated) - w.p.Server.updateTime()
	if !w.p.Server.NoUpdate && late > w.slack() && time.Since(w.idleSince) > w.slack() {
		sched.Fail("Update is late by %v", late)
	}
}

// checkMsgLink holds a client against the model.
func (w *msgWorld) checkMsgLink(l *msgLink) {
	if l.socket == nil {
		if l.isOffered() && !l.conn.ServerGone() && w.isIdle() {
			sched.Fail("%v: its connection is not a client", l)
		}
		return
	}
	i := tcpserver.Inspect(l.socket)
	w.noteStill(l, i)
	w.checkProgress(l, i)
	switch {
	case i.State != tcpserver.StateUnconnected && i.Queued > 0 && l.conn.RoomToSend() >= w.third() && !l.vanished:
		sched.Fail("%v: %d bytes are queued, and the system has room for %d", l, i.Queued, l.conn.RoomToSend())
	case i.Queued > w.p.Server.maxSend():
		sched.Fail("%v: more is queued than may be", l)
	case !w.isIdle() && w.p.Server.WorkExecutor:
	case (l.stopped || l.failed) && i.State == tcpserver.StateConnected && i.HasHandlers && l.conn.Held() > 0:
		sched.Fail("%v: what it sends is not discarded", l)
	case !w.isIdle() || l.state != linkClient:
	case i.State == tcpserver.StateUnconnected:
		sched.Fail("%v: it has ended without ClientDisconnected", l)
	case i.Queued <= w.p.Server.mark() && !l.stopping && !l.failed && !l.aborting:
		w.checkHandled(l, i)
	}
}

// checkHandled fails if a client waits, and need not.
func (w *msgWorld) checkHandled(l *msgLink, i tcpserver.Insight) {
	eof, reset := l.conn.EndArrived()
	if reset {
		sched.Fail("%v: it was reset and is still a client", l)
	}
	want, failed := l.due(&w.p.Server, l.conn.Arrived())
	sent, _, _, _ := l.conn.Taken()
	total, sure := l.acceptedBytes()
	switch {
	case sure && total != sent+i.Queued:
		sched.Fail("%v: %d bytes were accepted; the system has taken %d, and %d are queued", l, total, sent, i.Queued)
	case l.handled < want:
		sched.Fail("%v: message %d waits", l, l.handled)
	case failed && l.failure == nil:
		sched.Fail("%v: it should have failed", l)
	case eof && i.Queued == 0 && l.conn.Held() == 0:
		sched.Fail("%v: it has ended its stream and is still a client", l)
	}
}

// checkProgress fails if a client that takes nothing, or that was stopped and has taken everything, is still connected.
func (w *msgWorld) checkProgress(l *msgLink, i tcpserver.Insight) {
	if i.State == tcpserver.StateUnconnected {
		return
	}
	n, _ := l.taken(w)
	if n != l.lastTaken || i.Queued == 0 && !l.stopping {
		l.lastTaken, l.lastMoved = n, time.Now()
	}
	if l.lastMoved.Before(l.queuedSince) {
		l.lastMoved = l.queuedSince
	}
	idle := time.Since(l.lastMoved)
	switch {
	case idle > l.patience(w) && (i.Queued > 0 || l.stopping):
		sched.Fail("%v: it has taken nothing for %v", l, idle)
	case l.stopped && idle > 200*time.Millisecond+w.slack() && l.hasAll() && l.conn.EndReceived() &&
		i.Queued == 0 && !w.p.Peer.HideUnacked:
		sched.Fail("%v: it has taken everything, and is not closed", l)
	}
}

// anyMoves reports whether a client is still being served.
func (w *msgWorld) anyMoves() bool {
	for _, l := range w.links {
		if l == nil || l.socket == nil || l.state == linkNew {
			continue
		}
		i := tcpserver.Inspect(l.socket)
		if i.State != tcpserver.StateUnconnected && (i.Queued > 0 || l.stopping || l.failed) {
			return true
		}
	}
	return false
}

// checkFinal holds a client against the model at the end of the run.
func (w *msgWorld) checkFinal(l *msgLink) {
	// After an error that ends the connection in order, what is sent is dropped before the server notices.
	if ended := w.faulty || w.p.Server.Idle > 0; !ended || l.socket == nil || l.socket.Err() == nil {
		l.checkSent()
	}
	switch {
	case l.state == linkClient || l.state == linkConnecting:
		sched.Fail("%v: it is still a client at the end", l)
	case l.state != linkNew && l.steady && !l.clean && !w.mayBeCut(l):
		sched.Fail("%v: it reads to the end, and has not met a clean end of the stream", l)
	}
}

// mayBeCut reports whether there is a reason why a client that reads to the end does not get everything.
func (w *msgWorld) mayBeCut(l *msgLink) bool {
	switch {
	case w.faulty, l.rude, l.aborting, l.overflow, l.slow, l.forced, w.p.Server.Idle > 0:
		return true
	case !w.p.System.Drop && !w.p.Peer.HideUnacked:
		return false
	}
	return !l.conn.EndedFirst() // what it sends too late is answered with a reset
}
