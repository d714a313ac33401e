//go:build sim

package sched

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// A Mutex is a [sync.Mutex]. Whoever of those that wait runs first gets it.
type Mutex struct {
	locked  bool
	waiting []*task
}

// Lock is [sync.Mutex.Lock].
func (m *Mutex) Lock() {
	r := current
	if r == nil || r.dead {
		return
	}
	r.point(false)
	for m.locked {
		m.waiting = append(m.waiting, r.cur)
		r.block("a lock")
	}
	m.locked = true
}

// Unlock is [sync.Mutex.Unlock].
func (m *Mutex) Unlock() {
	r := current
	if r == nil || r.dead {
		return
	}
	if !m.locked {
		panic("sched: unlock of unlocked mutex")
	}
	m.locked = false
	for _, t := range m.waiting {
		r.wakeUp(t)
	}
	m.waiting = m.waiting[:0]
}

// A Cond is a [sync.Cond].
type Cond struct {
	L       sync.Locker
	waiting []*task
}

// NewCond is [sync.NewCond].
func NewCond(l sync.Locker) *Cond { return &Cond{L: l} }

// Wait is [sync.Cond.Wait].
func (c *Cond) Wait() {
	r := current
	if r == nil || r.dead {
		runtime.Goexit()
	}
	r.point(false) // a Broadcast of somebody who does not hold L is lost
	c.waiting = append(c.waiting, r.cur)
	c.L.Unlock()
	r.block("a condition")
	c.L.Lock()
}

// Broadcast is [sync.Cond.Broadcast].
func (c *Cond) Broadcast() {
	r := current
	if r == nil || r.dead {
		return
	}
	r.point(false)
	for _, t := range c.waiting {
		r.wakeUp(t)
	}
	c.waiting = nil
}

// Signal is [sync.Cond.Signal]. Any of those that wait may be woken.
func (c *Cond) Signal() {
	r := current
	if r == nil || r.dead {
		return
	}
	r.point(false)
	if n := len(c.waiting); n > 0 {
		i := r.random.Intn(n)
		r.wakeUp(c.waiting[i])
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

// A Gate is where tasks wait for something that only the simulation knows.
type Gate struct{ waiting []*task }

// Wait waits until the next Open.
func (g *Gate) Wait(what string) {
	r := current
	if r == nil || r.dead {
		runtime.Goexit()
	}
	g.waiting = append(g.waiting, r.cur)
	r.block(what)
}

// Open lets everybody go on who waits now.
func (g *Gate) Open() {
	if r := current; r != nil && !r.dead {
		for _, t := range g.waiting {
			r.wakeUp(t)
		}
	}
	g.waiting = nil
}

// A Pool is a [sync.Pool]. What is put may come back at once, later or never.
type Pool struct {
	run   *run
	items []any // of this run
	spare []any // of earlier runs: as good as new ones
}

// A Pooled is told when it is put into a pool and when it is taken out.
type Pooled interface {
	Freed()
	Reused()
}

// Get is [sync.Pool.Get].
func (p *Pool) Get() any {
	r := current
	if r == nil || r.dead {
		return nil
	}
	p.adopt(r)
	if n := len(p.items); n > 0 && r.random.Intn(8) > 0 {
		i := r.random.Intn(n)
		x := p.items[i]
		p.items[i] = p.items[n-1]
		p.items = p.items[:n-1]
		x.(Pooled).Reused()
		return x
	}
	if n := len(p.spare); n > 0 {
		x := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return x
	}
	return nil
}

// Put is [sync.Pool.Put].
func (p *Pool) Put(x any) {
	r := current
	if r == nil || r.dead {
		return
	}
	p.adopt(r)
	if slices.Contains(p.items, x) {
		Fail("put into a pool twice")
	}
	x.(Pooled).Freed()
	p.items = append(p.items, x)
}

func (p *Pool) adopt(r *run) {
	if p.run == r {
		return
	}
	p.run = r
	p.spare = append(p.spare, p.items...)
	p.items = p.items[:0]
}

// AfterDone is [context.AfterFunc]. ctx is one that this package has made, or never ends.
func AfterDone(ctx context.Context, f func()) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return false }
	}
	c := ctx.(*Context)
	w := &waiter{f}
	c.waiting = append(c.waiting, w)
	if c.err != nil {
		c.wake()
	}
	return func() bool {
		n := len(c.waiting)
		c.waiting = slices.DeleteFunc(c.waiting, func(o *waiter) bool { return o == w })
		return len(c.waiting) < n
	}
}
