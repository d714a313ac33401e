package tcpserver

import (
	"sync"
	"time"
)

// A wheel calls tenants back after some ticks. Nothing is done for it when a message comes or goes but to stamp the
// socket with the tick: an entry that comes up too early is put off by what is left. An entry costs 8 bytes, and
// the wheel turns only while it has entries. (A hashed timing wheel: Varghese and Lauck, SOSP 1987, scheme 6.)
//
// A tick is a tenth of a second of the loop's age. A loop that comes late to the wheel turns it on to the present, tick
// by tick, so that nothing adds up.
type wheel struct {
	postOnly
	loop *loop

	mu      sync.Mutex // guards the block below
	now     uint32     // the tick up to which it has been turned
	buckets [wheelBuckets][]slotKey
	entries int // those of a tick count until their tenants have been called
	timer   *time.Timer
}

const (
	wheelTick    = 100 * time.Millisecond
	wheelBuckets = 256
)

// tick returns the present tick. It comes round to 0 after 13 years.
func (l *loop) tick() uint32 { return uint32(l.age() / wheelTick) }

// ticksFor returns after how many ticks more than d has passed, whatever part of the present one is over.
func ticksFor(d time.Duration) uint32 {
	return uint32(min((d+wheelTick-1)/wheelTick, 1<<30)) + 1
}

// dueAfter returns the tick at which an entry comes up that is put on the wheel at tick now, for that many ticks later
// or for the end of a round: what is left then is seen to when it comes up. It is never 0, which stands for none.
func dueAfter(now, ticks uint32) uint32 {
	due := now + min(ticks, wheelBuckets-1)
	if due == 0 {
		due++
	}
	return due
}

// add has the tenant of key called after that many ticks, or earlier with a part of them left, unless an entry of its
// comes up by then, at tick have; 0: it has none. It returns the tick of the entry that counts.
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

func (w *wheel) insert(key slotKey, due uint32) {
	bucket := &w.buckets[due%wheelBuckets]
	*bucket = append(*bucket, key)
	w.entries++
}

// arm sets the timer for the next tick, whose time may have passed.
func (w *wheel) arm() {
	age := w.loop.age()
	behind := uint32(age/wheelTick) - w.now
	wait := (1-time.Duration(behind))*wheelTick - age%wheelTick
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, func() { w.loop.post(w) })
	} else {
		w.timer.Reset(wait)
	}
}

// onReady is the wheel's turn on its loop.
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

// turn turns the wheel by one tick. mu is held, but not while tenants are called.
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

// call calls the tenant of key, if it has not left.
func (w *wheel) call(key slotKey, now uint32) (again uint32) {
	w.loop.mu.Lock()
	t := w.loop.slots.at(key)
	w.loop.mu.Unlock()
	if t == nil {
		return 0
	}
	return t.onTick(now)
}

// stop forgets all entries. It is called when the loop ends, which it does only without tenants.
func (w *wheel) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buckets = [wheelBuckets][]slotKey{}
	w.entries = 0
	if w.timer != nil {
		w.timer.Stop()
	}
}
