package tcpserver

import (
	"runtime/debug"
)

// SocketHandlers are the functions that a socket calls. Any may be nil. One struct may serve many sockets, and is not
// changed once it is in use.
//
// They run on the server's Executor or, where it has none, on a goroutine of the poller, which goes on without a
// handler that takes longer than about 10 ms. No two run at a time for one socket, none runs with a lock held or
// inside a method that the program called, and any method may be called in them. After the program's own Close or
// Abort only Disconnected is still called; called elsewhere than on the handlers' own goroutine, Close may find one
// running. A handler that panics on a goroutine of this package ends its own socket, with a *PanicError and a
// reset; under an Executor a panic is the application's own.
type SocketHandlers struct {
	// ReadyRead: something new, or the end of the stream, can be read. It is called again when it took something
	// and left something, so that one line a call is enough; what it leaves untouched is announced again when
	// more has come. It is not called while the read buffer is full or reading is paused. Within one call of a
	// handler the methods that do not wait take at most the read buffer size from the system; what is left leads
	// to another call, after other sockets had theirs.
	//
	// Unlike Qt, what a handler leaves unread does not wait for the peer to send again.
	ReadyRead func(socket *TcpSocket)

	// BytesWritten: n of the bytes that Send had queued were taken by the system. What Send could pass on at once
	// is not counted.
	BytesWritten func(socket *TcpSocket, n int)

	// ReadClosed: the peer has finished sending, and all it sent has been read. One may still Send here. When it
	// returns, the socket closes as soon as its queue is sent, unless it may be half open (SetAllowHalfOpen).
	ReadClosed func(socket *TcpSocket)

	// Disconnected is the last call, once: the connection has ended and the descriptor is given back. err is nil
	// for an orderly end and otherwise what Err returns. What has not been read by then stays for Read, Peek and
	// ReadAll.
	Disconnected func(socket *TcpSocket, err error)
}

// SetHandlers has h called from now on; nil removes the handlers. What can be read already is announced at once, an end
// that has come before too, so that nothing is lost with handlers that are set late. Once Disconnected has been called,
// handlers that are set are never called. A handler that sets the handlers that are set already changes nothing.
func (s *TcpSocket) SetHandlers(h *SocketHandlers) {
	same := s.handlers.Swap(h) == h
	if h == nil {
		return
	}
	var due readiness
	s.wmu.Lock()
	if s.written > 0 && h.BytesWritten != nil {
		due |= strandWritten
	}
	s.wmu.Unlock()
	s.rmu.Lock()
	if s.in != nil && !(same && s.rflags&rInHandler != 0) {
		s.rflags |= rNew
	}
	if s.in != nil || s.input != inputOpen && s.rflags&rClosed == 0 || s.ready.has(readable|failed) {
		due |= strandRead
	}
	s.rmu.Unlock()
	if s.State() == StateUnconnected {
		due |= strandEnd
	}
	if due != 0 {
		s.notify(due)
	}
}

// PauseReading stops the reading for handlers: ReadyRead and ReadClosed are not called, and nothing is taken from
// the system on their behalf, so that the peer is held back once the system's buffers are full. A handler that is
// running goes on. Read, TryRead and the other methods still read.
func (s *TcpSocket) PauseReading() {
	s.rmu.Lock()
	if s.rflags&(rPaused|rInHandler) == rInHandler && inHandler() {
		s.cold().pausedBy = goroutineID()
	}
	s.rflags |= rPaused
	s.rmu.Unlock()
}

// ResumeReading ends a pause. What can be read is announced, unless the pause began and ends within one call of a
// handler: that has changed nothing, and what the handler leaves untouched waits for more to come.
func (s *TcpSocket) ResumeReading() {
	s.rmu.Lock()
	paused := s.rflags&rPaused != 0
	s.rflags &^= rPaused
	if paused && s.in != nil && !s.pausedHere() {
		s.rflags |= rNew
	}
	s.rmu.Unlock()
	if paused && s.handlers.Load() != nil {
		s.notify(strandRead)
	}
}

// pausedHere reports whether the handler that is running has paused reading, and is what calls now. rmu is held.
func (s *TcpSocket) pausedHere() bool {
	if s.rflags&rInHandler == 0 {
		return false
	}
	by := s.cold().pausedBy
	return by != 0 && by == goroutineID()
}

// onReady is the socket's turn on its loop.
func (s *TcpSocket) onReady(sc *scratch, ev events) {
	var now readiness
	if ev&evRead != 0 {
		now |= readable
	}
	if ev&evHangup != 0 {
		now |= peerClosed
	}
	if ev&evError != 0 {
		now |= failed
	}
	was, told := s.markReady(now)
	if ev&evWrite != 0 && was&wantWrite != 0 {
		s.onWritable()
	}
	if ev&evError != 0 && was&inQueue != 0 {
		s.config.listener.server.dropReset(s)
	}
	if now != 0 {
		s.wakeReaders()
	}
	if !told || was&strandRunning != 0 {
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

// markReady adds to what is known of the descriptor and, if there are handlers, to what they are to be told; told is true
// then. It returns what the bits were.
func (s *TcpSocket) markReady(now readiness) (was readiness, told bool) {
	if now == 0 {
		return s.ready.load(), false
	}
	if s.handlers.Load() != nil {
		return s.ready.set(now | strandRead | strandRunning), true
	}
	was = s.ready.set(now)
	// SetHandlers stores them before it looks at the bits: one of the two sees the other.
	if s.handlers.Load() != nil {
		return s.ready.set(strandRead | strandRunning), true
	}
	return was, false
}

// enter begins a handler. rmu is held.
func (s *TcpSocket) enter() {
	s.rflags = s.rflags&^(rConsumed|rRefilled) | rInHandler
}

// exit ends a handler. rmu is held.
func (s *TcpSocket) exit() {
	s.rflags &^= rInHandler
	if x := s.coldState.Load(); x != nil {
		x.pausedBy = 0
	}
}

// readClosed calls ReadClosed when it is due, and closes the socket after it unless it may be half open.
func (s *TcpSocket) callReadClosed(h *SocketHandlers) {
	s.rmu.Lock()
	due := s.input != inputOpen && s.input != inputFinished && s.rflags&(rClosed|rPaused) == 0 && s.in == nil
	if due {
		s.input = inputFinished
	}
	s.rmu.Unlock()
	if !due {
		return
	}
	s.callHandler(h, handleReadClosed, 0)
	if s.ready.has(halfOpen) {
		s.endIfBothClosed()
	} else {
		s.close(false)
	}
}

func (s *TcpSocket) callBytesWritten() {
	h := s.handlers.Load()
	if h == nil || h.BytesWritten == nil {
		return // handlers that are set later are told
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

// callInTurn runs a handler other than ReadyRead and Disconnected.
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

func (s *TcpSocket) callDisconnected() {
	defer s.handlersDone() // also when the handler ends its goroutine
	h := s.handlers.Load()
	if h == nil || h.Disconnected == nil {
		return
	}
	s.ready.set(endTold)
	s.call(h, handleDisconnected, 0, s.Err())
}

// A callKind says which handler to call.
type handlerKind uint8

const (
	handleReadyRead handlerKind = iota
	handleBytesWritten
	handleReadClosed
	handleDisconnected
)

// call runs a handler. A panic ends the socket and goes no further, unless an executor's thread is the
// application's own. runtime.Goexit ends the socket too; the lane's run goes on in another turn.
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

func (s *TcpSocket) handlerFailed(value any) {
	cause := &PanicError{Value: value, Stack: debug.Stack()}
	s.rmu.Lock()
	s.exit()
	s.rmu.Unlock()
	s.abort(cause)
	s.config.logError("handler failed", "remote", s.RemoteAddr(), "error", cause, "stack", string(cause.Stack))
}
