//go:build sim

package sched

import (
	"slices"
	"time"
)

// A Timer is a [time.Timer] of AfterFunc.
type Timer struct {
	run  *run
	when time.Time
	f    func()
	task *task // if set, f is nil and the timer wakes the task
	set  bool
}

// AfterFunc is [time.AfterFunc].
func AfterFunc(d time.Duration, f func()) *Timer {
	t := &Timer{run: current, f: f}
	t.Reset(d)
	return t
}

// Reset is [time.Timer.Reset].
func (t *Timer) Reset(d time.Duration) bool {
	r := t.run
	if r == nil || r != current || r.dead {
		return false
	}
	r.point(false)
	was := t.remove()
	t.insert(d)
	return was
}

func (t *Timer) insert(d time.Duration) {
	r := t.run
	t.when, t.set = time.Now().Add(max(d, 0)), true
	i, _ := slices.BinarySearchFunc(r.timers, t, func(a, b *Timer) int {
		if a.when.After(b.when) {
			return 1
		}
		return -1 // behind those of the same time
	})
	r.timers = slices.Insert(r.timers, i, t)
}

// Stop is [time.Timer.Stop].
func (t *Timer) Stop() bool {
	if t.run == nil || t.run != current || t.run.dead {
		return false
	}
	t.run.point(false)
	return t.remove()
}

func (t *Timer) remove() bool {
	if !t.set {
		return false
	}
	t.set = false
	i := slices.Index(t.run.timers, t)
	t.run.timers = slices.Delete(t.run.timers, i, i+1)
	return true
}

// fire lets the timers that are due begin to run.
func (r *run) fire() {
	now := time.Now()
	for len(r.timers) > 0 && !r.timers[0].when.After(now) {
		t := r.timers[0]
		t.remove()
		if t.task != nil {
			r.wakeUp(t.task)
		} else {
			r.wakeUp(r.newTask(t.f))
		}
	}
}

// Sleep is [time.Sleep].
func Sleep(d time.Duration) {
	r := current
	if r == nil || r.dead {
		return
	}
	if d <= 0 {
		r.point(true)
		return
	}
	t := &Timer{run: r, task: r.cur}
	t.insert(d)
	r.block("the time")
}
