//go:build sim

package explore

import (
	"slices"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// A screen stands for the thread that owns a user interface, and for the executor that runs functions there.
type screen struct {
	w     *world
	queue *tcpserver.Queue
	posts []func() // of executors that have their own queue
	gate  sched.Gate
	ctx   *sched.Context
	task  int        // -1 until it runs
	calls int        // functions that run now
	turns sched.Gate // opened after each step of the program
	steps int        // steps of the program that run now
	left  int        // Dying: functions until it runs none
	quit  bool       // the thread ends
}

func newScreen(w *world) *screen {
	u := &screen{w: w, task: -1, left: -1}
	switch w.p.Server.Executor {
	case NoExecutor, Inline:
		return u
	case QueueRun:
		u.queue, u.ctx = new(tcpserver.Queue), sched.NewContext(-1)
		sched.Go(u.runQueue)
		return u
	case QueueWake:
		u.queue = &tcpserver.Queue{Wake: u.gate.Open}
		u.queue.Wake = func() {
			u.posts = append(u.posts, nil)
			u.gate.Open()
		}
	case Dying:
		u.left = int(w.random.Intn(20))
	}
	sched.Go(u.run)
	return u
}

// executor returns the executor of the kind that the program asks for.
func (u *screen) executor() tcpserver.Executor {
	switch u.w.p.Server.Executor {
	case NoExecutor:
		return nil
	case QueueRun, QueueWake:
		return func(f func()) { u.queue.Post(func() { u.call(f) }) }
	case Inline:
		return u.call
	case Blocking:
		return func(f func()) {
			done := false
			var gate sched.Gate
			u.post(func() {
				defer func() { // f may panic
					done = true
					gate.Open()
				}()
				f()
			})
			for !done && !u.quit {
				gate.Wait("the executor")
			}
		}
	}
	return u.post
}

// call runs a function of the library. The application survives its panics.
func (u *screen) call(f func()) {
	u.calls++
	defer func() {
		u.calls--
		if v := recover(); v != nil && v != errPanic {
			panic(v)
		}
	}()
	f()
}

func (u *screen) post(f func()) {
	sched.Point()
	u.posts = append(u.posts, f)
	u.gate.Open()
}

// runQueue is the thread with a Queue and its Run.
func (u *screen) runQueue() {
	u.task = sched.ID()
	u.queue.Run(u.ctx)
}

// run is the thread with any other executor.
func (u *screen) run() {
	u.task = sched.ID()
	for !u.quit {
		if len(u.posts) == 0 {
			u.gate.Wait("functions of the executor")
			continue
		}
		if u.left == 0 {
			u.posts = nil
			u.turns.Open()
			u.gate.Wait("nothing: the executor is dead")
			continue
		}
		i := 0
		if u.w.p.Server.Executor == Shuffled {
			sched.Sleep(time.Duration(sched.Intn(3)) * time.Millisecond)
			i = sched.Intn(len(u.posts))
		}
		f := u.posts[i]
		u.posts = append(u.posts[:i], u.posts[i+1:]...)
		u.left--
		if f == nil {
			u.queue.RunPending()
		} else {
			u.call(f)
		}
		sched.Point()
	}
}

// isBusy reports whether no function of the library can begin to run.
func (u *screen) isBusy() bool { return u.steps > 0 || u.isDead() }

// isTaken reports whether a handler runs on the executor, which holds up others.
func (u *screen) isTaken() bool {
	return u.w.p.Server.Executor != NoExecutor && slices.ContainsFunc(u.w.served, func(h *serverHandlers) bool {
		return h.inside != ""
	})
}

// isDead reports whether functions are no longer run.
func (u *screen) isDead() bool { return u.left == 0 }

// script runs the steps on the thread, each as a function of its own.
func (u *screen) script(s Script) {
	a := &actor{w: u.w, writer: 1, ui: true}
	for _, op := range s {
		done := false
		f := func() {
			u.steps++
			defer func() {
				u.steps--
				done = true
				u.turns.Open()
			}()
			a.step(op)
		}
		if u.queue != nil {
			u.queue.Post(f)
		} else {
			u.post(f)
		}
		for !done && !u.isDead() && !u.quit {
			u.turns.Wait("the thread of the user interface")
		}
	}
}

// stop ends the thread.
func (u *screen) stop() {
	u.quit = true
	if u.ctx != nil {
		u.ctx.Cancel()
	}
	u.gate.Open()
}
