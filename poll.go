package tcpserver

import (
	"net"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// Each platform defines the type selector with these methods (the term is mio's and NIO's). It knows descriptors, slots
// and readiness, and nothing of servers and sockets. No file but poll*.go uses it.
//
//	open() error                             opens the kernel's queue
//	add(fd sys.FD, key slotKey) error        reports readiness of fd under key from now on, edge-triggered
//	remove(fd sys.FD, key slotKey)           stops the reports; closing the descriptor does so too
//	rearm(key slotKey, ev events)            reports evRead, evRead|evAfterEnd, evWrite or evError once more
//	poll() int                               returns the number of events, without waiting
//	wait() int                               returns the number of events; waits for one or for wake
//	event(i int) (slotKey, events)           returns event i of the last poll or wait
//	wake()                                   makes the present or the next wait return; any goroutine may call it
//	wakeMonitor()                            wakes the runtime's monitor, unless poll does so
//	close()                                  frees everything
//
// Only the goroutine that runs the loop calls poll, wait and event, and event once for each event.
//
// Where the kernel does not report edges, it reports an event once, and again only after rearm. So whoever finds a
// descriptor drained calls rearm while the descriptor is held open. add arms evRead; every report includes evError.

// events are what the kernel reports for a descriptor.
type events uint8

const (
	evRead     events = 1 << iota // something can be read
	evWrite                       // something can be written
	evHangup                      // the peer has finished sending: reads will meet the end of the stream
	evError                       // the connection is broken
	evUrgent                      // urgent data is there: reads stop before and behind it
	evAfterEnd                    // marks a poll that rearm has begun, and its event: see isEOFConfirmed

	posted events = 0 // of a readyEvent: not an event of the kernel, but a request (loop.post)
)

// A source has a slot in a loop: it is a socket or a listener (the term is mio's). What is only posted embeds postOnly.
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

// A scratch is what a goroutine needs that runs handlers.
type scratch struct {
	chunk sched.Pointer[chunk] // to read into; nil until it is needed
	until time.Time            // no other handler begins after it; the zero time is no limit
}

// buffer returns the chunk to read into. It belongs to the scratch: chunk.free ignores it.
func (sc *scratch) buffer() *chunk {
	c := sc.chunk.Load()
	if c == nil {
		c = newChunk(1 << scratchBits)
		c.kind = chunkScratch
		sc.chunk.Store(c)
	}
	return c
}

// detach makes the buffer an ordinary chunk that no longer belongs to the scratch, and returns it. If there is no
// buffer, it returns nil.
func (sc *scratch) detach() *chunk {
	c := sc.chunk.Swap(nil)
	if c != nil {
		c.kind = scratchBits - minChunkBits
	}
	return c
}

// release frees the buffer. Nobody may use it any more.
func (sc *scratch) release() {
	if c := sc.detach(); c != nil {
		c.free()
	}
}

// timeUp reports whether other sources, or the application, come first now.
func (sc *scratch) timeUp() bool { return sc.executed() && time.Now().After(sc.until) }

// executed reports whether the handlers run on an executor. Only there is their time limited.
func (sc *scratch) executed() bool { return !sc.until.IsZero() }

// A loop waits for readiness and gives each source its turn. One goroutine at a time runs it. If a handler blocks that
// goroutine, the watchdog starts another one; the first ends when its handler returns.
type loop struct {
	poller   *Poller
	watchdog *watchdog
	peers    []*loop // all loops of the poller, this one among them
	selector selector
	load     sched.Int32 // sources
	born     time.Time

	turn  turnCounter
	awake sched.Bool // not waiting in the selector

	mu     sched.Mutex // guards the block below
	slots  slab
	posted []readyEvent
	asleep bool // waiting, or about to: a post must wake the loop
	closed bool // the poller is closed: sources are refused
	ending bool // the poller has no users any more
	ended  bool // no goroutine runs the loop any more

	// These belong to the goroutine that runs the loop.
	batch     []readyEvent
	next      int
	serving   source   // whose turn it is, or was last
	scratch   *scratch // of that goroutine
	spinner   spinner
	lastYield time.Duration // the loop's age when it last slept or yielded

	wheel wheel
}

// A readyEvent is an entry of a batch: ev for a source, or a request of its own (posted).
type readyEvent struct {
	to source
	ev events
}

// start opens the selector and runs the loop.
func (l *loop) start() error {
	if err := l.selector.open(); err != nil {
		return err
	}
	l.born = time.Now()
	l.wheel.loop = l
	l.awake.Store(true)
	sched.Go(l.run)
	return nil
}

// run gives turns until the poller has no users any more, or until another goroutine runs the loop.
func (l *loop) run() {
	sc := new(scratch)
	l.scratch = sc
	var mark uint64 // of the present turn; 0 between turns
	// A handler that calls runtime.Goexit ends this goroutine: another one runs the loop then.
	defer func() {
		if mark != 0 && l.endTurn(mark) {
			sched.Go(l.run)
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

// timeSlice is how long a busy loop runs before it yields. One turn may exceed it.
const timeSlice = 2 * time.Millisecond

// yieldIfDue yields the processor after each time slice, even in the middle of a batch, so that timers fire and other
// goroutines run. That is not enough for the descriptors that the runtime's own poller watches, among them the selector
// of a sleeping loop: while no processor is idle, only the runtime's monitor polls them, every 10 ms. And the monitor
// sleeps once it has found the whole process idle, until an ordinary system call wakes it.
func (l *loop) yieldIfDue() {
	if now := l.age(); now-l.lastYield > timeSlice {
		l.lastYield = now
		l.selector.wakeMonitor()
		sched.Gosched()
	}
}

// endTurn ends the turn that began at mark. It returns false if the watchdog has stolen the turn: another goroutine
// runs the loop then.
func (l *loop) endTurn(mark uint64) bool {
	if l.turn.end(mark) {
		return true
	}
	l.watchdog.late.Add(-1)
	return false
}

// takeOver steals the turn that began at mark, and starts another goroutine that runs the loop.
func (l *loop) takeOver(mark uint64) {
	l.watchdog.late.Add(1)
	if !l.turn.steal(mark) {
		l.watchdog.late.Add(-1)
		return
	}
	late, sc := l.serving, l.scratch
	sched.Go(l.run)
	sched.Go(func() { late.onLate(sc) }) // it may have to wait for a lock of the source
}

// collect waits for something to do and makes it the batch. It returns false if the loop has ended.
func (l *loop) collect() bool {
	// Goroutines that the last batch has woken run now, and often make work for the next batch at once.
	sched.Gosched()
	n := l.selector.poll()
	l.mu.Lock()
	if n == 0 && len(l.posted) == 0 {
		if l.ending {
			l.ended = true
			l.slots, l.batch, l.posted = slab{}, nil, nil // closed servers and ended sockets still refer to the loop
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
				l.selector.rearm(key, evError) // even while nobody reads
			}
		}
	}
	l.batch = append(l.batch, l.posted...)
	clear(l.posted)
	l.posted = l.posted[:0]
	l.mu.Unlock()
	return true
}

// add gives t a slot, sets its key, and reports the readiness of fd to it from now on. The caller calls remove at the
// end, even if add returned an error.
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

// remove frees the slot, before the descriptor is closed. From now on, reports for the key are ignored.
func (l *loop) remove(key slotKey) {
	l.mu.Lock()
	l.slots.free(key)
	l.mu.Unlock()
	l.load.Add(-1)
}

// rearm asks for one more report of ev, where the kernel does not report edges.
func (l *loop) rearm(key slotKey, ev events) { l.selector.rearm(key, ev) }

// deregister stops the reports for a descriptor that others may keep open.
func (l *loop) deregister(fd sys.FD, key slotKey) { l.selector.remove(fd, key) }

// post schedules t.onPost. Any goroutine may call it. After the end of the loop, onPost runs on a goroutine of its own.
func (l *loop) post(t source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		sched.Go(func() { runDetached(t) })
		return
	}
	l.posted = append(l.posted, readyEvent{t, posted})
	l.wake()
}

// wake ends the loop's sleep. l.mu is held. A loop that has ended is not asleep, so the selector is open.
func (l *loop) wake() {
	if l.asleep {
		l.asleep = false
		l.selector.wake()
	}
}

// end makes the loop end when it has nothing more to do.
func (l *loop) end() {
	l.mu.Lock()
	l.ending = true
	l.wake()
	l.mu.Unlock()
}

// runDetached runs t.onPost without a loop.
func runDetached(t source) {
	sc := new(scratch)
	t.onPost(sc)
	sc.release()
}

// sources returns those that have a slot now.
func (l *loop) sources() []source {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slots.sources()
}

// closeSources calls onPollerClose of every source, and refuses new ones.
func (l *loop) closeSources() {
	l.mu.Lock()
	l.closed = true
	sources := l.slots.sources()
	l.mu.Unlock()
	for _, t := range sources {
		t.onPollerClose()
	}
}

// pick returns the loop for a new source, the one of two with fewer sources. number counts the new sources.
func (l *loop) pick(number uint64) *loop {
	n := uint64(len(l.peers))
	if n == 1 {
		return l
	}
	// A multiplicative hash spreads consecutive numbers over pairs of loops (Knuth, TAOCP 3, 6.4).
	h := number * 0x9E3779B97F4A7C15
	a, b := l.peers[(h>>32)%n], l.peers[number%n]
	if b.load.Load() <= a.load.Load() {
		return b
	}
	return a
}

// A spinner decides whether a loop polls repeatedly for a moment before it sleeps. If the next message arrives that
// soon, sleeping and waking would take longer, and often more processor time too. If it does not, attempts become rare,
// in the end maxTries in maxPenalty waits, so that an idle program pays nothing.
type spinner struct {
	skip    uint16 // how many waits come without an attempt
	penalty uint16 // how many were skipped last; a successful attempt halves it
	tries   uint8  // consecutive failed attempts
	row     uint8  // consecutive successful attempts
}

const (
	// spinTime is about what sleeping and waking cost in a virtual machine (docs/performance.md), so that a failed
	// attempt at most doubles the cost.
	spinTime = 100 * time.Microsecond
	// maxLooks ends an attempt where the clock is too coarse to do so. It is twice what fits into spinTime on Linux.
	maxLooks   = 512
	maxTries   = 4 // a peer that was asleep needs longer at first
	maxPenalty = 1023
	// maxRow makes the loop sleep now and then: only then does the runtime poll its own descriptors.
	maxRow = 64
)

// spin polls for events without sleeping, and returns how many there are.
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
		sched.Gosched()
	}
	l.spinner.failed()
	return 0
}

// try reports whether this wait begins with an attempt. If so, the caller calls succeeded or failed.
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
