//go:build sim

package sched

import (
	"context"
	"time"
)

// A Context is a context of a run.
type Context struct {
	context.Context
	done     chan struct{}
	err      error
	waiting  []*waiter
	children []*Context // of WithCancel
	timer    *Timer
}

type waiter struct{ f func() }

// NewContext returns a context that ends with Cancel or, if d is not negative, after d.
func NewContext(d time.Duration) *Context {
	c := &Context{Context: context.Background(), done: make(chan struct{})}
	if d >= 0 {
		c.timer = AfterFunc(d, func() { c.end(context.DeadlineExceeded) })
	}
	return c
}

// Done is [context.Context.Done].
func (c *Context) Done() <-chan struct{} { return c.done }

// Err is [context.Context.Err].
func (c *Context) Err() error {
	Point()
	return c.err
}

// Deadline is [context.Context.Deadline].
func (c *Context) Deadline() (time.Time, bool) {
	if c.timer == nil {
		return time.Time{}, false
	}
	return c.timer.when, true
}

// Cancel ends the context.
func (c *Context) Cancel() {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.end(context.Canceled)
}

func (c *Context) end(err error) {
	Point()
	if c.err == nil {
		c.err = err
		close(c.done)
		for _, child := range c.children {
			child.end(err)
		}
		c.children = nil
		c.wake()
	}
}

// WithCancel is [context.WithCancel]. ctx is one that this package has made, or never ends.
func WithCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	child := NewContext(-1)
	if ctx.Done() == nil {
		return child, child.Cancel
	}
	parent := ctx.(*Context)
	if err := parent.Err(); err != nil {
		child.end(err)
	} else {
		parent.children = append(parent.children, child)
	}
	return child, child.Cancel
}

func (c *Context) wake() {
	waiting := c.waiting
	c.waiting = nil
	for _, w := range waiting {
		Go(w.f)
	}
}
