package tcpserver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newWheel returns a loop that runs nothing but its wheel. The wheel turns, in a synctest bubble, while it has entries.
func newWheel(t *testing.T) *loop {
	l := &loop{born: time.Now()}
	l.wheel.loop = l
	l.ended = true // so that each post runs on a new goroutine
	t.Cleanup(l.wheel.stop)
	return l
}

// delayLoop delays the loop until release is called.
func delayLoop(l *loop) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = false
	return func() {
		l.mu.Lock()
		posted := l.posted
		l.posted, l.ended = nil, true
		l.mu.Unlock()
		for _, a := range posted {
			a.to.onPost(nil)
		}
	}
}

func TestWheelCallsSourceAtItsTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		called := make(chan time.Time, 1)
		source := &fakeSource{called: func() { called <- time.Now() }}
		begin := time.Now()
		due := l.wheel.add(l.slots.take(source), 7, 0)
		assert.EqualValues(t, 7, due)
		assert.Equal(t, 7*wheelTick, (<-called).Sub(begin))
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, []uint32{due}, source.at)
		assert.Zero(t, l.wheel.entries)
	})
}

func TestWheelCallsAgainAfterReturnedTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		source := &fakeSource{again: 10}
		l.wheel.add(l.slots.take(source), 1, 0)
		time.Sleep(31 * wheelTick)
		synctest.Wait()
		assert.Equal(t, []uint32{1, 11, 21, 31}, source.at)
	})
}

func TestWheelCallsSourceOncePerEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		once, always := new(fakeSource), &fakeSource{again: 10}
		l.wheel.add(l.slots.take(once), 1, 0)
		l.wheel.add(l.slots.take(always), 1, 0) // keeps the wheel turning
		time.Sleep(3 * wheelBuckets * wheelTick)
		synctest.Wait()
		assert.Equal(t, []uint32{1}, once.at)
		assert.Equal(t, 1, l.wheel.entries)
	})
}

func TestWheelIgnoresRemovedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		removed, added := new(fakeSource), new(fakeSource)
		key := l.slots.take(removed)
		l.wheel.add(key, 3, 0)
		l.slots.free(key)
		l.wheel.add(l.slots.take(added), 3, 0) // in the same slot
		time.Sleep(3 * wheelTick)
		synctest.Wait()
		assert.Empty(t, removed.at)
		assert.Equal(t, []uint32{3}, added.at)
	})
}

func TestWheelKeepsEarlierOfTwoEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		source := new(fakeSource)
		key := l.slots.take(source)
		due := l.wheel.add(key, 5, 0)
		assert.Equal(t, due, l.wheel.add(key, 5, due))
		assert.Equal(t, due, l.wheel.add(key, 9, due))
		assert.EqualValues(t, 3, l.wheel.add(key, 3, due))
		assert.Equal(t, 2, l.wheel.entries)
	})
}

// Here every tick is late by half a tick.
func TestWheelLatenessDoesNotAccumulate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		source := new(fakeSource)
		begin := time.Now()
		l.wheel.add(l.slots.take(source), 100, 0)
		for len(source.at) == 0 {
			release := delayLoop(l)
			time.Sleep(wheelTick * 3 / 2)
			synctest.Wait()
			release()
		}
		assert.LessOrEqual(t, time.Since(begin), 102*wheelTick)
		assert.GreaterOrEqual(t, time.Since(begin), 100*wheelTick)
	})
}

func TestDelayedWheelCallsDueSourcesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		var sources [5]fakeSource
		var order []int
		for i := range sources {
			sources[i].called = func() { order = append(order, i) }
			l.wheel.add(l.slots.take(&sources[i]), uint32(190-10*i), 0)
		}
		sources[4].again = 15 // it becomes due again during the delay
		release := delayLoop(l)
		time.Sleep(19 * time.Second)
		synctest.Wait()
		assert.Empty(t, order)
		release()
		assert.Equal(t, []int{4, 3, 4, 2, 1, 4, 0}, order)
		assert.Equal(t, []uint32{150, 165, 180}, sources[4].at)
	})
}

func TestEmptyWheelStopsItsTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWheel(t)
		const year = 365 * 24 * time.Hour
		for range 3 {
			time.Sleep(year + wheelTick/3)
			called := make(chan time.Time, 1)
			begin := time.Now()
			l.wheel.add(l.slots.take(&fakeSource{called: func() { called <- time.Now() }}), 20, 0)
			took := (<-called).Sub(begin)
			assert.GreaterOrEqual(t, took, 19*wheelTick)
			assert.LessOrEqual(t, took, 20*wheelTick)
			synctest.Wait()
			assert.False(t, l.wheel.timer.Stop(), "the timer must not run without entries")
		}
	})
}

// The tick overflows to 0 after 13 years.
func TestWheelHandlesTickOverflow(t *testing.T) {
	for step := range uint32(12) {
		synctest.Test(t, func(t *testing.T) {
			l := newWheel(t)
			l.born = l.born.Add(-(1<<32 - 6) * wheelTick)
			called := make(chan time.Time, 1)
			source := &fakeSource{called: func() { called <- time.Now() }}
			begin := time.Now()
			due := l.wheel.add(l.slots.take(source), step+1, 0)
			assert.NotZero(t, due)
			assert.InDelta(t, step+1, (<-called).Sub(begin)/wheelTick, 1)
			assert.Equal(t, []uint32{due}, source.at)
		})
	}
}

func TestTicksForNeverRoundsDown(t *testing.T) {
	for _, d := range []time.Duration{1, wheelTick - 1, wheelTick, wheelTick + 1, time.Hour} {
		// A part of the first tick may have passed when counting begins.
		assert.GreaterOrEqual(t, time.Duration(ticksFor(d)-1)*wheelTick, d)
	}
}

// The bytes are sent while the wheel is behind. The timeout must count from then, not from the wheel's last tick.
func TestIdleTimeoutIsNotEarlyWhenLoopIsLate(t *testing.T) {
	const idle = 500 * time.Millisecond
	poller, err := NewPoller(1)
	require.NoError(t, err)
	socket, _ := acceptFrom(t, &TcpServer{Poller: poller, IdleTimeout: idle})
	wheel := &socket.loop.wheel
	require.Eventually(t, func() bool { // the socket may be taken before its entry is added
		wheel.mu.Lock()
		defer wheel.mu.Unlock()
		return wheel.entries > 0
	}, time.Minute, time.Millisecond)
	wheel.mu.Lock() // blocks the loop
	time.Sleep(idle)
	begin := time.Now()
	require.NoError(t, socket.Send([]byte("x")))
	wheel.mu.Unlock()
	require.NoError(t, socket.WaitForDisconnected(t.Context()))
	assert.GreaterOrEqual(t, time.Since(begin), idle)
	assert.ErrorIs(t, socket.Err(), ErrIdleTimeout)
}
