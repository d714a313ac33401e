//go:build sim

package explore

import (
	"slices"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A shrinkable is a program of either kind.
type shrinkable[P any] interface {
	smaller() []P // programs with one thing less, the largest first
	setSeed(seed uint64)
}

// Shrink returns a smaller program for which fails returns true, as p does. It goes on for about limit.
func Shrink[P shrinkable[P]](p P, limit time.Duration, fails func(p P) bool) P {
	end := time.Now().Add(limit)
	for again := true; again; {
		again = false
		for _, smaller := range p.smaller() {
			if time.Now().After(end) {
				return p
			}
			if failsSomehow(smaller, fails) {
				p, again = smaller, true
				break
			}
		}
	}
	return p
}

// otherSeeds is how many schedules are tried with a smaller program. What is left out changes all choices that follow.
const otherSeeds = 8

func failsSomehow[P shrinkable[P]](p P, fails func(p P) bool) bool {
	random := sched.NewRandom(otherSeeds)
	for range otherSeeds {
		if fails(p) {
			return true
		}
		p.setSeed(random.Next())
	}
	return false
}

func (p *Program) setSeed(seed uint64) { p.Seed = seed }

func (p *Program) smaller() (all []*Program) {
	try := func(change func(q *Program)) {
		q := p.clone()
		change(q)
		all = append(all, q)
	}
	for i := range p.Clients {
		try(func(q *Program) { q.Clients = slices.Delete(q.Clients, i, i+1) })
	}
	for i := range p.Users {
		try(func(q *Program) { q.Users = slices.Delete(q.Users, i, i+1) })
	}
	for i := range p.Reacts {
		try(func(q *Program) { q.Reacts = slices.Delete(q.Reacts, i, i+1) })
	}
	simplify := []func(q *Program){
		func(q *Program) { q.Stalls = false },
		func(q *Program) { q.System = System{} },
		func(q *Program) { q.Server = Server{Loops: 1, Take: q.Server.Take, Handlers: q.Server.Handlers} },
		func(q *Program) { q.UI = nil },
		func(q *Program) { q.Server.Loops = 1 },
		func(q *Program) { q.Server.OwnPoller = false },
		func(q *Program) { q.Server.Executor = NoExecutor },
		func(q *Program) { q.Server.Idle, q.Server.Close = 0, 0 },
		func(q *Program) { q.Server.Slow = 0 },
		func(q *Program) { q.Server.ReadBuffer = 0 },
		func(q *Program) { q.Server.WriteBuffer = 0 },
		func(q *Program) { q.Server.MaxPending, q.Server.MaxConnections, q.Server.Backlog = 0, 0, 0 },
		func(q *Program) { q.Server.Filter, q.Server.OverflowDrop, q.Server.HalfOpen = false, false, false },
		func(q *Program) { q.System.SendBuffer, q.System.ReceiveBuffer, q.System.Segments = 0, 0, 0 },
		func(q *Program) { q.System.Style, q.System.Taken = 0, false },
		func(q *Program) { q.System.Abort, q.System.Drop = false, false },
		func(q *Program) { q.System.FaultEvery, q.System.Files = 0, 0 },
	}
	for _, change := range simplify {
		q := p.clone()
		change(q)
		if q.Source() != p.Source() {
			all = append(all, q)
		}
	}
	for i := range countSteps(p.scripts()) {
		try(func(q *Program) { dropStep(q.scripts(), i) })
	}
	return all
}

// clone returns a copy that shares nothing with p.
func (p *Program) clone() *Program {
	q := *p
	q.Clients, q.Users, q.Reacts = nil, nil, nil
	q.UI = slices.Clone(p.UI)
	for _, s := range p.Clients {
		q.Clients = append(q.Clients, slices.Clone(s))
	}
	for _, s := range p.Users {
		q.Users = append(q.Users, slices.Clone(s))
	}
	for _, r := range p.Reacts {
		c := Reaction{Written: slices.Clone(r.Written), Closed: slices.Clone(r.Closed), End: slices.Clone(r.End)}
		for _, s := range r.Ready {
			c.Ready = append(c.Ready, slices.Clone(s))
		}
		q.Reacts = append(q.Reacts, c)
	}
	return &q
}

// scripts returns all lists of steps.
func (p *Program) scripts() (all []*Script) {
	for i := range p.Clients {
		all = append(all, &p.Clients[i])
	}
	for i := range p.Users {
		all = append(all, &p.Users[i])
	}
	all = append(all, &p.UI)
	for i := range p.Reacts {
		r := &p.Reacts[i]
		for j := range r.Ready {
			all = append(all, &r.Ready[j])
		}
		all = append(all, &r.Written, &r.Closed, &r.End)
	}
	return all
}

// countSteps returns how many steps there are.
func countSteps(scripts []*Script) (n int) {
	for _, s := range scripts {
		n += len(*s)
	}
	return n
}

// dropStep leaves out one step.
func dropStep(scripts []*Script, i int) {
	for _, s := range scripts {
		if i < len(*s) {
			*s = slices.Delete(*s, i, i+1)
			return
		}
		i -= len(*s)
	}
}
