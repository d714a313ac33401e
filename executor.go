package tcpserver

import (
	"context"
	"sync"
	"time"

	"github.com/gammazero/deque"
)

// An Executor brings handlers to the thread that owns the application's user interface. fyne.Do, miqt's
// mainthread.Start, walk's MainWindow.Synchronize and Wails' application.InvokeAsync fit as they are.
//
// It may block until f has run, run f at once, run things in another order than they came, or, once the application
// has quit, never run f: there is at most one call outstanding for a server and all its sockets, it is made on a
// goroutine of its own with no lock held, and the order is kept on this side of it.
type Executor func(f func())

// A Queue is an Executor for programs with a loop of their own: Gio, Ebitengine, raylib, a console's main, a test.
// The zero value is ready. Its methods may be called from any goroutine.
//
//	var queue tcpserver.Queue
//	server.Executor = queue.Post
type Queue struct {
	// Wake is called when there is something to run: window.Invalidate, say. It is called once until RunPending or Run
	// comes for it, on the goroutine that called Post, or RunPending or Run if these leave something behind. nil:
	// nothing. It is set before the first Post.
	Wake func()

	mu     sync.Mutex // guards the block below
	queued deque.Deque[func()]
	told   bool          // that there is something to run; nobody has come for it since
	filled chan struct{} // of capacity 1: tells those who wait in Run; nil until somebody runs
}

// Post queues f. A server has at most one f in the queue.
func (q *Queue) Post(f func()) {
	q.mu.Lock()
	q.queued.PushBack(f)
	q.mu.Unlock()
	q.tell()
}

// tell announces what is queued, unless that has been done and nobody has come for it yet.
func (q *Queue) tell() {
	q.mu.Lock()
	news := q.queued.Len() > 0 && !q.told
	if news {
		q.told = true
		if q.filled != nil {
			select {
			case q.filled <- struct{}{}:
			default:
			}
		}
	}
	q.mu.Unlock()
	if news && q.Wake != nil {
		q.Wake()
	}
}

// RunPending runs on the caller's goroutine what was queued when it was called, and returns how many that were. If
// something is queued when it returns, Wake has been called for it.
func (q *Queue) RunPending() int {
	q.mu.Lock()
	q.told = false
	n := q.queued.Len()
	q.mu.Unlock()
	defer q.tell() // also if what runs panics
	for i := range n {
		q.mu.Lock()
		if q.queued.Len() == 0 { // somebody else runs the queue too
			q.mu.Unlock()
			return i
		}
		f := q.queued.PopFront()
		q.mu.Unlock()
		f()
	}
	return n
}

// Run runs what is queued, on the caller's goroutine, until ctx ends, whose error it returns.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	if q.filled == nil {
		q.filled = make(chan struct{}, 1)
	}
	filled := q.filled
	q.mu.Unlock()
	// Who ends may have been the one that was told of what is queued: another may be waiting for that.
	defer func() {
		q.mu.Lock()
		q.told = false
		q.mu.Unlock()
		q.tell()
	}()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if q.RunPending() > 0 {
			continue
		}
		select {
		case <-filled:
		case <-ctx.Done():
		}
	}
}

// A turnTaker is what handlers belong to: a socket or a server. turn calls those that are due, one after another.
type handlerOwner interface{ runHandlers(d *scratch) }

// A dispatcher takes the turns of a server and its sockets to an Executor, of which it assumes nothing.
type dispatcher struct {
	mu      sync.Mutex // guards the block below
	exec    Executor
	waiting deque.Deque[handlerOwner] // each object once at most
	out     bool                      // a call of exec is outstanding
	begun   bool                      // it has come to run
	call    uint64                    // which one it is: an earlier one that comes late does nothing
}

// drainTime is how long one call of the executor may take if there is more to do: a user interface must stay alive.
const drainTime = 4 * time.Millisecond

// use has the turns taken to exec from now on. What the previous one has not begun is asked of this one: the
// application that owned it may have quit.
func (q *dispatcher) setExecutor(exec Executor) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.exec = exec
	if q.out && !q.begun {
		q.ask()
	}
}

// post asks for a turn.
func (q *dispatcher) post(t handlerOwner) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting.PushBack(t)
	if !q.out {
		q.ask()
	}
}

// withdraw takes back a turn that has been asked for. False: there is none, or it has begun.
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

// ask calls exec. mu is held.
func (q *dispatcher) ask() {
	q.call++
	q.out, q.begun = true, false
	call := q.call
	go q.exec(func() { q.drain(call) })
}

// drain runs on the executor.
func (q *dispatcher) drain(call uint64) {
	q.mu.Lock()
	if call != q.call || q.begun {
		q.mu.Unlock()
		return
	}
	q.begun = true
	q.mu.Unlock()
	sc := &scratch{until: time.Now().Add(drainTime)}
	// Deferred, because the application may survive a panic of its own.
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
