//go:build sim

package sched

import "math/bits"

// A Strategy chooses who runs next.
type Strategy struct {
	// Depth is how many changes of priority there are in a run that is scheduled by priorities (PCT: Burckhardt and
	// others, ASPLOS 2010): the task of the highest priority runs, and at Depth steps, chosen at random, the one that
	// runs gets the lowest. Such a run finds a defect of Depth+1 ordered steps with a known probability. If Depth is
	// negative, the choice is uniform instead.
	Depth int
	// Length is about how many steps the run has, for Depth.
	Length int
	// Switch is, for the uniform choice, after how many steps on average another task runs. If it is 0, another one
	// runs only where a task waits or yields.
	Switch int
}

// A Random is a stream of numbers (SplitMix64: Steele, Lea and Flood, OOPSLA 2014).
type Random struct{ state uint64 }

// NewRandom returns the stream of a seed.
func NewRandom(seed uint64) Random { return Random{seed} }

// Next returns the next number.
func (r *Random) Next() uint64 {
	r.state += 0x9E3779B97F4A7C15
	z := r.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// Intn returns a number from 0 to n - 1.
func (r *Random) Intn(n int) int {
	hi, _ := bits.Mul64(r.Next(), uint64(n))
	return int(hi)
}

func (r *run) byPriority() bool { return r.Strategy.Depth >= 0 }

// planChanges chooses the steps at which priorities change.
func (r *run) planChanges() {
	for range r.Strategy.Depth {
		r.changes = append(r.changes, r.random.Intn(max(r.Strategy.Length, 1)))
	}
}

// firstPriority returns the priority of a new task.
func (r *run) firstPriority() int {
	if r.byPriority() {
		return r.random.Intn(1 << 20)
	}
	return 0
}

// demote gives t the lowest priority.
func (r *run) demote(t *task) {
	r.lowest--
	t.priority = r.lowest
	r.changed = true
}

// decide returns the task that runs in place of the current one, or nil. ready is not empty.
func (r *run) decide(yield bool) *task {
	if !r.byPriority() {
		if !yield && (r.Strategy.Switch == 0 || r.random.Intn(r.Strategy.Switch) != 0) {
			return nil
		}
		return r.ready[r.random.Intn(len(r.ready))]
	}
	for _, step := range r.changes {
		if step == r.steps {
			r.demote(r.cur)
		}
	}
	if yield {
		r.demote(r.cur)
	}
	if !r.changed {
		return nil
	}
	r.changed = false
	if best := r.ready[r.pick()]; best.priority > r.cur.priority {
		return best
	}
	return nil
}

// pick returns the index of the next task in ready, which is not empty.
func (r *run) pick() int {
	if !r.byPriority() {
		return r.random.Intn(len(r.ready))
	}
	best := 0
	for i, t := range r.ready {
		if t.priority > r.ready[best].priority {
			best = i
		}
	}
	return best
}
