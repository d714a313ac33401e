//go:build sim

package explore

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// flush is the time in which a connection that is closed sends what is queued.
type flush struct {
	first time.Time // before the first call that may have begun it
	last  time.Time // after the last one
}

func (f *flush) begin() {
	if f.first.IsZero() {
		f.first = time.Now()
	}
}

func (f *flush) end() { f.last = time.Now() }

// isOver reports whether CloseTimeout has passed for sure.
func (f *flush) isOver(timeout time.Duration) bool {
	return timeout > 0 && !f.last.IsZero() && time.Since(f.last) > timeout+10*time.Millisecond
}

// closeTimeout returns the CloseTimeout of the servers.
func (w *world) closeTimeout() time.Duration {
	const byDefault = 5 * time.Second
	if w.p.Server.Close == 0 {
		return byDefault
	}
	return w.p.Server.Close
}

// An idleLimit is the idle timeout that the program has set for a connection.
type idleLimit struct {
	set     bool
	vague   bool // by calls that overlap
	calls   int  // that set one
	running int  // that have not returned
	limit   time.Duration
	since   time.Time
}

func (l *link) setIdleTimeout(d time.Duration) {
	i := &l.idle
	i.calls++
	i.running++
	i.set, i.vague = true, true
	number, before := i.calls, i.running
	l.socket.SetIdleTimeout(d)
	i.running--
	i.vague = before > 1 || i.calls != number || i.running > 0
	i.limit, i.since = d, time.Now()
}

// idleTimeout returns the idle timeout of a connection, and from when on it counts.
func (w *world) idleTimeout(l *link) (d time.Duration, since time.Time) {
	if l.idle.set {
		return l.idle.limit, l.idle.since
	}
	return w.p.Server.Idle, time.Time{}
}

// checkIdle fails if a connection has outlived its idle timeout.
func (w *world) checkIdle() {
	for _, l := range w.links {
		if l == nil || !l.conn.Accepted || l.conn.ServerGone() || l.idle.vague {
			continue
		}
		d, since := w.idleTimeout(l)
		if l.conn.LastActive.After(since) {
			since = l.conn.LastActive
		}
		// It is up to two tenths of a second late, and what is done at the end takes some time.
		if idle := time.Since(since); d > 0 && idle > d+300*time.Millisecond {
			sched.Fail("%v: it is idle for %v", l, idle)
		}
	}
}

// checkIdleEnd fails if an idle timeout has come early.
func (w *world) checkIdleEnd(l *link) {
	if l.conn.Closed.IsZero() {
		l.conn.Closed = time.Now() // a call that looks at the descriptor keeps it open
	}
	d, since := w.idleTimeout(l)
	idle := l.conn.Closed.Sub(l.conn.LastActive)
	if idle < time.Millisecond { // it may have become active again while it was being ended
		idle = l.conn.Closed.Sub(l.conn.Before)
	}
	if l.idle.set {
		if l.conn.Closed.Sub(since) < time.Millisecond { // or the timeout may have been changed
			return
		}
		idle = min(idle, l.conn.Closed.Sub(since))
	}
	if !l.idle.vague && !w.p.Stalls && (d <= 0 || idle < d) {
		sched.Fail("%v: an idle timeout of %v after %v", l, d, idle)
	}
}

// abort notes that a call begins that ends the connection at once.
func (l *link) abort() { l.excused, l.closing, l.aborted = true, true, true }

// checkEnd holds the end of a connection against the model, once.
func (w *world) checkEnd(l *link, err error) {
	if l.checked || w.over || w.aborting > 0 || w.pollerClosed {
		return
	}
	l.checked = true
	if err != nil {
		w.checkCause(l, err)
		return
	}
	eof, reset := l.conn.EndArrived()
	o := &l.output
	switch {
	case w.faulty || l.aborted:
	case !l.closing && !eof && !l.deaf:
		sched.Fail("%v: it has ended without an error, and nobody has ended it", l)
	case l.lost() > 0 && !reset && !l.cut && !o.dropped && o.writing == 0:
		sched.Fail("%v: it has ended without an error, and %d bytes are lost", l, l.lost())
	}
}

// checkCause fails if a connection has ended with an error for which there is no reason.
func (w *world) checkCause(l *link, err error) {
	var failure *tcpserver.PanicError
	_, reset := l.conn.EndArrived()
	switch {
	case w.faulty:
	case err == tcpserver.ErrIdleTimeout:
		w.checkIdleEnd(l)
	case errors.As(err, &failure):
		if !l.panicked {
			sched.Fail("%v: ended with %v, and no handler has panicked", l, err)
		}
	case err == os.ErrDeadlineExceeded:
		w.checkDeadline(l)
	case err == tcpserver.ErrReset:
		if !reset {
			sched.Fail("%v: ended with %v, and nobody has reset it", l, err)
		}
	case errors.As(err, new(syscall.Errno)):
		sched.Fail("%v: ended with %v", l, err)
	default:
		sched.Fail("%v: ended with an unexpected error: %v", l, err)
	}
}

// checkDeadline fails unless CloseTimeout has passed, or a Write was cut off with something queued behind it.
func (w *world) checkDeadline(l *link) {
	if l.cut || l.output.writing > 0 {
		return
	}
	end := l.conn.Closed
	if end.IsZero() {
		end = time.Now()
	}
	passed, timeout := end.Sub(l.flush.first), w.closeTimeout()
	if l.flush.first.IsZero() || timeout <= 0 || passed < timeout {
		sched.Fail("%v: CloseTimeout has ended it after %v", l, passed)
	}
}

// checkReset fails if there is no reason for the reset that the client has met.
func (w *world) checkReset(l *link) {
	o := &l.output
	excused := l.excused || w.faulty || w.over || w.aborting > 0 || w.pollerClosed || l.socket == nil
	cut := l.cut || o.rest != nil || o.writing > 0 || o.dropped
	if excused || cut || !l.conn.EndedFirst() && (!l.conn.Quiet() || w.p.Stalls || w.injects()) {
		return
	}
	// What ends the connection before everything is sent is a reason. That it may do so is checked elsewhere.
	cause := tcpserver.Inspect(l.socket).Err
	if !(cause == tcpserver.ErrIdleTimeout || cause == os.ErrDeadlineExceeded) || l.lost() <= 0 {
		sched.Fail("%v: the client has met a reset without a reason", l)
	}
}
