package tcpserver

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Poller is a set of event loops that servers share: the process-wide one, which every server uses whose Poller
// field is nil, or one made by NewPoller. Its loops start with its first user, a server that listens, and end with
// its last, when the servers are closed and their sockets have ended; then it can be used again. All methods may be
// called from any goroutine.
type Poller struct {
	n     int          // loops; 0: GOMAXPROCS when they start
	users atomic.Int64 // listeners and open sockets; it reaches 0 and leaves 0 only under mu

	mu     sync.Mutex // guards the block below
	loops  []*loop    // nil while there is no user
	closed bool

	dog watchdog
}

var sharedPoller Poller

// NewPoller returns a Poller of that many loops; loops <= 0: GOMAXPROCS, read when they start. One loop keeps everything that its servers
// and sockets do on one goroutine at a time. The error is ErrUnsupported where Supported is false.
func NewPoller(loops int) (*Poller, error) {
	if !Supported() {
		return nil, ErrUnsupported
	}
	return &Poller{n: max(loops, 0)}, nil
}

// Loops returns how many loops the poller has.
func (p *Poller) Loops() int {
	if p.n > 0 {
		return p.n
	}
	return runtime.GOMAXPROCS(0)
}

// Close aborts every socket and closes every server that still uses the poller, and leaves it unusable: Listen
// fails with net.ErrClosed. A second call does nothing. It returns nil.
func (p *Poller) Close() error {
	p.mu.Lock()
	loops := p.loops
	p.closed = true
	p.mu.Unlock()
	for _, l := range loops {
		l.evictAll()
	}
	return nil
}

// acquire counts one more user, starts the loops for the first one, and returns one of them.
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

// retain counts one more user on behalf of one that is already counted.
func (p *Poller) retain() { p.users.Add(1) }

// release gives up one use. The last one ends the loops.
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
	for i := range loops {
		loops[i] = &loop{poller: p, peers: loops}
	}
	p.loops = loops
	for i, l := range loops {
		if err := l.start(); err != nil {
			p.loops = loops[:i]
			p.stop()
			return err
		}
	}
	p.dog.start(loops)
	return nil
}

func (p *Poller) stop() {
	p.dog.stop()
	for _, l := range p.loops {
		l.end()
	}
	p.loops = nil
}

// How often the watchdog looks. A turn that it finds at two looks running has lasted for one period at least.
const (
	watchPeriod = 10 * time.Millisecond
	watchHurry  = time.Millisecond // while handlers are known to be late: others may be as slow
)

// A watchdog sees to it that a handler that blocks holds up nobody but its own socket: it gives the loop that is
// held up to a fresh goroutine. It sleeps while all loops do.
type watchdog struct {
	armed atomic.Bool
	late  atomic.Int32 // goroutines that have been replaced and have not come back

	mu    sync.Mutex // guards the block below
	loops []*loop
	seen  []uint64 // the turn counter of each loop at the last look
	timer *time.Timer
}

func (w *watchdog) start(loops []*loop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loops, w.seen = loops, make([]uint64, len(loops))
	w.armed.Store(true)
	if w.timer == nil {
		w.timer = time.AfterFunc(watchPeriod, w.look)
	} else {
		w.timer.Reset(watchPeriod)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loops = nil
	if w.timer != nil {
		w.timer.Stop()
	}
}

// arm is called by a loop that has just become awake.
func (w *watchdog) arm() {
	if w.armed.Load() || !w.armed.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loops != nil {
		w.timer.Reset(watchPeriod)
	}
}

// look replaces the goroutines that are held up, and looks again soon unless all loops sleep. A loop sets awake
// before it calls arm, look clears armed before it reads awake: one of the two sees the other.
func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.loops {
		turn := l.turn.Load()
		if turn == w.seen[i] && turn%2 == 1 {
			l.takeOver(turn)
		}
		w.seen[i] = turn
	}
	w.armed.Store(false)
	for _, l := range w.loops {
		if l.awake.Load() {
			w.armed.Store(true)
			w.timer.Reset(w.period())
			return
		}
	}
}

func (w *watchdog) period() time.Duration {
	if w.late.Load() > 0 {
		return watchHurry
	}
	return watchPeriod
}
