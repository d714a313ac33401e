// Package event lets many listeners share a handler that there is only one of.
//
// An Emitter calls its listeners one after another, in the manner of Node's EventEmitter and AIR's EventDispatcher:
//
//	var connections event.Emitter[*tcpserver.TcpServer]
//	server.NewConnectionHandler = func(server *tcpserver.TcpServer) { connections.Emit(server) }
//	subscription := connections.On(func(server *tcpserver.TcpServer) { ... })
//	subscription.Off()
//
// A handler of two arguments is passed on as one value: a struct of them.
package event

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// An Emitter calls listeners when an event is emitted. The zero value is ready. It is not copied after its first use.
// Its methods may be called from any goroutine, and by listeners.
type Emitter[T any] struct {
	listeners atomic.Pointer[[]*listener[T]] // what it points to never changes; nil: none

	mu     sync.Mutex // held while listeners is replaced; guards the block below
	limit  int        // less the default, so that the zero value is the default
	warned bool
}

// A listener is one entry. The list is ordered by priority, the highest first.
type listener[T any] struct {
	call     func(T)
	priority int
	once     bool
	fired    atomic.Bool // of one that is called once: by an Emit
}

// defaultLimit is Node's.
const defaultLimit = 10

// A Subscription is what adding a listener returns. A nil one is as good as one that is off.
type Subscription struct{ off func() }

// Off removes the listener. An Emit that is running still calls it. A second call does nothing.
func (s *Subscription) Off() {
	if s != nil {
		s.off()
	}
}

// On adds f behind those of its priority, which is 0. The same function may be added again, and is then called again.
func (e *Emitter[T]) On(f func(T)) *Subscription { return e.OnPriority(0, f) }

// OnPriority adds f behind those of that priority. Higher priorities are called first.
func (e *Emitter[T]) OnPriority(priority int, f func(T)) *Subscription {
	return e.add(&listener[T]{call: f, priority: priority}, false)
}

// Once adds f like On, for the next event alone: it is removed before it is called, and called once even if several
// goroutines emit.
func (e *Emitter[T]) Once(f func(T)) *Subscription {
	return e.add(&listener[T]{call: f, once: true}, false)
}

// Prepend adds f in front of those of its priority, which is 0.
func (e *Emitter[T]) Prepend(f func(T)) *Subscription {
	return e.add(&listener[T]{call: f}, true)
}

// PrependOnce adds f like Prepend, for the next event alone.
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

// warn says once that there are more listeners than expected, which often means that some are never removed. mu is
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

// all returns the present list, which is not to be changed.
func (e *Emitter[T]) all() []*listener[T] {
	if p := e.listeners.Load(); p != nil {
		return *p
	}
	return nil
}

// set replaces the list. mu is held.
func (e *Emitter[T]) set(all []*listener[T]) { e.listeners.Store(&all) }

// Emit calls the listeners with v, one after another on the caller's goroutine, and reports whether there was any. It
// calls those that there are when it begins: one that is added meanwhile is not called, one that is removed meanwhile
// still is. A listener that panics ends the Emit, and the panic is the caller's. No lock is held.
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

// Listeners returns how many listeners there are.
func (e *Emitter[T]) Listeners() int { return len(e.all()) }

// RemoveAll removes every listener.
func (e *Emitter[T]) RemoveAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners.Store(nil)
}

// SetMaxListeners sets how many listeners are expected: one warning is logged, with package log/slog, when there are
// more. It limits nothing. The default is 10; n <= 0: no limit.
func (e *Emitter[T]) SetMaxListeners(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.limit, e.warned = max(n, 0)-defaultLimit, false
}
