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
	Mutex = sync.Mutex
	Cond  = sync.Cond
	Pool  = sync.Pool
	Timer = time.Timer

	Bool   = atomic.Bool
	Int32  = atomic.Int32
	Int64  = atomic.Int64
	Uint32 = atomic.Uint32
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

// AfterDone is [context.AfterFunc].
func AfterDone(ctx context.Context, f func()) (stop func() bool) { return context.AfterFunc(ctx, f) }
