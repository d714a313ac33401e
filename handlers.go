package tcpserver

import (
	"runtime/debug"
)

// SocketHandlers are the functions that a socket calls. Any of them may be nil. One struct may serve many sockets; it
// must not be changed once it is in use.
//
// Handlers run on the server's [Executor] or, if it has none, on a goroutine of the [Poller]. A handler may take
// long: after about 10 ms another goroutine serves the poller's other sockets. The handlers of one socket run one at
// a time, never with a lock held, and never inside a method that the program called. A handler may call any method.
// After the program's own Close or Abort only Disconnected is called; if Close is called on another goroutine than
// the handlers', one handler may be running. If a handler panics on a goroutine of this package, its socket ends with
// a *[PanicError] and the peer gets a reset; under an Executor a panic is the application's own.
type SocketHandlers struct {
	// ReadyRead is called when new bytes or the end of the stream can be read. If it takes something and leaves
	// something, it is called again, so that taking one line per call is enough; what it leaves untouched is
	// announced again when more arrives. It is not called while the read buffer is full or reading is paused. Within
	// one call of a handler, the methods that do not wait take at most the read buffer size from the system, and as
	// much again after each WaitForReadyRead in a handler; the rest leads to another call, after other sockets have
	// been served.
	//
	// Unlike Qt, bytes that a handler leaves unread after it has taken some do not wait for the peer to send again.
	ReadyRead func(socket *TcpSocket)

	// BytesWritten is called when the system has taken n of the bytes that Send had queued. Bytes that the system
	// took from Send at once are not counted.
	BytesWritten func(socket *TcpSocket, n int)

	// ReadClosed is called when the peer has finished sending and everything it sent has been read. It may still call
	// Send. When it returns, the socket closes as soon as its queue is sent, unless half-open is allowed: see
	// [TcpSocket.SetAllowHalfOpen].
	ReadClosed func(socket *TcpSocket)

	// Disconnected is called last, once: the connection has ended and the descriptor is released. err is nil after an
	// orderly end, and otherwise what [TcpSocket.Err] returns. Unless the program has closed the socket, bytes that
	// have not been read are still available to Read, Peek and ReadAll.
	Disconnected func(socket *TcpSocket, err error)
}

// SetHandlers sets the handlers that the socket calls from now on. If h is nil, it removes them. Anything that can
// already be read, and an end that has already happened, are announced at once, so that handlers that are set late
// miss nothing. An end of the stream that was announced before is announced again to other handlers, and to the same
// ones if they were removed meanwhile, unless the socket is closing. Handlers that are set after Disconnected was
// called are never called. If the connection has ended without handlers, [TcpServer.Shutdown] and [Wait] wait for those
// that are set now, but the server's ClosedHandler may have been called before. If a handler sets the handlers that are
// already set, nothing changes.
func (s *TcpSocket) SetHandlers(h *SocketHandlers) {
	if h == nil {
		s.removeHandlers()
		return
	}
	s.rmu.Lock()
	if s.ready.has(endTold) {
		s.rmu.Unlock()
		return
	}
	same := s.handlers.Swap(h) == h
	if s.in != nil && !(same && s.rflags&rInHandler != 0) {
		s.rflags |= rNew // under the same lock, so that the strand sees both or none
	}
	if s.input == inputTold && !same && s.ready.has(leftOpen) {
		s.input = inputAnnounced
	}
	var due readiness
	if s.in != nil || s.input != inputOpen && s.rflags&rClosed == 0 || s.ready.has(readable|failed) {
		due |= strandRead
	}
	if s.hasWritten(h) {
		due |= strandWritten
	}
	schedule := s.markLate(due)
	s.rmu.Unlock()
	if schedule {
		s.schedule()
	}
}

// markLate is mark for what is due although nothing has happened: handlers were set, or may be called again. If the
// connection has ended, that is due, too, not earlier than finishEnd has released the descriptor, and Shutdown waits
// for the handlers. The caller holds rmu.
func (s *TcpSocket) markLate(due readiness) (idle bool) {
	if s.ready.has(endFinished) {
		due |= strandEnd
		if s.rflags&rUncounted != 0 {
			s.rflags &^= rUncounted
			s.config.listener.server.memberAgain(s.config.listener)
		}
	}
	return due != 0 && s.mark(due)
}

func (s *TcpSocket) removeHandlers() {
	s.rmu.Lock()
	s.handlers.Store(nil)
	s.rmu.Unlock()
	s.endIfBothClosed() // ReadClosed does not have to come first any more
}

// PauseReading stops reading for handlers: ReadyRead and ReadClosed are not called, and nothing is taken from the
// system for them, so that the peer is held back once the system's buffers are full. A handler that is running
// continues. Read, TryRead and the other methods still read.
func (s *TcpSocket) PauseReading() {
	s.rmu.Lock()
	if s.rflags&(rPaused|rInHandler) == rInHandler && inHandler() {
		s.cold().pausedBy = goroutineID()
	}
	s.rflags |= rPaused
	s.rmu.Unlock()
}

// ResumeReading ends a pause. What can be read is announced, unless the pause began and ends within one call of a
// handler: then it has no effect, and what the handler leaves untouched is announced when more arrives.
func (s *TcpSocket) ResumeReading() {
	s.rmu.Lock()
	paused := s.rflags&rPaused != 0
	s.rflags &^= rPaused
	if paused && s.in != nil && !s.pausedHere() {
		s.rflags |= rNew
	}
	schedule := paused && s.handlers.Load() != nil && !s.ready.has(endTold) && s.markLate(strandRead)
	s.rmu.Unlock()
	if schedule {
		s.schedule()
	}
}

// pausedHere reports whether the handler that is running has paused reading and runs on the calling goroutine. The
// caller holds rmu.
func (s *TcpSocket) pausedHere() bool {
	if s.rflags&rInHandler == 0 {
		return false
	}
	by := s.cold().pausedBy
	return by != 0 && by == goroutineID()
}

// onReady handles what the selector has reported. It sends from the queue, wakes calls that wait to read, and runs
// the handlers or passes them to the dispatcher.
func (s *TcpSocket) onReady(sc *scratch, ev events) {
	var now readiness
	if ev&evRead != 0 {
		now |= readable
	}
	if ev&(evHangup|evAfterEnd) != 0 {
		now |= peerClosed
	}
	if ev&evError != 0 {
		now |= failed
	}
	if ev&evUrgent != 0 {
		now |= shortReads
	}
	was, due := s.markReady(now)
	if ev&evWrite != 0 && was&wantWrite != 0 {
		s.onWritable()
	}
	if ev&evError != 0 && was&inQueue != 0 {
		s.config.listener.server.dropReset(s)
	}
	if now != 0 {
		s.wakeReaders()
	}
	if !due || was&strandRunning != 0 {
		return
	}
	if s.config.dispatch != nil {
		s.config.dispatch.post(s)
	} else {
		s.runHandlers(sc)
	}
}

// onPost does what the socket has asked of its loop: to send from the queue, to run handlers, or both.
func (s *TcpSocket) onPost(sc *scratch) {
	due := s.ready.clear(handlersDue | flushDue)
	if due&flushDue != 0 {
		s.onWritable()
	}
	if due&handlersDue != 0 {
		s.runHandlers(sc)
	}
}

// markReady adds now to what is known of the descriptor and returns the bits as they were. If there are handlers, and
// the strand has not come to the end, it also marks the strand as due and running, and due is true; unless the strand
// was running before, the caller must then run it.
func (s *TcpSocket) markReady(now readiness) (was readiness, due bool) {
	if now == 0 {
		return s.ready.load(), false
	}
	if s.handlers.Load() != nil {
		return s.ready.setDue(now, strandRead)
	}
	was = s.ready.set(now)
	// SetHandlers stores the handlers before it looks at the bits: one of the two sees what the other has changed.
	if s.handlers.Load() != nil {
		return s.ready.setDue(0, strandRead)
	}
	return was, false
}

// enter begins the call of a handler. The caller holds rmu.
func (s *TcpSocket) enter() {
	s.rflags = s.rflags&^(rConsumed|rRefilled) | rInHandler
}

// exit ends the call of a handler. The caller holds rmu.
func (s *TcpSocket) exit() {
	s.rflags &^= rInHandler
	if x := s.coldState.Load(); x != nil {
		x.pausedBy = 0
	}
}

// callReadClosed calls ReadClosed if that is due, and then closes the socket unless half-open is allowed.
func (s *TcpSocket) callReadClosed() {
	s.rmu.Lock()
	h := s.handlers.Load()
	due := h != nil && s.input == inputAnnounced && s.rflags&(rClosed|rPaused) == 0 && s.in == nil
	if due {
		s.input = inputTold
	}
	s.rmu.Unlock()
	if !due {
		return
	}
	s.callHandler(h, handleReadClosed, 0)
	if s.leaveOpen(h) {
		s.endIfBothClosed()
	} else {
		s.close(false)
	}
}

// leaveOpen decides whether the socket stays open when ReadClosed of h has returned. The first decision counts. If the
// socket stays open, other handlers that were set meanwhile are told of the end of the stream, too.
func (s *TcpSocket) leaveOpen(h *SocketHandlers) bool {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	if !s.ready.has(halfOpen | leftOpen) {
		s.input = inputFinished
		return false
	}
	s.ready.set(leftOpen)
	if other := s.handlers.Load(); s.input == inputTold && other != nil && other != h {
		s.input = inputAnnounced
		s.ready.set(strandRead)
	}
	return true
}

// callBytesWritten calls BytesWritten with the number of queued bytes that were sent since its last call.
func (s *TcpSocket) callBytesWritten() {
	h := s.handlers.Load()
	if h == nil || h.BytesWritten == nil {
		return // written is kept for handlers that are set later
	}
	s.wmu.Lock()
	n := int(s.written)
	s.written = 0
	closed := s.wflags&wClosed != 0
	s.wmu.Unlock()
	if n > 0 && !closed {
		s.callHandler(h, handleBytesWritten, n)
	}
}

// hasWritten reports whether BytesWritten of h is due.
func (s *TcpSocket) hasWritten(h *SocketHandlers) bool {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return h.BytesWritten != nil && s.written > 0 && s.wflags&wClosed == 0
}

// callHandler calls a handler other than ReadyRead and Disconnected.
func (s *TcpSocket) callHandler(h *SocketHandlers, kind handlerKind, n int) {
	s.rmu.Lock()
	s.enter()
	s.rmu.Unlock()
	s.call(h, kind, n, nil)
	s.rmu.Lock()
	s.exit()
	resume := s.mustResume()
	s.rmu.Unlock()
	if resume {
		s.ready.set(strandRead)
	}
}

// takeEnd takes the end off the strand and returns the handlers whose Disconnected is to be called, or nil. If
// something is to be announced before, it marks that as due and returns false: whoever has read ahead, has sent, or has
// set the handlers beside the strand marks it only afterwards.
func (s *TcpSocket) takeEnd() (h *SocketHandlers, ok bool) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	var due readiness
	if h = s.handlers.Load(); h != nil {
		if s.in != nil && s.rflags&(rNew|rClosed|rPaused) == rNew {
			due |= strandRead
		}
		if s.hasWritten(h) {
			due |= strandWritten
		}
	}
	if due != 0 {
		s.ready.set(due)
		return nil, false
	}
	s.ready.clear(strandEnd)
	s.ready.set(endHandled)
	if h != nil && h.Disconnected != nil {
		s.ready.set(endTold)
	}
	return h, true
}

// callDisconnected calls Disconnected. No handler is called after it.
func (s *TcpSocket) callDisconnected(h *SocketHandlers) {
	told := h != nil && h.Disconnected != nil
	defer s.handlersDone(told) // also if the handler calls runtime.Goexit
	if told {
		s.call(h, handleDisconnected, 0, s.Err())
	}
}

// A handlerKind says which handler to call.
type handlerKind uint8

const (
	handleReadyRead handlerKind = iota
	handleBytesWritten
	handleReadClosed
	handleDisconnected
)

// call calls a handler. If the handler panics or calls runtime.Goexit, the socket ends. A panic is recovered, except
// on an executor's thread, which is the application's. Where this goroutine's run of the strand is lost, another is
// scheduled. inHandler looks for this function's name.
func (s *TcpSocket) call(h *SocketHandlers, kind handlerKind, n int, err error) {
	finished := false
	defer func() {
		if finished {
			return
		}
		var v any
		if s.config.dispatch == nil {
			v = recover()
		}
		s.handlerFailed(v)
		if v == nil {
			s.schedule()
		}
	}()
	switch {
	case kind == handleReadyRead && h.ReadyRead != nil:
		h.ReadyRead(s)
	case kind == handleBytesWritten:
		h.BytesWritten(s, n)
	case kind == handleReadClosed && h.ReadClosed != nil:
		h.ReadClosed(s)
	case kind == handleDisconnected:
		h.Disconnected(s, err)
	}
	finished = true
}

// handlerFailed ends the socket after a handler has panicked with value, and logs it. value is nil if the handler has
// called runtime.Goexit, or if the panic is not recovered.
func (s *TcpSocket) handlerFailed(value any) {
	cause := &PanicError{Value: value, Stack: debug.Stack()}
	s.rmu.Lock()
	s.exit()
	s.rmu.Unlock()
	s.abort(cause)
	s.config.logError("handler failed", "remote", s.RemoteAddr(), "error", cause, "stack", string(cause.Stack))
}
