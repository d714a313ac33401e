package tcpserver

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Each platform defines the type kernel with these methods. It knows descriptors, slots and readiness, and nothing
// of servers and sockets.
//
//	open() error                             make the kernel's queue
//	add(fd handle, key slotKey) error        report readiness of fd under key from now on, edge-triggered
//	remove(fd handle, key slotKey)           stop reporting; closing the descriptor does it as well
//	expect(key slotKey, ev events)           one of evRead, evWrite, evError is to be reported when it comes next
//	poll() int                               how many events there are now, without waiting
//	wait() int                               the same, waiting until there is one or until wake
//	event(i int) (slotKey, events)           the i-th of what poll or wait found
//	wake()                                   make the present or the next wait return; from any goroutine
//	stir()                                   make the runtime's monitor wake up, unless poll does
//	close()                                  give everything back
//
// poll, wait and event belong to the goroutine that runs the loop, which asks once for each event.
//
// Where the kernel has no edges, what it has reported once is reported again only when it is expected. So whoever finds
// a descriptor drained says so, while it is held open. add expects evRead; evError comes with either of the others too.

// events is what the kernel reports of a descriptor.
type events uint8

const (
	evRead   events = 1 << iota // something can be read
	evWrite                     // something can be written
	evHangup                    // the peer has finished sending: reads will meet the end of the stream
	evError                     // the connection is broken

	posted events = 0 // of a readyEvent: not an event of the kernel, but a request (loop.post)
)

// A source has a slot in a loop: a socket or a listener. What is only posted embeds postOnly.
type source interface {
	// onReady handles an event of the kernel. It may be called for a source that has just given up its slot.
	onReady(sc *scratch, ev events)
	// onPost handles the source's own request, made by loop.post.
	onPost(sc *scratch)
	// onTick is called when a wheel entry comes up, at tick now. It returns after how many ticks to call again; 0 means
	// never.
	onTick(now uint32) uint32
	// onLate is called when the call that was given sc takes long and another goroutine has taken over the loop. The
	// source gives up what it can of sc.
	onLate(sc *scratch)
	// onPollerClose is called when the poller is closed.
	onPollerClose()
}

// postOnly has the methods of a source that has no slot.
type postOnly struct{}

func (postOnly) onReady(*scratch, events) {}
func (postOnly) onTick(uint32) uint32     { return 0 }
func (postOnly) onLate(sc *scratch)       { sc.release() }
func (postOnly) onPollerClose()           {}

// A desk is what a goroutine needs that gives turns.
type scratch struct {
	chunk atomic.Pointer[chunk] // to read into; nil until it is needed
	until time.Time             // when no other handler is to begin; zero: no limit
}

// buffer returns the chunk to read into. It belongs to the desk: free does nothing with it.
func (sc *scratch) buffer() *chunk {
	c := sc.chunk.Load()
	if c == nil {
		c = newChunk(1 << scratchBits)
		c.kind = chunkScratch
		sc.chunk.Store(c)
	}
	return c
}

// give makes the buffer an ordinary chunk, which is not the desk's any more, and returns it; nil: there is none.
func (sc *scratch) detach() *chunk {
	c := sc.chunk.Swap(nil)
	if c != nil {
		c.kind = scratchBits - minChunkBits
	}
	return c
}

// release gives the buffer back. Nobody looks at it any more.
func (sc *scratch) release() {
	if c := sc.detach(); c != nil {
		c.free()
	}
}

// timeUp reports whether others are to have their turn.
func (sc *scratch) timeUp() bool { return sc.executed() && time.Now().After(sc.until) }

// executed reports whether the turns are given on an executor, where alone their time is limited.
func (sc *scratch) executed() bool { return !sc.until.IsZero() }

// A loop hands readiness to its tenants. It is run by one goroutine at a time; one that is held up in a handler is
// replaced (watchdog) and ends when it comes back.
type loop struct {
	poller   *Poller
	watchdog *watchdog
	peers    []*loop // all loops of the poller, this one among them
	selector selector
	load     atomic.Int32 // tenants
	born     time.Time

	turn  turnCounter
	awake atomic.Bool // not waiting in the kernel

	mu     sync.Mutex // guards the block below
	slots  slab
	posted []readyEvent
	asleep bool // about to wait, or waiting: a post must wake
	closed bool // the poller is closed: no more tenants
	ending bool // the last user has gone
	ended  bool // nobody runs this loop any more

	// Of the goroutine that runs the loop.
	batch     []readyEvent
	next      int
	serving   source   // whose turn it is, or was last
	scratch   *scratch // of the turn
	spinner   spinner
	lastYield time.Duration // the loop's age when it slept or rested last

	wheel wheel
}

// An assignment is a turn to be given.
type readyEvent struct {
	to source
	ev events
}

// start opens the loop and runs it.
func (l *loop) start() error {
	if err := l.selector.open(); err != nil {
		return err
	}
	l.born = time.Now()
	l.wheel.loop = l
	l.awake.Store(true)
	go l.run()
	return nil
}

// run gives turns until the last user has gone or somebody else runs the loop.
func (l *loop) run() {
	sc := new(scratch)
	l.scratch = sc
	var mark uint64 // of the turn that is being given; 0: none
	// A handler that calls runtime.Goexit ends this goroutine; the loop goes on with another.
	defer func() {
		if mark != 0 && l.endTurn(mark) {
			go l.run()
		}
	}()
	for {
		for l.next < len(l.batch) {
			a := l.batch[l.next]
			l.batch[l.next] = readyEvent{}
			l.next++
			l.serving = a.to
			mark = l.turn.begin()
			if a.ev == posted {
				a.to.onPost(sc)
			} else {
				a.to.onReady(sc, a.ev)
			}
			if !l.endTurn(mark) {
				mark = 0
				sc.release()
				return
			}
			l.yieldIfDue()
		}
		mark = 0
		l.serving = nil
		if !l.collect() {
			sc.release()
			return
		}
	}
}

// age returns how long ago the loop was started.
func (l *loop) age() time.Duration { return time.Since(l.born) }

// stint is how long a loop that has enough to do goes on before it rests, or one turn longer.
const timeSlice = 2 * time.Millisecond

// rest looks after everything else in the process at the end of a stint, also in the middle of a batch. The loop
// yields, which lets timers fire and other goroutines run. That does not suffice for the descriptors that the runtime
// watches, among them the queue of a loop that sleeps: while no processor is idle, only the runtime's monitor looks at
// them, every 10 ms. Once it has found the whole process idle, it sleeps until an ordinary system call wakes it.
func (l *loop) yieldIfDue() {
	if now := l.age(); now-l.lastYield > timeSlice {
		l.lastYield = now
		l.selector.wakeMonitor()
		runtime.Gosched()
	}
}

// yieldTurn ends the turn that began at mark. False: it has been ended already, by the watchdog, and another
// goroutine runs the loop.
func (l *loop) endTurn(mark uint64) bool {
	if l.turn.end(mark) {
		return true
	}
	l.watchdog.late.Add(-1)
	return false
}

// takeOver ends the turn that is running since mark on behalf of its goroutine, and has another run the loop.
func (l *loop) takeOver(mark uint64) {
	l.watchdog.late.Add(1)
	if !l.turn.steal(mark) {
		l.watchdog.late.Add(-1)
		return
	}
	late, sc := l.serving, l.scratch
	go l.run()
	go late.onLate(sc) // it may have to wait for a lock of late's
}

// collect waits for something to do and makes it the batch. False: the loop has ended.
func (l *loop) collect() bool {
	// Whoever was woken in the last batch runs now, and often makes work for the next one at once.
	runtime.Gosched()
	n := l.selector.poll()
	l.mu.Lock()
	if n == 0 && len(l.posted) == 0 {
		if l.ending {
			l.ended = true
			l.mu.Unlock()
			l.selector.close()
			l.wheel.stop()
			l.watchdog.forget(l)
			return false
		}
		l.asleep = true
		l.mu.Unlock()
		l.awake.Store(false)
		if n = l.spin(); n == 0 {
			l.scratch.release() // an idle loop holds no buffer
			n = l.selector.wait()
		}
		l.awake.Store(true)
		l.watchdog.arm()
		l.lastYield = l.age()
		l.mu.Lock()
		l.asleep = false
	}
	l.batch, l.next = l.batch[:0], 0
	for i := range n {
		key, ev := l.selector.event(i)
		if t := l.slots.at(key); t != nil {
			l.batch = append(l.batch, readyEvent{t, ev})
			if ev&(evRead|evError) == evRead {
				l.selector.rearm(key, evError) // also while nobody reads
			}
		}
	}
	l.batch = append(l.batch, l.posted...)
	clear(l.posted)
	l.posted = l.posted[:0]
	l.mu.Unlock()
	return true
}

// add gives t a slot, whose key it sets, and has fd's readiness reported to it. remove takes the slot back, also
// after an error.
func (l *loop) add(t source, fd sys.FD, key *slotKey) error {
	l.mu.Lock()
	*key = l.slots.take(t)
	closed := l.closed
	l.mu.Unlock()
	l.load.Add(1)
	if closed {
		return net.ErrClosed
	}
	return l.selector.add(fd, *key)
}

// remove takes the slot back, before the descriptor is closed. What the kernel still reports for it is ignored from now
// on.
func (l *loop) remove(key slotKey) {
	l.mu.Lock()
	l.slots.free(key)
	l.mu.Unlock()
	l.load.Add(-1)
}

// rearm asks for one more report of ev for key, where the kernel does not report edges by itself.
func (l *loop) rearm(key slotKey, ev events) { l.selector.rearm(key, ev) }

// deregister ends the reports for a descriptor that others may keep open.
func (l *loop) deregister(fd sys.FD, key slotKey) { l.selector.remove(fd, key) }

// post asks for a turn for t, from any goroutine. After the end of the loop a goroutine of t's own gives it.
func (l *loop) post(t source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		go runDetached(t)
		return
	}
	l.posted = append(l.posted, readyEvent{t, posted})
	l.wake()
}

// rouse ends the loop's sleep. l.mu is held; a loop that has ended is not asleep, so that its kernel is open.
func (l *loop) wake() {
	if l.asleep {
		l.asleep = false
		l.selector.wake()
	}
}

// end lets the loop end when it finds nothing more to do.
func (l *loop) end() {
	l.mu.Lock()
	l.ending = true
	l.wake()
	l.mu.Unlock()
}

func runDetached(t source) {
	sc := new(scratch)
	t.onPost(sc)
	sc.release()
}

// tenants returns those that have a slot now.
func (l *loop) sources() []source {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slots.sources()
}

// evictAll tells every tenant that the poller is closed.
func (l *loop) closeSources() {
	l.mu.Lock()
	l.closed = true
	sources := l.slots.sources()
	l.mu.Unlock()
	for _, t := range sources {
		t.onPollerClose()
	}
}

// pick returns the loop for a new tenant: the less busy of two taken in turn.
func (l *loop) pick(turn uint64) *loop {
	n := uint64(len(l.peers))
	if n == 1 {
		return l
	}
	// A multiplicative hash spreads consecutive turns over pairs of loops (Knuth, TAOCP 3, 6.4).
	h := turn * 0x9E3779B97F4A7C15
	a, b := l.peers[(h>>32)%n], l.peers[turn%n]
	if b.load.Load() <= a.load.Load() {
		return b
	}
	return a
}

// A spinner decides whether a loop looks again and again for a moment before it sleeps. Where the next message comes
// that soon, sleeping and being woken would take longer, and often more of the processor too. Where it does not, the
// attempts become rare, maxTries in maxPenalty waits in the end: an idle program pays nothing.
type spinner struct {
	skip    uint16 // so many waits are not tried
	penalty uint16 // so many were skipped last; an attempt that succeeds halves it
	tries   uint8  // attempts in a row that have failed
	row     uint8  // attempts in a row that have succeeded
}

const (
	// spinTime is about what sleeping and being woken costs in a virtual machine (docs/performance.md), so that an
	// attempt wastes at most as much again.
	spinTime = 50 * time.Microsecond
	// maxLooks ends an attempt where the clock is too coarse to: twice what fits into the time on Linux.
	maxLooks   = 256
	maxTries   = 4 // a peer that was asleep itself needs longer at first
	maxPenalty = 1023
	// maxRow lets the runtime look after descriptors of its own: it does so when a goroutine sleeps.
	maxRow = 64
)

// spin looks for events without sleeping, and returns how many there are.
func (l *loop) spin() int {
	if !l.spinner.try() {
		return 0
	}
	begin := time.Now()
	for looks := 0; looks < maxLooks && time.Since(begin) < spinTime; looks++ {
		if n := l.selector.poll(); n > 0 {
			l.spinner.succeeded()
			return n
		}
		runtime.Gosched()
	}
	l.spinner.failed()
	return 0
}

// try reports whether this wait begins with an attempt; then succeeded or failed follows.
func (s *spinner) try() bool {
	if s.skip == 0 {
		return true
	}
	s.skip--
	return false
}

func (s *spinner) succeeded() {
	s.penalty /= 2
	s.tries = 0
	if s.row++; s.row == maxRow {
		s.row, s.skip = 0, 1
	}
}

func (s *spinner) failed() {
	s.row = 0
	if s.tries++; s.tries == maxTries {
		s.penalty = min(2*s.penalty+1, maxPenalty)
		s.tries, s.skip = 0, s.penalty
	}
}
