// Package event lets several listeners share one handler.
//
// A handler, such as the NewConnectionHandler of a TcpServer, is a single function. An [Emitter] calls any number of
// listeners, one after another, in the style of Node's EventEmitter and AIR's EventDispatcher:
//
//	var connections event.Emitter[*tcpserver.TcpServer]
//	server.NewConnectionHandler = func(server *tcpserver.TcpServer) { connections.Emit(server) }
//	subscription := connections.On(func(server *tcpserver.TcpServer) { ... })
//	subscription.Off()
//
// For a handler with two arguments, emit a struct of both.
//
// # Order
//
// Listeners are called by priority, the highest first. Listeners of the same priority are called in the order in which
// they were added, except that those added with [Emitter.Prepend] come first. The default priority is 0.
//
// # Concurrency
//
// All methods may be called from any goroutine, and by listeners. [Emitter.Emit] calls the listeners on its caller's
// goroutine, and no lock is held meanwhile.
package event

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// An Emitter calls listeners when an event is emitted. The zero value is ready to use. An Emitter must not be copied
// after first use. Its methods may be called from any goroutine, and by listeners.
type Emitter[T any] struct {
	listeners atomic.Pointer[[]*listener[T]] // the slice is never modified; nil if there are none

	mu     sync.Mutex // held while listeners is replaced; guards the fields below
	limit  int        // minus defaultLimit, so that zero means the default
	warned bool
}

// A listener is an entry of the list, which is ordered by priority, the highest first.
type listener[T any] struct {
	call     func(T)
	priority int
	once     bool
	fired    atomic.Bool // an Emit has called it; only used if once is true
}

// defaultLimit is the default of SetMaxListeners, which is that of Node.
const defaultLimit = 10

// A Subscription represents a listener that was added to an [Emitter]. A nil *Subscription represents none.
type Subscription struct{ off func() }

// Off removes the listener. An [Emitter.Emit] that is already running still calls it. Calling Off again, or on a nil
// *Subscription, does nothing. It may be called from any goroutine.
func (s *Subscription) Off() {
	if s != nil {
		s.off()
	}
}

// On adds f after the listeners of priority 0. If the same function is added several times, it is called several times.
func (e *Emitter[T]) On(f func(T)) *Subscription { return e.OnPriority(0, f) }

// OnPriority adds f after the listeners of the same priority. Listeners with higher priorities are called first.
func (e *Emitter[T]) OnPriority(priority int, f func(T)) *Subscription {
	return e.add(&listener[T]{call: f, priority: priority}, false)
}

// Once adds f as [Emitter.On] does, but only for the next event. f is removed before it is called, and is called once
// even if several goroutines emit.
func (e *Emitter[T]) Once(f func(T)) *Subscription {
	return e.add(&listener[T]{call: f, once: true}, false)
}

// Prepend adds f before the listeners of priority 0.
func (e *Emitter[T]) Prepend(f func(T)) *Subscription {
	return e.add(&listener[T]{call: f}, true)
}

// PrependOnce adds f as [Emitter.Prepend] does, but only for the next event, as [Emitter.Once] does.
func (e *Emitter[T]) PrependOnce(f func(T)) *Subscription {
	return e.add(&listener[T]{call: f, once: true}, true)
}

func (e *Emitter[T]) add(l *listener[T], front bool) *Subscription {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all()
	i := slices.IndexFunc(all, func(other *listener[T]) bool {
		return other.priority < l.priority || front && other.priority == l.priority
	})
	if i < 0 {
		i = len(all)
	}
	e.set(slices.Insert(slices.Clone(all), i, l))
	e.warn(len(all) + 1)
	return &Subscription{func() { e.remove(l) }}
}

// warn logs, once, that there are more listeners than expected, which often means that some are never removed. mu is
// held.
func (e *Emitter[T]) warn(n int) {
	limit := e.limit + defaultLimit
	if limit > 0 && n > limit && !e.warned {
		e.warned = true
		slog.Warn("event: many listeners, perhaps some are never removed", "listeners", n, "limit", limit)
	}
}

func (e *Emitter[T]) remove(l *listener[T]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if all := e.all(); slices.Contains(all, l) {
		e.set(slices.DeleteFunc(slices.Clone(all), func(other *listener[T]) bool { return other == l }))
	}
}

// all returns the current list, which must not be modified.
func (e *Emitter[T]) all() []*listener[T] {
	if p := e.listeners.Load(); p != nil {
		return *p
	}
	return nil
}

// set replaces the list. mu is held.
func (e *Emitter[T]) set(all []*listener[T]) { e.listeners.Store(&all) }

// Emit calls the listeners with v, one after another, on the caller's goroutine, and reports whether there were any. It
// works on a snapshot: a listener that is added while Emit runs is not called, and one that is removed still is. If a
// listener panics, Emit calls no further listener, and the panic propagates to its caller. No lock is held.
func (e *Emitter[T]) Emit(v T) bool {
	all := e.all()
	for _, l := range all {
		if l.once {
			if l.fired.Swap(true) {
				continue
			}
			e.remove(l)
		}
		l.call(v)
	}
	return len(all) > 0
}

// Listeners returns the number of listeners.
func (e *Emitter[T]) Listeners() int { return len(e.all()) }

// RemoveAll removes every listener.
func (e *Emitter[T]) RemoveAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners.Store(nil)
}

// SetMaxListeners sets how many listeners are expected. If there are more, one warning is logged with [log/slog], and
// all are called nevertheless. The default is 10. If n <= 0, no warning is logged.
func (e *Emitter[T]) SetMaxListeners(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.limit, e.warned = max(n, 0)-defaultLimit, false
}
