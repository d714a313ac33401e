package tcpserver

import (
	"sync"
	"sync/atomic"
	"time"
)

// A wheel calls tenants back after some ticks. Nothing is done for it when a message comes or goes but to stamp the
// socket with the tick: an entry that comes up too early is put off by what is left. An entry costs 8 bytes, and
// the wheel turns only while it has entries. (A hashed timing wheel: Varghese and Lauck, SOSP 1987, scheme 6.)
type wheel struct {
	loop *loop
	now  atomic.Uint32 // ticks since the loop started; it stands still while there are no entries

	mu      sync.Mutex // guards the block below
	spokes  [wheelSpokes][]slotKey
	entries int
	timer   *time.Timer
}

const (
	wheelTick   = 100 * time.Millisecond
	wheelSpokes = 256
)

// ticksFor returns after how many ticks more than d has passed, whatever part of the present one is over.
func ticksFor(d time.Duration) uint32 {
	return uint32(min((d+wheelTick-1)/wheelTick, 1<<30)) + 1
}

// wheelStep is how far ahead an entry is put that is to come up in that many ticks: what is left beyond one round
// is seen to when it comes up.
func wheelStep(ticks uint32) uint32 { return min(ticks, wheelSpokes-1) }

// add has the tenant of key called after that many ticks, or after a round of the wheel. It returns at which tick.
func (w *wheel) add(key slotKey, ticks uint32) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := w.insert(key, ticks)
	if w.entries == 1 {
		if w.timer == nil {
			w.timer = time.AfterFunc(wheelTick, func() { w.loop.post(w) })
		} else {
			w.timer.Reset(wheelTick)
		}
	}
	return due
}

func (w *wheel) insert(key slotKey, ticks uint32) (due uint32) {
	due = w.now.Load() + wheelStep(ticks)
	spoke := &w.spokes[due%wheelSpokes]
	*spoke = append(*spoke, key)
	w.entries++
	return due
}

// onReady is the wheel's turn on its loop: one tick.
func (w *wheel) onReady(*desk, events) {
	w.mu.Lock()
	now := w.now.Add(1)
	spoke := &w.spokes[now%wheelSpokes]
	due := *spoke
	*spoke = nil
	w.entries -= len(due)
	w.mu.Unlock()
	for _, key := range due {
		w.loop.mu.Lock()
		t := w.loop.slots.at(key)
		w.loop.mu.Unlock()
		if t == nil {
			continue
		}
		if again := t.onTick(now); again > 0 {
			w.mu.Lock()
			w.insert(key, again)
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	if w.entries > 0 {
		w.timer.Reset(wheelTick)
	}
	w.mu.Unlock()
}

// stop forgets all entries. It is called when the loop ends, which it does only without tenants.
func (w *wheel) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spokes = [wheelSpokes][]slotKey{}
	w.entries = 0
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *wheel) onTick(uint32) uint32 { return 0 }

func (w *wheel) onLate(d *desk) { d.release() }

func (w *wheel) evict() {}
