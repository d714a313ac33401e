//go:build sim

package sched

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing/synctest"
	"time"
)

// A Config says how a run is scheduled.
type Config struct {
	Seed     uint64
	Strategy Strategy
	MaxSteps int  // a run with more is a livelock; 0 means a million
	Stalls   bool // tasks are held up now and then for some milliseconds, as by a busy machine
	Trace    bool // Outcome.Trace is kept
}

// An Outcome is what came of a run.
type Outcome struct {
	Failure string   // what went wrong, or ""
	Hash    uint64   // of all decisions: equal runs have equal ones
	Steps   int      // how many decisions there were
	Trace   []string // the last decisions, if Config.Trace is set
	Elapsed time.Duration
}

// A run is a simulation in progress.
type run struct {
	Config
	random  Random
	cur     *task   // it runs; all others wait for their turn
	ready   []*task // they could run, too
	tasks   []*task // that have not ended
	nextID  int
	timers  []*Timer // by time
	settler *task    // waits in Settle
	settle  time.Duration
	start   time.Time

	steps   int
	hash    uint64
	trace   []string
	changed bool // ready or a priority has changed since the last decision
	lowest  int  // the lowest priority that was given
	changes []int

	failure string
	dead    bool          // the run is over: tasks that are left end when they are woken
	done    chan struct{} // closed at the end
	ended   chan struct{} // a task has ended after the end of the run
}

// current is the run in progress. There is one at a time in a process.
var current *run

// A task is a goroutine of a run.
type task struct {
	id       int
	wake     chan struct{} // capacity 1
	waits    string        // what it waits for; "" if it could run
	priority int
}

var onStart []func()

// OnStart registers a function that is called at the beginning of each run, to reset what a run has left behind.
func OnStart(f func()) { onStart = append(onStart, f) }

// Simulate runs f as the first task until it and all tasks that it has started have ended or can no longer run. It
// must be called in a bubble of testing/synctest.
func Simulate(c Config, f func()) Outcome {
	if c.MaxSteps == 0 {
		c.MaxSteps = 1_000_000
	}
	r := &run{Config: c, random: NewRandom(c.Seed), start: time.Now()}
	r.done, r.ended = make(chan struct{}), make(chan struct{})
	r.planChanges()
	for _, f := range onStart {
		f()
	}
	current = r
	first := r.newTask(f)
	r.cur = first
	first.wake <- struct{}{}
	<-r.done
	o := Outcome{r.failure, r.hash, r.steps, r.trace, time.Since(r.start)}
	r.kill()
	current = nil
	return o
}

// newTask makes a goroutine that waits for its turn.
func (r *run) newTask(f func()) *task {
	t := &task{id: r.nextID, wake: make(chan struct{}, 1)}
	r.nextID++
	t.priority = r.firstPriority()
	r.tasks = append(r.tasks, t)
	go func() {
		defer r.exit(t)
		t.await(r)
		f()
	}()
	return t
}

// await waits for the turn of t. If the run is over, it ends the goroutine.
func (t *task) await(r *run) {
	<-t.wake
	if r.dead {
		runtime.Goexit()
	}
}

// exit is the end of a task.
func (r *run) exit(t *task) {
	if v := recover(); v != nil && !r.dead {
		r.fail(fmt.Sprintf("panic: %v\n%s", v, debug.Stack()))
	}
	r.tasks = slices.DeleteFunc(r.tasks, func(o *task) bool { return o == t })
	if r.dead {
		r.ended <- struct{}{}
		return
	}
	r.handOver(r.next())
}

// fail ends the run with a failure. The first one counts.
func (r *run) fail(failure string) {
	if !r.dead {
		r.failure = failure
		r.finish()
	}
}

func (r *run) finish() {
	r.dead = true
	close(r.done)
}

// Fail ends the run with a failure, and the calling task.
func Fail(format string, args ...any) {
	r := current
	if r == nil {
		panic(fmt.Sprintf(format, args...))
	}
	r.fail(fmt.Sprintf(format, args...) + "\n" + string(debug.Stack()))
	runtime.Goexit()
}

// kill ends the tasks that are left, one after another.
func (r *run) kill() {
	synctest.Wait() // the one that has failed has ended, or waits
	select {
	case <-r.ended:
	default:
	}
	for len(r.tasks) > 0 {
		t := r.tasks[0]
		r.cur = t
		t.wake <- struct{}{}
		<-r.ended
	}
}

// handOver lets t run.
func (r *run) handOver(t *task) {
	if t == nil {
		return
	}
	r.cur = t
	t.wake <- struct{}{}
}

// block makes the current task wait until somebody calls wakeUp for it.
func (r *run) block(waits string) {
	t := r.cur
	t.waits = waits
	r.switchFrom(t)
}

// switchFrom lets another task run, and returns when it is the turn of t again.
func (r *run) switchFrom(t *task) {
	next := r.next()
	if next == t {
		r.cur = t
		return
	}
	r.handOver(next)
	t.await(r)
}

// wakeUp makes a task that waits ready to run.
func (r *run) wakeUp(t *task) {
	t.waits = ""
	r.ready = append(r.ready, t)
	r.changed = true
}

// next returns the task that runs next, after one that has ended or waits. It lets the time pass until there is one. It
// returns nil if the run is over.
func (r *run) next() *task {
	for {
		if len(r.ready) > 0 {
			t := r.ready[r.pick()]
			r.take(t)
			return t
		}
		now := time.Now()
		if r.settler != nil && (len(r.timers) == 0 || r.timers[0].when.Sub(now) > r.settle) {
			t := r.settler
			r.settler = nil
			t.waits = ""
			r.note(t)
			return t
		}
		if len(r.timers) == 0 {
			r.stop()
			return nil
		}
		if wait := r.timers[0].when.Sub(now); wait > 0 {
			time.Sleep(wait) // everybody else waits, so the clock jumps
		}
		r.fire()
	}
}

// stop ends a run in which nobody can run any more. That is a failure if tasks are left.
func (r *run) stop() {
	if len(r.tasks) > 0 {
		r.fail("deadlock: " + r.waiting())
		return
	}
	r.finish()
}

// waiting describes the tasks that are left.
func (r *run) waiting() string {
	var b strings.Builder
	for _, t := range r.tasks {
		fmt.Fprintf(&b, "task %d waits for %s; ", t.id, t.waits)
	}
	buf := make([]byte, 1<<20)
	b.WriteString("\n")
	b.Write(buf[:runtime.Stack(buf, true)])
	return b.String()
}

// take removes t from ready and counts the decision.
func (r *run) take(t *task) {
	i := slices.Index(r.ready, t)
	last := len(r.ready) - 1
	r.ready[i] = r.ready[last]
	r.ready = r.ready[:last]
	r.note(t)
}

// note adds a decision to the hash, and to the trace.
func (r *run) note(t *task) { r.mix(uint64(t.id) + 1) }

func (r *run) mix(v uint64) { r.hash = (r.hash ^ v) * 0x100000001b3 }

// Point is a place where another task may run.
func Point() {
	r := current
	if r == nil || r.dead {
		return
	}
	r.point(false)
}

// Gosched is a place where another task runs if there is one.
func Gosched() {
	if r := current; r != nil && !r.dead {
		r.point(true)
	}
}

func (r *run) point(yield bool) {
	if r.steps++; r.steps > r.MaxSteps {
		r.fail("livelock: " + r.waiting())
		runtime.Goexit()
	}
	if r.Trace {
		r.record()
	}
	t := r.cur
	if r.Stalls && r.random.Intn(4096) == 0 {
		Sleep(time.Duration(1+r.random.Intn(30)) * time.Millisecond)
		return
	}
	if len(r.ready) == 0 {
		return
	}
	other := r.decide(yield)
	if other == nil {
		return
	}
	r.ready = append(r.ready, t)
	r.changed = true
	r.take(other)
	r.handOver(other)
	t.await(r)
}

// record adds the present operation to the trace.
func (r *run) record() {
	var pcs [8]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !strings.Contains(f.Function, "internal/sched.") || !more {
			name := f.File[strings.LastIndexByte(f.File, '/')+1:]
			r.Note("%s:%d", name, f.Line)
			return
		}
	}
}

// Note adds a line to the trace.
func (r *run) Note(format string, args ...any) {
	const keep = 20_000
	if len(r.trace) >= keep {
		r.trace = append(r.trace[:0], r.trace[keep/2:]...)
	}
	line := fmt.Sprintf("%v %d ", time.Since(r.start), r.cur.id) + fmt.Sprintf(format, args...)
	r.trace = append(r.trace, line)
}

// Note adds a line to the trace, if there is one.
func Note(format string, args ...any) {
	if r := current; r != nil && r.Trace && !r.dead {
		r.Note(format, args...)
	}
}

// Go runs f as another task.
func Go(f func()) {
	r := current
	switch {
	case r == nil:
		go f()
	case !r.dead:
		r.wakeUp(r.newTask(f))
		r.point(false)
	}
}

// ID returns the number of the current task.
func ID() int { return current.cur.id }

// Intn returns a number from 0 to n - 1, which is part of what the seed decides.
func Intn(n int) int {
	r := current
	if r == nil || r.dead || n <= 1 {
		return 0
	}
	v := r.random.Intn(n)
	r.mix(uint64(v))
	return v
}

// Hash adds a value to the hash of the run.
func Hash(v uint64) {
	if r := current; r != nil {
		r.mix(v)
	}
}

// IsOver reports whether there is no run, or it has failed and its tasks are being ended.
func IsOver() bool { return current == nil || current.dead }

// Settle waits until no other task can run and no timer comes up within d. One task at a time may call it.
func Settle(d time.Duration) {
	r := current
	if r == nil || r.dead {
		return
	}
	r.settler, r.settle = r.cur, d
	r.block("Settle")
}

// Waiting returns the numbers of the tasks that have not ended, without the current one.
func Waiting() (ids []int) {
	for _, t := range current.tasks {
		if t != current.cur {
			ids = append(ids, t.id)
		}
	}
	return ids
}

// Describe returns the stacks of all tasks.
func Describe() string { return current.waiting() }
