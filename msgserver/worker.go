package msgserver

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A task is something that the worker of a ThreadServer has to do.
type task[C, M any] struct {
	kind   taskKind
	client *session[C, M] // of all kinds but taskWork and taskUpdate
	msg    M              // of taskMessage
	err    error          // of taskFailure and taskDisconnect
	work   func()         // of taskWork
}

type taskKind uint8

const (
	taskWork       taskKind = iota
	taskUpdate              // an update is due
	taskConnect             // a new client
	taskResume              // the client's parked tasks may continue
	taskMessage             // from the client
	taskFailure             // what the client has sent cannot be decoded
	taskEnd                 // the client has ended its stream
	taskDisconnect          // the connection has ended
)

// Work calls f on the worker, in order with everything else there, without waiting for it. It may be called from any
// goroutine, and before Run. Functions that are still queued when Run ends wait for the next Run. Work may be used as
// the server's Executor.
func (s *ThreadServer[C, M]) Work(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.push(task[C, M]{kind: taskWork, work: f})
}

// push queues a task. mu is held.
func (s *ThreadServer[C, M]) push(t task[C, M]) {
	s.tasks.PushBack(t)
	s.wakeup.Signal()
}

// runTasks runs tasks, and Update when it is due, until over returns true. Before each, over is called with mu held.
func (s *ThreadServer[C, M]) runTasks(updates *updateTimer, over func() bool) {
	for {
		t, ok := s.next(updates, over)
		switch {
		case !ok:
			return
		case t.kind == taskUpdate:
			s.guard(s.Update)
			s.afterEvent()
			updates.next() // not earlier: tasks come first, however long Update takes
		default:
			s.runTask(t)
		}
	}
}

// next waits for a task. It returns false if over returns true.
func (s *ThreadServer[C, M]) next(updates *updateTimer, over func() bool) (t task[C, M], ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case over():
			return t, false
		case updates.take():
			return task[C, M]{kind: taskUpdate}, true
		case s.tasks.Len() > 0:
			return s.tasks.PopFront(), true
		}
		s.wakeup.Wait()
	}
}

// shutdown handles what has been decoded, stops the clients, and runs tasks until all connections have ended, for about
// limit.
func (s *ThreadServer[C, M]) shutdown(updates *updateTimer, limit time.Duration) {
	clients := s.stopReading()
	for _, c := range clients {
		s.runParked(c)
	}
	s.runTasks(updates, func() bool { return !slices.ContainsFunc(clients, (*session[C, M]).isDecoding) })
	s.runQueued()
	var outputs []*output
	for _, c := range clients {
		c.stop(nil)
		outputs = append(outputs, &c.output)
	}
	defer forceCloseAfter(limit, outputs)()
	s.runTasks(updates, s.endIfAllClosed)
}

// stopReading returns the clients in the order of their connections. Nothing more is read from them.
func (s *ThreadServer[C, M]) stopReading() []*session[C, M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shuttingDown.Store(true)
	clients := slices.SortedFunc(maps.Values(s.sessions), func(a, b *session[C, M]) int {
		return cmp.Compare(a.number, b.number)
	})
	for _, c := range clients {
		c.pauseLocked()
	}
	return clients
}

// runQueued runs the tasks that are queued when it is called.
func (s *ThreadServer[C, M]) runQueued() {
	s.mu.Lock()
	left := s.tasks.Len()
	s.mu.Unlock()
	s.runTasks(nil, func() bool {
		left--
		return left < 0
	})
}

// endIfAllClosed reports whether all clients have ended. If so, the server may run again. mu is held.
func (s *ThreadServer[C, M]) endIfAllClosed() bool {
	if len(s.sessions) > 0 {
		return false
	}
	s.running = false
	s.shuttingDown.Store(false)
	return true
}

func (s *ThreadServer[C, M]) runTask(t task[C, M]) {
	c := t.client
	switch {
	case t.kind == taskWork:
		s.guard(t.work)
		s.afterEvent()
	case t.kind == taskConnect:
		s.connect(c)
	case t.kind == taskResume:
		s.runParked(c)
	case len(c.parked) > 0 || s.mustPark(c):
		c.parked = append(c.parked, t)
		s.runParked(c)
	default:
		s.runClientTask(c, t)
	}
}

// mustPark reports whether the tasks of a client have to wait until less is queued for it.
func (s *ThreadServer[C, M]) mustPark(c *session[C, M]) bool {
	return !s.shuttingDown.Load() && c.mustWait()
}

// runParked runs the parked tasks of a client.
func (s *ThreadServer[C, M]) runParked(c *session[C, M]) {
	for len(c.parked) > 0 {
		if s.mustPark(c) {
			return
		}
		t := c.parked[0]
		c.parked[0] = task[C, M]{}
		c.parked = c.parked[1:]
		s.runClientTask(c, t)
	}
	c.parked = nil
}

// runClientTask runs a task of a client.
func (s *ThreadServer[C, M]) runClientTask(c *session[C, M], t task[C, M]) {
	switch t.kind {
	case taskMessage:
		s.handle(c, t.msg)
	case taskFailure:
		s.fail(c, t.err)
	case taskEnd:
		c.stop(nil)
		return
	case taskDisconnect:
		s.disconnect(c, t.err)
		if c.refused {
			return
		}
	}
	s.afterEvent()
}

func (s *ThreadServer[C, M]) handle(c *session[C, M], msg M) {
	if s.ClientMessage != nil {
		if err := try(func() { s.ClientMessage(c.client, msg) }); err != nil {
			s.fail(c, err)
		}
	}
	c.messageHandled()
}

// fail reports an error of a client and stops the client.
func (s *ThreadServer[C, M]) fail(c *session[C, M], err error) {
	defer c.stop(err) // also if OnError calls runtime.Goexit
	s.report(&ClientError{c.socket, err})
}

func (s *ThreadServer[C, M]) connect(c *session[C, M]) {
	var err error
	returned := false
	defer func() {
		if !returned { // ClientConnected has called runtime.Goexit
			c.refused = true
			c.start()
		}
	}()
	switch {
	case s.shuttingDown.Load(): // Serve is about to return
		c.refused = true
		s.mu.Lock()
		s.refused++
		s.mu.Unlock()
	case s.ClientConnected != nil:
		if failure := try(func() { c.client, err = s.ClientConnected(c.socket) }); failure != nil {
			err = failure
		}
	}
	if err != nil {
		c.refused = true
		s.report(&ClientError{c.socket, err})
	}
	returned = true
	c.start()
	if !s.shuttingDown.Load() {
		s.afterEvent()
	}
}

func (s *ThreadServer[C, M]) disconnect(c *session[C, M], err error) {
	s.mu.Lock()
	delete(s.sessions, c.socket)
	if c.cause != nil {
		err = c.cause
	}
	s.mu.Unlock()
	if s.ClientDisconnected == nil || c.refused {
		return
	}
	if failure := try(func() { s.ClientDisconnected(c.client, err) }); failure != nil {
		s.report(&ClientError{c.socket, failure})
	}
}

func (s *ThreadServer[C, M]) afterEvent() {
	if s.AfterEvent != nil {
		s.guard(s.AfterEvent)
	}
}

// guard calls a callback that concerns no client, and reports its panic.
func (s *ThreadServer[C, M]) guard(f func()) {
	if err := try(f); err != nil {
		s.report(err)
	}
}

// report passes err to OnError. If that panics, the panic is written to ErrorOutput.
func (s *ThreadServer[C, M]) report(err error) {
	if s.OnError != nil {
		if err = try(func() { s.OnError(err, stackOf(err)) }); err == nil {
			return
		}
	}
	printError(s.ErrorOutput, err)
}
