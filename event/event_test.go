package event

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

// A recorder makes listeners and records which of them are called.
type recorder struct{ calls []string }

func (r *recorder) listener(name string) func(int) {
	return func(int) { r.calls = append(r.calls, name) }
}

// emitted emits once and returns the names of the listeners that were called.
func (r *recorder) emitted(e *Emitter[int]) string {
	r.calls = nil
	e.Emit(1)
	return strings.Join(r.calls, " ")
}

func TestListenersAreCalledInOrder(t *testing.T) {
	var e Emitter[int]
	var r recorder
	assert.False(t, e.Emit(1), "there are no listeners")
	e.On(r.listener("a"))
	e.On(r.listener("b"))
	e.Prepend(r.listener("front"))
	e.OnPriority(5, r.listener("high"))
	e.OnPriority(-5, r.listener("low"))
	e.OnPriority(5, r.listener("high2"))
	e.Prepend(r.listener("fronter"))
	assert.Equal(t, "high high2 fronter front a b low", r.emitted(&e))
	assert.Equal(t, 7, e.Listeners())
	assert.True(t, e.Emit(1))
}

func TestListenersReceiveTheValue(t *testing.T) {
	var e Emitter[string]
	var got string
	e.On(func(s string) { got = s })
	e.Emit("value")
	assert.Equal(t, "value", got)
}

func TestOnceIsRemovedBeforeItIsCalled(t *testing.T) {
	var e Emitter[int]
	calls := 0
	e.Once(func(int) {
		calls++
		assert.Zero(t, e.Listeners())
		assert.False(t, e.Emit(1), "in the listener, which is already removed")
	})
	assert.True(t, e.Emit(1))
	assert.False(t, e.Emit(1))
	assert.Equal(t, 1, calls)

	var r recorder
	e.On(r.listener("on"))
	e.PrependOnce(r.listener("once"))
	assert.Equal(t, "once on", r.emitted(&e))
	assert.Equal(t, "on", r.emitted(&e))
}

func TestOnceListenerIsCalledOnceByConcurrentEmits(t *testing.T) {
	for range 200 {
		var e Emitter[int]
		var calls atomic.Int32
		e.Once(func(int) { calls.Add(1) })
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { e.Emit(1) })
		}
		all.Wait()
		assert.EqualValues(t, 1, calls.Load())
	}
}

func TestEmitWorksOnASnapshot(t *testing.T) {
	var e Emitter[int]
	var r recorder
	var second *Subscription
	e.Once(func(int) {
		r.calls = append(r.calls, "first")
		second.Off()
		e.On(r.listener("added"))
	})
	second = e.On(r.listener("second"))
	assert.Equal(t, "first second", r.emitted(&e))
	assert.Equal(t, "added", r.emitted(&e))

	e.RemoveAll()
	e.Once(func(int) { second.Off() })
	second = e.Once(r.listener("once"))
	assert.Equal(t, "once", r.emitted(&e))
	assert.Empty(t, r.emitted(&e))
}

func TestOffRemovesOne(t *testing.T) {
	var e Emitter[int]
	var r recorder
	same := r.listener("same")
	first := e.On(same)
	e.On(same)
	assert.Equal(t, "same same", r.emitted(&e), "a listener added twice is called twice")
	first.Off()
	first.Off()
	assert.Equal(t, "same", r.emitted(&e))
	var none *Subscription
	none.Off()
	once := e.Once(same)
	once.Off()
	assert.Equal(t, "same", r.emitted(&e))
	e.RemoveAll()
	first.Off()
	assert.Empty(t, r.emitted(&e))
	assert.Zero(t, e.Listeners())
}

func TestRemoveAllDuringAnEmit(t *testing.T) {
	var e Emitter[int]
	var r recorder
	e.On(func(int) { e.RemoveAll() })
	e.On(r.listener("second"))
	assert.Equal(t, "second", r.emitted(&e))
	assert.Empty(t, r.emitted(&e))
}

func TestEmitPropagatesPanics(t *testing.T) {
	var e Emitter[int]
	var r recorder
	e.On(func(int) { panic("no") })
	e.On(r.listener("second"))
	assert.PanicsWithValue(t, "no", func() { e.Emit(1) })
	assert.Empty(t, r.calls)
	assert.Equal(t, 2, e.Listeners())
}

func TestOneWarningPastTheMaximum(t *testing.T) {
	var log bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	warnings := func() int { return strings.Count(log.String(), "many listeners") }
	nothing := func(int) {}

	var e Emitter[int]
	for range 10 {
		e.On(nothing)
	}
	assert.Zero(t, warnings())
	e.On(nothing)
	e.On(nothing)
	assert.Equal(t, 1, warnings())

	var unlimited, three Emitter[int]
	unlimited.SetMaxListeners(0)
	three.SetMaxListeners(3)
	for range 100 {
		unlimited.On(nothing)
	}
	assert.Equal(t, 1, warnings())
	for range 4 {
		three.On(nothing)
	}
	assert.Equal(t, 2, warnings())
}

func TestMethodsMayBeCalledFromAnyGoroutine(t *testing.T) {
	var e Emitter[int]
	e.SetMaxListeners(0)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				s := e.On(func(int) {})
				e.Once(func(int) {})
				e.Emit(1)
				s.Off()
			}
		})
	}
	all.Wait()
	e.Emit(1)
	assert.Zero(t, e.Listeners())
}

func TestEmitDoesNotAllocate(t *testing.T) {
	var e Emitter[int]
	for range 3 {
		e.On(func(int) {})
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() { e.Emit(1) }))
}

func BenchmarkEmit(b *testing.B) {
	var e Emitter[int]
	for range 3 {
		e.On(func(int) {})
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Emit(1)
	}
}
