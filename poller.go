package tcpserver

import (
	"net"
	"runtime"
	"slices"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A Poller is a set of event loops that serve servers and their sockets. Servers whose Poller field is nil share one
// for the whole process; [NewPoller] returns others. The loops start with the first user, a server that listens, and
// end with the last, when the servers are closed and their sockets have ended. After that the Poller can be used again.
//
// Multiple goroutines may call methods on a Poller simultaneously.
type Poller struct {
	n     int         // number of loops; 0 means GOMAXPROCS when they start
	users sched.Int64 // listeners and open sockets; it changes to and from 0 only under mu

	mu     sched.Mutex // guards the block below
	loops  []*loop     // nil while there are no users
	closed bool
}

var sharedPoller Poller

// NewPoller returns a Poller with the given number of loops. If loops is zero or negative, the number is GOMAXPROCS
// when they start. With one loop, everything that its servers and sockets do runs on one goroutine at a time, except
// beside a handler that blocks. The error is [ErrUnsupported] where [Supported] returns false.
func NewPoller(loops int) (*Poller, error) {
	if !Supported() {
		return nil, ErrUnsupported
	}
	return &Poller{n: max(loops, 0)}, nil
}

// Loops returns the number of loops of the poller.
func (p *Poller) Loops() int {
	if p.n > 0 {
		return p.n
	}
	return runtime.GOMAXPROCS(0)
}

// Close aborts every socket and closes every server that uses the poller. It cannot be used again: Listen returns
// [net.ErrClosed]. A second call does nothing. It returns nil.
func (p *Poller) Close() error {
	p.mu.Lock()
	loops := p.loops
	p.closed = true
	p.mu.Unlock()
	for _, l := range loops {
		l.closeSources()
	}
	return nil
}

// acquire counts a new user, starts the loops for the first one, and returns the loop with the fewest sources.
func (p *Poller) acquire() (*loop, error) {
	if !Supported() {
		return nil, ErrUnsupported
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	if p.loops == nil {
		if err := p.start(); err != nil {
			return nil, err
		}
	}
	p.users.Add(1)
	l := p.loops[0]
	for _, m := range p.loops {
		if m.load.Load() < l.load.Load() {
			l = m
		}
	}
	return l, nil
}

// retain counts another user on behalf of one that is counted already.
func (p *Poller) retain() { p.users.Add(1) }

// release counts one user less. The last one ends the loops.
func (p *Poller) release() {
	if p.users.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users.Load() == 0 && p.loops != nil {
		p.stop()
	}
}

func (p *Poller) start() error {
	loops := make([]*loop, p.Loops())
	watchdog := new(watchdog)
	for i := range loops {
		loops[i] = &loop{poller: p, watchdog: watchdog, peers: loops}
	}
	p.loops = loops
	for i, l := range loops {
		if err := l.start(); err != nil {
			p.loops = loops[:i]
			p.stop()
			return err
		}
	}
	watchdog.start(loops)
	return nil
}

func (p *Poller) stop() {
	for _, l := range p.loops {
		l.end()
	}
	p.loops = nil
}

// How often the watchdog checks. A turn that two checks in a row find running has lasted for at least one period.
const (
	watchPeriod     = 10 * time.Millisecond
	watchPeriodLate = time.Millisecond // while handlers are late: others may be as slow
)

// A turnCounter tells the watchdog whether a source's turn is running, and decides who continues with the batch. It is
// odd during a turn. Whoever makes it even continues: the goroutine that began the turn, or the watchdog on behalf of a
// new one.
//
//	even ──begin──► odd ──end: the same goroutine continues with the batch────────────► even
//	                 └───steal: the watchdog starts another goroutine that continues──► even
type turnCounter struct{ v sched.Uint64 }

// begin begins a turn and returns its mark.
func (c *turnCounter) begin() (mark uint64) { return c.v.Add(1) }

// end ends the turn that began at mark. It returns false if the turn was stolen.
func (c *turnCounter) end(mark uint64) bool { return c.v.CompareAndSwap(mark, mark+1) }

// steal ends the turn that began at mark on behalf of another goroutine. It returns false if the turn has ended.
func (c *turnCounter) steal(mark uint64) bool { return c.v.CompareAndSwap(mark, mark+1) }

// now returns the mark of the turn that is running, if running is true.
func (c *turnCounter) now() (mark uint64, running bool) {
	mark = c.v.Load()
	return mark, mark%2 == 1
}

// A watchdog makes sure that a handler that blocks delays only its own socket: it starts another goroutine that runs
// the loop. It sleeps while all loops sleep. It watches the loops that were started together until each has ended:
// after the poller has lost its last user, handlers may still run, and others wait behind them.
type watchdog struct {
	armed sched.Bool
	late  sched.Int32 // goroutines that have lost their turn and have not returned

	mu      sched.Mutex // guards the block below
	watched []watched
	timer   *sched.Timer // nil before start
}

// A watched is a loop and its turn counter at the last check.
type watched struct {
	loop *loop
	seen uint64
}

func (w *watchdog) start(loops []*loop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range loops {
		w.watched = append(w.watched, watched{loop: l})
	}
	w.armed.Store(true)
	w.timer = sched.AfterFunc(watchPeriod, w.check)
}

// forget is called by a loop that has ended.
func (w *watchdog) forget(l *loop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched = slices.DeleteFunc(w.watched, func(v watched) bool { return v.loop == l })
	if len(w.watched) == 0 && w.timer != nil {
		w.timer.Stop()
	}
}

// arm is called by a loop that has just woken.
func (w *watchdog) arm() {
	if w.armed.Load() || !w.armed.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watched) > 0 {
		w.timer.Reset(watchPeriod)
	}
}

// check takes over the loops whose handler blocks, and checks again after a period unless all loops sleep. A loop sets
// awake before it calls arm, and check clears armed before it reads awake, so one of the two sees the other.
func (w *watchdog) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.watched {
		v := &w.watched[i]
		mark, running := v.loop.turn.now()
		if running && mark == v.seen {
			v.loop.takeOver(mark)
		}
		v.seen = mark
	}
	w.armed.Store(false)
	for _, v := range w.watched {
		if v.loop.awake.Load() {
			w.armed.Store(true)
			w.timer.Reset(w.period())
			return
		}
	}
}

func (w *watchdog) period() time.Duration {
	if w.late.Load() > 0 {
		return watchPeriodLate
	}
	return watchPeriod
}
