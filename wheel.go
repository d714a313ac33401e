package tcpserver

import (
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A wheel calls sources back after a number of ticks: a hashed timing wheel (Varghese and Lauck, SOSP 1987, scheme
// 6). A message leaves the wheel alone: it only stamps its socket with the tick, and an entry that comes up too early
// is put off by what is left. An entry costs 8 bytes, and the wheel turns only while it has entries.
//
// A tick is a tenth of a second of the loop's age. A loop that comes late to the wheel turns it tick by tick up to
// the present, so that delays do not add up.
type wheel struct {
	postOnly
	loop *loop

	mu      sched.Mutex // guards the block below
	now     uint32      // the tick up to which the wheel has been turned
	buckets [wheelBuckets][]slotKey
	entries int // those of a tick count until their sources have been called
	timer   *sched.Timer
}

const (
	wheelTick    = 100 * time.Millisecond
	wheelBuckets = 256
)

// tick returns the current tick. It wraps around to 0 after 13 years.
func (l *loop) tick() uint32 { return uint32(l.age() / wheelTick) }

// ticksFor returns the number of ticks after which more than d has passed, however much of the current tick is over.
func ticksFor(d time.Duration) uint32 {
	return uint32(min((d+wheelTick-1)/wheelTick, 1<<30)) + 1
}

// dueAfter returns the tick of an entry that is put on the wheel at tick now, to come up after the given number of
// ticks or after a round of the wheel, if that is sooner; it is then put off by what is left. dueAfter never returns
// 0, which means none.
func dueAfter(now, ticks uint32) uint32 {
	due := now + min(ticks, wheelBuckets-1)
	if due == 0 {
		due++
	}
	return due
}

// add calls the source of key back after the given number of ticks, or after a round of the wheel if that is sooner.
// have is the tick of an entry that the source already has, or 0: if it is early enough, add does nothing. It returns
// the tick of the entry that counts.
func (w *wheel) add(key slotKey, ticks, have uint32) (due uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	present := w.loop.tick()
	if w.entries == 0 {
		w.now = present
	}
	due = dueAfter(w.now, present-w.now+ticks)
	if have != 0 && int32(have-due) <= 0 {
		return have
	}
	w.insert(key, due)
	if w.entries == 1 {
		w.arm()
	}
	return due
}

// insert puts an entry on the wheel. The caller holds mu.
func (w *wheel) insert(key slotKey, due uint32) {
	bucket := &w.buckets[due%wheelBuckets]
	*bucket = append(*bucket, key)
	w.entries++
}

// arm sets the timer for the next tick. The time of that tick may have passed. The caller holds mu.
func (w *wheel) arm() {
	age := w.loop.age()
	behind := uint32(age/wheelTick) - w.now
	wait := (1-time.Duration(behind))*wheelTick - age%wheelTick
	if w.timer == nil {
		w.timer = sched.AfterFunc(wait, func() { w.loop.post(w) })
	} else {
		w.timer.Reset(wait)
	}
}

// onPost is called by the loop when the timer has expired. It turns the wheel up to the present.
func (w *wheel) onPost(*scratch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for present := w.loop.tick(); w.entries > 0 && w.now != present; {
		w.turn()
	}
	if w.entries > 0 {
		w.arm()
	}
}

// turn turns the wheel by one tick. The caller holds mu, which turn unlocks while it calls sources.
func (w *wheel) turn() {
	w.now++
	now, bucket := w.now, &w.buckets[w.now%wheelBuckets]
	due := *bucket
	*bucket = nil
	for _, key := range due {
		w.mu.Unlock()
		again := w.call(key, now)
		w.mu.Lock()
		if again > 0 {
			w.insert(key, dueAfter(now, again))
		}
	}
	w.entries -= len(due)
}

// call calls the source of key, unless that has given up its slot. The caller does not hold mu.
func (w *wheel) call(key slotKey, now uint32) (again uint32) {
	w.loop.mu.Lock()
	src := w.loop.slots.at(key)
	w.loop.mu.Unlock()
	if src == nil {
		return 0
	}
	return src.onTick(now)
}

// stop drops all entries. The loop calls it when it ends, which it does only without sources.
func (w *wheel) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buckets = [wheelBuckets][]slotKey{}
	w.entries = 0
	if w.timer != nil {
		w.timer.Stop()
	}
}
