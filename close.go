package tcpserver

import (
	"net"
	"os"
	"slices"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// Every end is in this file. Who calls whom, for a socket:
//
//	Close                             Abort, a panic,          Read meets a reset or an error, the idle timeout,
//	  │                               Poller.Close             CloseTimeout, a Write cut off before queued bytes,
//	  │         ReadClosed returned     │                      both directions have ended (endIfBothClosed)
//	  └──► close ◄──┘                   ▼                        │
//	         │ StateClosing             abort                    │
//	         │ until the queue is sent  │                        │
//	         └──────────────► end ◄─────┴────────────────────────┘
//	                           │ drops the socket's own reference; wakes everybody who waits; schedules Disconnected
//	                           ├──► decref ──the last reference──► destroy: closes the descriptor
//	                           └──► callDisconnected ──► handlersDone: the server and the poller count one less,
//	                                                     until markLate, which leads to callDisconnected again
//
// And for a server:
//
//	Close, Shutdown, CloseAsync ──► beginClose, finishClose ──bound──► releaseBound: closes the descriptor
//	                                                │
//	an accept failed ────────────────┐              │ listening
//	Poller.Close (onPollerClose) ────┴► stopListening ◄┘
//	                                         │ closes the descriptor and the pending sockets
//	handlersDone ──► memberDone ──► checkPeriod ◄┘
//	                                         │ the period has ended, and its last socket too
//	                                         └──► callClosed: ClosedHandler ──► forgetPeriod: Wait and Shutdown return

// Close closes the connection gracefully and returns at once. What [TcpSocket.Send] has queued is still sent, for at
// most the server's CloseTimeout; then the peer gets an end of stream. Unread bytes are dropped, and calls that wait
// return ErrSocketClosed. If a Write is waiting, or if a deadline has cut off the last one, the stream is incomplete:
// Close sends nothing more, and the peer gets a reset. The only handler that is still called is Disconnected, after
// everything is sent. A second Close returns ErrSocketClosed.
//
// Unlike Qt, bytes that were received but not read do not turn the end of stream into a reset.
func (s *TcpSocket) Close() error {
	s.wmu.Lock()
	if s.wflags&wClosed != 0 {
		s.wmu.Unlock()
		return s.opError(opClose, ErrSocketClosed)
	}
	s.wflags |= wClosed
	s.wmu.Unlock()
	s.dropInput()
	s.close(true)
	return nil
}

// close ends the connection when the send queue is sent, including what waits in Write. If byProgram is true, it cuts
// off a Write that waits, and the connection ends at once. If it is false, an error of sending that nobody has noticed
// is why the connection ends.
func (s *TcpSocket) close(byProgram bool) {
	s.wmu.Lock()
	begun := false
	switch {
	case byProgram && (s.out.empty() || s.out.hasWriter()):
		begun = s.beginEnd(nil)
	case s.out.empty():
		begun = s.beginEnd(s.writeError())
	case s.state == StateConnected:
		s.setState(StateClosing) // from now on nothing is queued
		s.startCloseTimer()
	}
	s.wmu.Unlock()
	s.wakeWriters()
	if begun {
		s.finishEnd()
	}
}

// Abort ends the connection at once: it drops what [TcpSocket.Send] has queued, and the peer gets a reset. It may
// follow a Close. It returns nil.
//
// Unlike Qt, the peer does get a reset: QAbstractSocket::abort sends an end of stream like any close.
func (s *TcpSocket) Abort() error {
	s.abort(nil)
	return nil
}

func (s *TcpSocket) abort(cause error) {
	s.wmu.Lock()
	s.wflags |= wClosed
	if s.state != StateUnconnected { // an end that is over stays what it was
		s.wflags |= wAbort
	}
	s.wmu.Unlock()
	s.dropInput()
	s.end(cause)
}

func (s *TcpSocket) onPollerClose() { s.abort(nil) }

// dropInput makes reading fail from now on. It leaves the chunk to the garbage collector, because somebody may still
// hold a slice that Peek returned.
func (s *TcpSocket) dropInput() {
	s.rmu.Lock()
	s.rflags |= rClosed
	s.in = nil
	s.rmu.Unlock()
	s.wakeReaders()
}

// startCloseTimer limits how long the socket keeps sending after Close. wmu is held.
func (s *TcpSocket) startCloseTimer() {
	if d := s.config.closeTimeout; d > 0 {
		s.cold().closeTimer = sched.AfterFunc(d, func() { s.end(os.ErrDeadlineExceeded) })
	}
}

// end is the only way to StateUnconnected. If the end is orderly, cause is nil. Only the first call has an effect. The
// order of its steps matters:
//
//  1. State: it moves under wmu, so that a second call returns. From now on nothing is sent. The first cause is kept.
//     Whoever finds a reason under that lock moves it at once, so that nothing comes between.
//  2. Output: if bytes that were accepted for sending are lost, here or by an error such as ENOBUFS, which leaves the
//     connection as it is, the peer must get a reset, so that it does not take a part for the whole. The queue is
//     dropped.
//  3. Timers: none may fire for a socket that has ended.
//  4. Input: it finishes under rmu. From now on nothing is received; what was received before stays readable. The
//     local address is kept, because the system knows it only while the descriptor is open.
//  5. Poller: a loop calls Disconnected after the descriptor no longer keeps the poller.
//  6. References: no more are given out. Steps 1 and 4 have ended the system calls that are made without one.
//  7. Server: it counts one connection less and takes a pending one from the queue. It has a lock of its own, so no
//     lock of the socket is held.
//  8. Descriptor: the socket drops its own reference. The last one closes the descriptor, here or where a system call
//     is still running.
//  9. Waiters and handlers: everybody who waits is woken, and Disconnected is scheduled, which comes last.
func (s *TcpSocket) end(cause error) {
	s.wmu.Lock()
	begun := s.beginEnd(cause)
	s.wmu.Unlock()
	if begun {
		s.finishEnd()
	}
}

// beginEnd takes steps 1 to 3 of end, and reports whether this call is the first: then finishEnd must follow. wmu is
// held.
func (s *TcpSocket) beginEnd(cause error) bool {
	if s.state == StateUnconnected {
		return false
	}
	s.setState(StateUnconnected) // 1
	if cause != nil {
		s.cold().err = cause
	}
	if !s.out.empty() || s.wflags&wTruncated != 0 || s.writeError() != nil {
		s.wflags |= wAbort // 2
	}
	s.out.clear()
	s.queued = 0
	if x := s.coldState.Load(); x != nil { // 3
		x.writeBy.set(time.Time{})
		if x.closeTimer != nil {
			x.closeTimer.Stop()
		}
	}
	return true
}

// finishEnd takes the other steps of end. The caller holds no lock.
func (s *TcpSocket) finishEnd() {
	s.rmu.Lock()
	s.input = inputFinished // 4
	if x := s.coldState.Load(); x != nil {
		x.readBy.set(time.Time{})
	}
	if s.config.addr.IsWildcard() {
		s.keepLocalAddr()
	}
	s.rmu.Unlock()

	if s.config.dispatch == nil {
		s.loop.poller.retain() // 5
	}
	s.refs.Or(refsClosing)                      // 6
	s.config.listener.server.connectionEnded(s) // 7
	s.decref()                                  // 8
	s.wakeWriters()                             // 9
	s.announceEnd()
}

// announceEnd wakes the calls that wait to read and schedules Disconnected. Handlers that are set from now on are
// SetHandlers' affair.
func (s *TcpSocket) announceEnd() {
	s.rmu.Lock()
	s.ready.set(endFinished)
	if x := s.coldState.Load(); x != nil {
		x.readers.Broadcast()
	}
	heard := s.handlers.Load() != nil || s.ready.has(strandRunning) // a handler may have removed the handlers
	schedule := heard && s.mark(strandEnd)
	s.rmu.Unlock()
	if schedule {
		s.schedule()
	}
	if !heard {
		s.handlersDone(false)
	}
}

// handlersDone tells the server and the poller that no handler of the socket will be called any more. If Disconnected
// was not called, told is false: if handlers were set meanwhile, handlersDone is called again after them.
func (s *TcpSocket) handlersDone(told bool) {
	s.rmu.Lock()
	var counted, keeps bool
	if told || !s.ready.has(strandEnd|endTold) {
		counted, keeps = s.rflags&rUncounted == 0, s.rflags&rReleased == 0
		s.rflags |= rUncounted | rReleased
	}
	s.rmu.Unlock()
	if counted {
		s.config.listener.server.memberDone(s.config.listener)
	}
	if keeps && s.config.dispatch == nil {
		s.loop.poller.release()
	}
}

// destroy closes the descriptor and frees the slot. decref calls it for the last reference.
func (s *TcpSocket) destroy() {
	s.wmu.Lock()
	flags := s.wflags
	s.wmu.Unlock()
	known := s.ready.load() & (readable | peerClosed | failed)
	switch {
	case flags&wAbort != 0:
		sys.SetLinger(s.fd, 0)
	case known != peerClosed && known&failed == 0 && flags&wResetOnClose == 0:
		s.drainAndShutdown() // there may be unread input
	}
	s.loop.remove(s.key)
	if flags&(wLinger|wAbort) == wLinger {
		closeLingering(s.fd)
	} else {
		sys.Close(s.fd)
	}
	s.config.listener.server.descriptorFreed()
	s.loop.poller.release()
}

// maxLingering limits how many descriptors are closed at a time by a call that may block: each occupies a thread.
const maxLingering = 16

var lingering = make(chan struct{}, maxLingering)

// closeLingering closes a descriptor whose closing may block. If too many block already, the system sends the rest in
// the background, as it does without SetLinger.
func closeLingering(fd sys.FD) {
	select {
	case lingering <- struct{}{}:
		sched.Go(func() {
			sys.CloseBlocking(fd)
			<-lingering
		})
	default:
		sys.SetLinger(fd, -1)
		sys.Close(fd)
	}
}

// drainAndShutdown discards the input that is there and sends the end of the stream, before the descriptor is closed.
// If there were unread input, closing would make the system send a reset and drop what it has not sent yet.
func (s *TcpSocket) drainAndShutdown() {
	c := newChunk(maxSend)
	defer c.free()
	for n, rounds := 1, 0; n > 0 && rounds < 2; rounds++ { // Unread does not see what is behind an urgent byte
		n, _ = sys.Recv(s.fd, c.data)
		for left := sys.Unread(s.fd); n > 0 && left > 0; left -= n {
			n, _ = sys.Recv(s.fd, c.data)
		}
	}
	sys.CloseWrite(s.fd)
}

// endIfBothClosed ends the connection if both directions have ended: nothing can be received or sent any more. On a
// socket with handlers, ReadClosed comes first; afterwards this is called again.
func (s *TcpSocket) endIfBothClosed() {
	s.rmu.Lock()
	read := s.input >= inputTold || s.input != inputOpen && s.handlers.Load() == nil
	err := s.inputErr()
	s.rmu.Unlock()
	s.wmu.Lock()
	write := s.wflags&wShutSent != 0
	s.wmu.Unlock()
	if read && write {
		s.end(err)
	}
}

// Close stops listening, or releases the address that [TcpServer.Bind] has reserved. It closes the pending connections,
// whose peers get an end of stream; the system resets those that are still in its backlog. A connection that is just
// being accepted may be closed, and counted, for a moment longer. Sockets that the program has taken stay open. Calls
// that wait for a connection return ErrServerClosed. The only handler that is still called is ClosedHandler; if Close
// is not called on the handlers' goroutine, another handler may still be running when it returns. The address can be
// listened on again at once, by this server too; on Windows perhaps only after the connections that were accepted there
// have ended. On a server that is neither bound nor listening, Close does nothing. It returns nil.
func (s *TcpServer) Close() error {
	s.mu.Lock()
	ln := s.beginClose()
	s.mu.Unlock()
	s.finishClose(ln)
	return nil
}

// beginClose returns the listener to close, or nil, so that a Listen that follows is not affected. The caller calls
// finishClose next. mu is held.
func (s *TcpServer) beginClose() *listener {
	s.strand.failure = acceptFailure{}
	if s.life != nil {
		s.endLife()
		s.life = nil
	}
	return s.address()
}

// finishClose closes ln, unless somebody else has done so. If ln is nil, it does nothing.
func (s *TcpServer) finishClose(ln *listener) {
	if ln == nil {
		return
	}
	s.removeFile(ln)
	if !s.releaseBound(ln) {
		s.stopListening(ln, nil, nil)
	}
}

// releaseBound releases the address that ln is bound to, unless it listens there or has released it already. The caller
// has removed the file of a unix socket.
func (s *TcpServer) releaseBound(ln *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound != ln {
		return false
	}
	s.bound = nil
	ln.close()
	s.periodEnded(ln)
	return true
}

func (ln *listener) onPollerClose() { ln.server.stopListening(ln, net.ErrClosed, nil) }

// stopListening ends the period of ln, unless it has ended; it then returns false. ClosedHandler gets cause, and
// AcceptErrorHandler gets failure. If failure is nil, AcceptErrorHandler is not called, not even for an earlier
// failure. The path of a unix socket is free before IsListening reports false.
func (s *TcpServer) stopListening(ln *listener, cause, failure error) bool {
	s.removeFile(ln)
	s.mu.Lock()
	if failure == nil {
		s.dropFailure(ln)
	}
	if s.cur != ln {
		s.mu.Unlock()
		return false
	}
	s.cur = nil
	s.closed = true
	s.retry.stop()
	s.strand.connections = 0
	s.strand.drops.Clear()
	s.strand.round.connections, s.strand.round.drops = 0, 0
	var left []*TcpSocket
	for s.pending.Len() > 0 {
		left = append(left, s.popPending())
	}
	ln.loop.deregister(ln.fd, ln.key)
	ln.close()
	ln.acceptBy.set(time.Time{})
	s.wakeWaiting()
	s.recount()
	if failure != nil {
		s.keepFailure(ln, failure)
	}
	s.mu.Unlock()

	for _, socket := range left {
		socket.Close()
	}
	ln.loop.remove(ln.key)
	ln.loop.poller.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.ended, ln.cause = true, cause
	s.checkPeriod(ln)
	return true
}

// checkPeriod schedules ClosedHandler and the callbacks of CloseAsync if ln has ended and its last socket too. mu is
// held.
func (s *TcpServer) checkPeriod(ln *listener) {
	switch {
	case !ln.ended || ln.members > 0:
	case ln.closing == closedWaiting && (ln.closedHandler != nil || s.strand.calling || s.strand.failure.ln == ln):
		ln.closing = closedDue
		s.strand.closed = append(s.strand.closed, func() { s.callClosed(ln) })
		s.wakeStrand()
	case ln.closing != closedDue:
		s.forgetPeriod(ln)
	}
}

// callClosed calls ClosedHandler, unless handlers were set meanwhile for a socket that had ended without: their
// Disconnected comes first. Shutdown and Wait return after ClosedHandler, and so after the handlers that were called
// before.
func (s *TcpServer) callClosed(ln *listener) {
	s.mu.Lock()
	if ln.members > 0 {
		ln.closing = closedWaiting
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		ln.closing = closedTold
		s.checkPeriod(ln)
	}()
	if ln.closedHandler != nil {
		ln.closedHandler(s, ln.cause)
	}
}

// forgetPeriod drops a period whose last handler has returned. mu is held.
func (s *TcpServer) forgetPeriod(ln *listener) {
	s.periods = slices.DeleteFunc(s.periods, func(c *listener) bool { return c == ln })
	s.wakeWaiting()
	s.recount()
	s.periodEnded(ln)
}

// connectionEnded is called by each socket when its connection ends.
func (s *TcpServer) connectionEnded(socket *TcpSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveCount(socket.config.listener)
	s.dropPending(socket)
}

// leaveCount counts one connection of ln less. mu is held.
func (s *TcpServer) leaveCount(ln *listener) {
	s.open--
	ln.open--
	if ln.open == 0 {
		s.wakeWaiting()
	}
	if s.open == 0 {
		s.recount()
	}
}

// memberDone is called by each socket after its last handler.
func (s *TcpServer) memberDone(ln *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.members--
	s.checkPeriod(ln)
}

// memberAgain is called when a socket of ln that is counted out will call handlers after all, because they were set, or
// reading was resumed, after its end. They are waited for, also after ClosedHandler. Another memberDone follows.
func (s *TcpServer) memberAgain(ln *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.members++
	if !slices.Contains(s.periods, ln) {
		s.periods = append(s.periods, ln)
		s.recount()
	}
}
