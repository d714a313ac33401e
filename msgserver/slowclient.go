package msgserver

import (
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

const (
	// drainRate is the rate, in bytes per second, at which a client's credit expires. It is below the guaranteed rate
	// because programs read in bursts.
	drainRate = 64 << 10
	// minCreditLimit is the limit of the credit of a client with a small receive window, in bytes. Systems empty a
	// small receive buffer completely before they announce room again.
	minCreditLimit = 256 << 10
	// maxAssumedWindow is the largest receive window, in bytes, that is assumed of a client that has not announced it.
	maxAssumedWindow = 4 << 20
)

// A stallDetector decides when a client has taken nothing for too long, as the package documentation describes.
type stallDetector struct {
	lag    time.Duration
	taken  int64         // how many bytes the client has taken so far
	credit int64         // in bytes
	window int64         // the client's receive window, in bytes
	idle   time.Duration // since the client last took something
}

// observe reports whether the client has stalled and has to be dropped. taken is how many bytes it has taken so far,
// and passed is the time since the last call.
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

// A watch checks an output periodically while something is queued, and from closeGracefully until the connection is
// closed.
type watch struct {
	output *output
	stall  stallDetector
	last   time.Time // the time of the last check
}

// watch starts a watch, unless one is running. The watch drops the client if that does not take what it is sent, and
// closes the connection once the client has taken everything and nothing more will be sent.
func (o *output) watch() {
	if o.watched.Swap(true) {
		return
	}
	w := &watch{output: o, stall: stallDetector{lag: o.lag}, last: time.Now()}
	p := o.progress()
	w.stall.observe(p.taken, p.window, 0) // what it has taken until now is its credit
	w.schedule()
}

// needsWatch reports whether something is queued, or the connection still has to be closed.
func (o *output) needsWatch() bool {
	return o.socket.BytesToWrite() > 0 || o.closing.Load() && o.socket.State() != tcpserver.StateUnconnected
}

// interval returns the time between two checks.
func (w *watch) interval() time.Duration {
	return min(max(w.stall.lag/8, 5*time.Millisecond), 100*time.Millisecond)
}

func (w *watch) schedule() { sched.AfterFunc(w.interval(), w.check) }

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
	// If this program was delayed, it did not check in time, which must not count against the client.
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
