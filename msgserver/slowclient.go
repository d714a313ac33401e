package msgserver

import (
	"time"

	"github.com/pullaccept/tcpserver"
)

const (
	// drainRate is the rate in bytes a second at which a client uses up its credit. It is below the rate that is promised
	// to be enough, because programs read in bursts.
	drainRate = 64 << 10
	// minCreditLimit is the most credit that a client with a small receive window may have, in bytes. Systems empty a
	// small receive buffer altogether before they announce room again.
	minCreditLimit = 256 << 10
	// maxAssumedWindow is the largest receive window, in bytes, that a client is believed to have without having shown it.
	maxAssumedWindow = 4 << 20
)

// A stallDetector decides when a client has taken nothing for too long; see the package's documentation.
type stallDetector struct {
	lag    time.Duration
	taken  int64         // bytes that the client has taken so far
	credit int64         // bytes
	window int64         // the client's receive window, in bytes
	idle   time.Duration // since the client has taken something
}

// observe reports whether the client is to be dropped. taken is what it has taken so far, passed the time since the last
// call.
func (p *stallDetector) observe(taken, window int64, passed time.Duration) bool {
	p.window = max(p.window, window, min(taken, maxAssumedWindow))
	p.idle += passed
	if taken > p.taken {
		p.credit += taken - p.taken
		p.taken = taken
		p.idle = 0
	}
	p.credit = min(p.credit, minCreditLimit+p.window/8)
	p.credit = max(p.credit-int64(drainRate*passed.Seconds()), 0)
	return p.idle >= p.lag && p.credit == 0
}

// A watch looks after an output as long as something is queued, and from its end until the connection is closed.
type watch struct {
	output *output
	stall  stallDetector
	last   time.Time // of the last look
}

// watch has the client dropped if it does not take what it is sent, and ends the connection if it has taken everything
// and nothing more is to follow.
func (o *output) watch() {
	if o.watched.Swap(true) {
		return
	}
	w := &watch{output: o, stall: stallDetector{lag: o.lag}, last: time.Now()}
	p := o.progress()
	w.stall.observe(p.taken, p.window, 0) // what it has taken before is its credit
	w.schedule()
}

// needsWatch reports whether something is queued, or the connection has still to be closed.
func (o *output) needsWatch() bool {
	return o.socket.BytesToWrite() > 0 || o.closing.Load() && o.socket.State() != tcpserver.StateUnconnected
}

// interval is the time between two looks.
func (w *watch) interval() time.Duration {
	return min(max(w.stall.lag/8, 5*time.Millisecond), 100*time.Millisecond)
}

func (w *watch) schedule() { time.AfterFunc(w.interval(), w.check) }

func (w *watch) check() {
	o := w.output
	if !o.needsWatch() {
		o.watched.Store(false)
		if o.needsWatch() {
			o.watch()
		}
		return
	}
	now := time.Now()
	// A program that was held up itself has not looked, and does not count that against the client.
	passed := min(now.Sub(w.last), 2*w.interval())
	w.last = now
	sent := o.closing.Load() && o.socket.BytesToWrite() == 0
	p := o.progress()
	over := w.stall.observe(p.taken, p.window, passed)
	switch {
	case sent && (p.isComplete() || over && !p.known):
		o.socket.Close()
	case over:
		o.abort(ErrSlowClient)
	default:
		w.schedule()
	}
}
