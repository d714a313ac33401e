package tcpserver

import (
	"context"
	"time"

	"github.com/gammazero/deque"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// An Executor runs handlers on the thread that owns the application's user interface. fyne.Do, miqt's
// mainthread.Start, walk's MainWindow.Synchronize and Wails' application.InvokeAsync can be used as they are.
//
// An Executor may block until f has run, run f at once, reorder functions, or, once the application has quit, never
// run f. This package makes the call on a separate goroutine with no lock held, and keeps the order of handlers itself.
// For a server and all its sockets it has at most one call outstanding; a Listen that finds a call not begun makes
// another one, because the previous Executor may have ended.
type Executor func(f func())

// A Queue is an [Executor] for programs with a loop of their own: Gio, Ebitengine, raylib, the main function of a
// console program, a test. The zero value is ready to use. Its methods may be called from any goroutine.
//
//	var queue tcpserver.Queue
//	server.Executor = queue.Post
type Queue struct {
	// Wake is called when there is something to run. It may be window.Invalidate, for example. After a call, it is
	// not called again until RunPending or Run has looked at the queue. It runs on the goroutine that calls Post, or
	// RunPending or Run if these leave something in the queue. If nil, it is not called. It must be set before the
	// first Post.
	Wake func()

	mu     sched.Mutex // guards the block below
	queued deque.Deque[func()]
	told   bool        // Wake was called, and neither RunPending nor Run has looked at the queue since
	filled *sched.Cond // on mu: something was queued; nil until the first Run
}

// Post queues f. A server whose Executor is Post has one f in the queue at most, and one more for each Listen that
// finds the previous one not begun.
func (q *Queue) Post(f func()) {
	q.mu.Lock()
	q.queued.PushBack(f)
	if q.filled != nil {
		q.filled.Broadcast()
	}
	q.mu.Unlock()
	q.tell()
}

// tell announces that there is something to run, unless that was announced and nobody has looked at the queue since.
func (q *Queue) tell() {
	q.mu.Lock()
	news := q.queued.Len() > 0 && !q.told
	if news {
		q.told = true
	}
	q.mu.Unlock()
	if news && q.Wake != nil {
		q.Wake()
	}
}

// RunPending runs, on the caller's goroutine, the functions that were queued when it was called, and returns how many
// it ran. If something is queued when it returns, Wake has been called for it.
func (q *Queue) RunPending() int {
	q.mu.Lock()
	q.told = false
	n := q.queued.Len()
	q.mu.Unlock()
	defer q.tell() // deferred for the case that a function panics
	for i := range n {
		q.mu.Lock()
		if q.queued.Len() == 0 { // another goroutine runs the queue, too
			q.mu.Unlock()
			return i
		}
		f := q.queued.PopFront()
		q.mu.Unlock()
		f()
	}
	return n
}

// Run runs queued functions on the caller's goroutine until ctx ends, and returns ctx.Err().
func (q *Queue) Run(ctx context.Context) error {
	// What is still queued at the end needs another Wake: this Run may have been the only one that looked at it.
	defer func() {
		q.mu.Lock()
		q.told = false
		q.mu.Unlock()
		q.tell()
	}()
	for {
		q.mu.Lock()
		if q.filled == nil {
			q.filled = sched.NewCond(&q.mu)
		}
		err := waitOn(ctx, q.filled, func() bool { return q.queued.Len() > 0 })
		q.mu.Unlock()
		if err != nil {
			return err
		}
		q.RunPending()
	}
}

// A handlerOwner is an object that has handlers: a socket or a server. runHandlers calls those that are due, one
// after another.
type handlerOwner interface{ runHandlers(d *scratch) }

// A dispatcher runs the handlers of a server and its sockets on an Executor, about which it assumes nothing.
type dispatcher struct {
	mu      sched.Mutex // guards the block below
	exec    Executor
	waiting deque.Deque[handlerOwner] // each object at most once
	out     bool                      // a call of exec is outstanding
	begun   bool                      // the outstanding call has begun to run
	call    uint64                    // number of the outstanding call; an earlier one that runs late does nothing
}

// drainTime is how long one call of the executor may take if there is more to do, so that a user interface stays
// responsive.
const drainTime = 4 * time.Millisecond

// setExecutor uses exec from now on. If the outstanding call of the previous executor has not begun, exec is called
// instead: the application that owned the previous one may have quit.
func (q *dispatcher) setExecutor(exec Executor) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.exec = exec
	if q.out && !q.begun {
		q.ask()
	}
}

// post schedules t.runHandlers.
func (q *dispatcher) post(t handlerOwner) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting.PushBack(t)
	if !q.out {
		q.ask()
	}
}

// withdraw undoes post. It returns false if t was not posted, or if its runHandlers has begun.
func (q *dispatcher) withdraw(t handlerOwner) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.waiting.Index(func(w handlerOwner) bool { return w == t })
	if i < 0 {
		return false
	}
	q.waiting.Remove(i)
	return true
}

// ask calls exec on a new goroutine. mu is held.
func (q *dispatcher) ask() {
	q.call++
	q.out, q.begun = true, false
	call := q.call
	exec := q.exec
	sched.Go(func() { exec(func() { q.drain(call) }) })
}

// drain is what the executor runs: it runs the handlers of those that wait, for about drainTime.
func (q *dispatcher) drain(call uint64) {
	q.mu.Lock()
	if call != q.call || q.begun {
		q.mu.Unlock()
		return
	}
	q.begun = true
	q.mu.Unlock()
	sc := &scratch{until: time.Now().Add(drainTime)}
	// This is deferred because the application may recover from a panic of its handlers.
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.out = q.waiting.Len() > 0; q.out {
			q.ask()
		}
	}()
	for {
		q.mu.Lock()
		if q.waiting.Len() == 0 {
			q.mu.Unlock()
			break
		}
		t := q.waiting.PopFront()
		q.mu.Unlock()
		t.runHandlers(sc)
		if sc.timeUp() {
			break
		}
	}
	sc.release()
}
