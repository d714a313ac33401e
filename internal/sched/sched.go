//go:build !sim

// Package sched has everything by which goroutines wait for one another or are started: locks, conditions, atomic
// values, goroutines, timers and pools.
//
// In an ordinary build each name is an alias of the standard library's, or a function that only calls it: the compiled
// code is what it would be without this package. With the tag sim, the same names belong to a scheduler that
// runs one goroutine at a time and decides at each of their operations which one runs next, so that a test can choose
// the interleaving, and repeat it.
package sched

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

type (
	// Mutex is a [sync.Mutex].
	Mutex = sync.Mutex
	// Cond is a [sync.Cond].
	Cond = sync.Cond
	// Pool is a [sync.Pool].
	Pool = sync.Pool
	// Timer is a [time.Timer].
	Timer = time.Timer

	// Bool is an [atomic.Bool].
	Bool = atomic.Bool
	// Int32 is an [atomic.Int32].
	Int32 = atomic.Int32
	// Int64 is an [atomic.Int64].
	Int64 = atomic.Int64
	// Uint32 is an [atomic.Uint32].
	Uint32 = atomic.Uint32
	// Uint64 is an [atomic.Uint64].
	Uint64 = atomic.Uint64
)

// A Pointer is an [atomic.Pointer].
type Pointer[T any] = atomic.Pointer[T]

// NewCond is [sync.NewCond].
func NewCond(l sync.Locker) *Cond { return sync.NewCond(l) }

// Go calls f on a new goroutine.
func Go(f func()) { go f() }

// Gosched is [runtime.Gosched].
func Gosched() { runtime.Gosched() }

// AfterFunc is [time.AfterFunc].
func AfterFunc(d time.Duration, f func()) *Timer { return time.AfterFunc(d, f) }

// WithCancel is [context.WithCancel].
func WithCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

// AfterDone is [context.AfterFunc].
func AfterDone(ctx context.Context, f func()) (stop func() bool) { return context.AfterFunc(ctx, f) }
