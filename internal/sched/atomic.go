//go:build sim

package sched

// The types of this file are those of package sync/atomic, with their methods. Before each operation another task may
// run.

// A Bool is an atomic.Bool.
type Bool struct{ v bool }

// Load is [sync/atomic.Bool.Load].
func (b *Bool) Load() bool {
	Point()
	return b.v
}

// Store is [sync/atomic.Bool.Store].
func (b *Bool) Store(v bool) { b.Swap(v) }

// Swap is [sync/atomic.Bool.Swap].
func (b *Bool) Swap(v bool) (old bool) {
	Point()
	old, b.v = b.v, v
	return old
}

// CompareAndSwap is [sync/atomic.Bool.CompareAndSwap].
func (b *Bool) CompareAndSwap(old, to bool) bool {
	Point()
	if b.v != old {
		return false
	}
	b.v = to
	return true
}

// A Number is one of the integers of package sync/atomic.
type Number[T int32 | int64 | uint32 | uint64] struct{ v T }

type (
	// Int32 is an atomic.Int32.
	Int32 = Number[int32]
	// Int64 is an atomic.Int64.
	Int64 = Number[int64]
	// Uint32 is an atomic.Uint32.
	Uint32 = Number[uint32]
	// Uint64 is an atomic.Uint64.
	Uint64 = Number[uint64]
)

// Load is [sync/atomic.Uint32.Load].
func (n *Number[T]) Load() T {
	Point()
	return n.v
}

// Store is [sync/atomic.Uint32.Store].
func (n *Number[T]) Store(v T) {
	Point()
	n.v = v
}

// Add is [sync/atomic.Uint32.Add].
func (n *Number[T]) Add(delta T) T {
	Point()
	n.v += delta
	return n.v
}

// Or is [sync/atomic.Uint32.Or].
func (n *Number[T]) Or(bits T) (old T) {
	Point()
	old, n.v = n.v, n.v|bits
	return old
}

// And is [sync/atomic.Uint32.And].
func (n *Number[T]) And(bits T) (old T) {
	Point()
	old, n.v = n.v, n.v&bits
	return old
}

// CompareAndSwap is [sync/atomic.Uint32.CompareAndSwap].
func (n *Number[T]) CompareAndSwap(old, to T) bool {
	Point()
	if n.v != old {
		return false
	}
	n.v = to
	return true
}

// A Pointer is an atomic.Pointer.
type Pointer[T any] struct{ p *T }

// Load is [sync/atomic.Pointer.Load].
func (a *Pointer[T]) Load() *T {
	Point()
	return a.p
}

// Store is [sync/atomic.Pointer.Store].
func (a *Pointer[T]) Store(p *T) { a.Swap(p) }

// Swap is [sync/atomic.Pointer.Swap].
func (a *Pointer[T]) Swap(p *T) (old *T) {
	Point()
	old, a.p = a.p, p
	return old
}

// CompareAndSwap is [sync/atomic.Pointer.CompareAndSwap].
func (a *Pointer[T]) CompareAndSwap(old, to *T) bool {
	Point()
	if a.p != old {
		return false
	}
	a.p = to
	return true
}
