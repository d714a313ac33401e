package tcpserver

import (
	"net"
	"os"
	"slices"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Close ends the connection. It returns at once: what Send has queued is still sent, for at most the server's
// CloseTimeout, and the peer then gets an end of stream. What was not read is dropped, and calls that wait return
// ErrSocketClosed. If a Write waits, or the deadline of the last one has cut it off, the stream is incomplete: nothing
// more is sent, and the peer gets a reset. Of the handlers only Disconnected is still called, when all is sent. The
// second Close returns ErrSocketClosed.
//
// Unlike Qt, bytes that the peer has sent and nobody has read do not turn the end of stream into a reset.
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

// close ends the connection when the queue is sent, what waits in Write included. If drop is true, a Write that waits
// is cut off instead, and the connection ends at once.
func (s *TcpSocket) close(drop bool) {
	s.wmu.Lock()
	flushing := !s.out.empty() && !(drop && s.out.hasWriter())
	if flushing && s.state == StateConnected {
		s.setState(StateClosing)
		s.startCloseTimer()
	}
	s.wmu.Unlock()
	s.wakeWriters()
	if !flushing {
		s.end(nil)
	}
}

// Abort ends the connection at once: what Send has queued is dropped and the peer gets a reset. It may follow a
// Close. It returns nil.
//
// Unlike Qt, the reset is real: QAbstractSocket::abort sends an end of stream like any close.
func (s *TcpSocket) Abort() error {
	s.abort(nil)
	return nil
}

func (s *TcpSocket) abort(cause error) {
	s.wmu.Lock()
	s.wflags |= wClosed | wAbort
	s.wmu.Unlock()
	s.dropInput()
	s.end(cause)
}

// evict is the end of a socket whose poller is closed.
func (s *TcpSocket) onPollerClose() { s.abort(nil) }

// dropInput makes reading fail from now on. The chunk is left to the garbage collector: somebody may still look at
// what Peek returned.
func (s *TcpSocket) dropInput() {
	s.rmu.Lock()
	s.rflags |= rClosed
	s.in = nil
	s.rmu.Unlock()
	s.wakeReaders()
}

// startCloseTimer limits how long the socket goes on sending after Close. wmu is held.
func (s *TcpSocket) startCloseTimer() {
	if d := s.config.closeTimeout; d > 0 {
		s.cold().closeTimer = time.AfterFunc(d, func() { s.end(os.ErrDeadlineExceeded) })
	}
}

// end is the one way to StateUnconnected. cause is nil for an orderly end. A second call does nothing.
func (s *TcpSocket) end(cause error) {
	s.wmu.Lock()
	if s.state == StateUnconnected {
		s.wmu.Unlock()
		return
	}
	s.setState(StateUnconnected)
	if cause != nil {
		s.cold().err = cause
	}
	if !s.out.empty() || s.wflags&wTruncated != 0 {
		s.wflags |= wAbort // so that the peer does not take what it got for the whole
	}
	s.out.clear()
	s.queued = 0
	x := s.coldState.Load()
	if x != nil {
		x.writeBy.set(time.Time{})
		if x.closeTimer != nil {
			x.closeTimer.Stop()
		}
	}
	s.wmu.Unlock()

	s.rmu.Lock()
	s.input = inputFinished
	if x != nil {
		x.readBy.set(time.Time{})
	}
	if s.config.addr.IsWildcard() {
		s.keepLocalAddr()
	}
	s.rmu.Unlock()

	if s.config.dispatch == nil {
		s.loop.poller.retain() // until gone: the loop still calls Disconnected
	}
	s.refs.Or(refsClosing)
	s.config.listener.server.connectionEnded(s)
	s.decref()
	s.wakeWriters()
	s.wakeReaders()
	if s.handlers.Load() != nil {
		s.notify(strandEnd)
	} else {
		s.handlersDone()
	}
}

// gone tells the server and the poller, once, that no handler of the socket is to be called any more.
func (s *TcpSocket) handlersDone() {
	s.wmu.Lock()
	told := s.wflags&wHandlersDone != 0
	s.wflags |= wHandlersDone
	s.wmu.Unlock()
	if told {
		return
	}
	s.config.listener.server.memberDone(s.config.listener)
	if s.config.dispatch == nil {
		s.loop.poller.release()
	}
}

// destroy gives back the descriptor and the slot.
func (s *TcpSocket) destroy() {
	s.wmu.Lock()
	flags := s.wflags
	s.wmu.Unlock()
	known := s.ready.load() & (readable | peerClosed | failed)
	switch {
	case flags&wAbort != 0:
		sys.SetLinger(s.fd, 0)
	case known != peerClosed && known&failed == 0 && flags&wResetOnClose == 0:
		s.drainAndShutdown() // the end of the peer's stream has not been read
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

// maxLingering is how many descriptors are closed at a time by a call that may block, each of which holds a thread.
const maxLingering = 16

var lingering = make(chan struct{}, maxLingering)

// closeLingering closes a descriptor whose closing may block. If too many do, the system sends in the background what
// it has taken, as it does without SetLinger.
func closeLingering(fd sys.FD) {
	select {
	case lingering <- struct{}{}:
		go func() {
			sys.CloseBlocking(fd)
			<-lingering
		}()
	default:
		sys.SetLinger(fd, -1)
		sys.Close(fd)
	}
}

// hangUpGently sends the end of the stream before the descriptor is closed: closing one with unread input makes the
// system send a reset, and drop what it has not sent yet. What has come is thrown away, as far as it has come.
func (s *TcpSocket) drainAndShutdown() {
	c := newChunk(maxSend)
	defer c.free()
	for range 4 {
		if n, _ := sys.Recv(s.fd, c.data); n < len(c.data) {
			break
		}
	}
	sys.CloseWrite(s.fd)
}

// finishedBoth ends the connection when both directions have seen the end of their stream: nothing can come or go
// any more. With handlers ReadClosed comes first, which leads here again.
func (s *TcpSocket) endIfBothClosed() {
	s.rmu.Lock()
	read := s.input == inputFinished || s.input != inputOpen && s.handlers.Load() == nil
	s.rmu.Unlock()
	s.wmu.Lock()
	write := s.wflags&wShutSent != 0
	s.wmu.Unlock()
	if read && write {
		s.end(nil)
	}
}

// Close stops listening, or gives up the address that Bind has reserved, and ends the pending connections, whose peers
// get an end of stream; those that the system still holds are reset by it. Sockets that were taken live on. Calls that
// wait for a connection return ErrServerClosed. Of the handlers only ClosedHandler is still called; called elsewhere
// than on the handlers' own goroutine, Close may find one running. The same address can be listened on again at once,
// by this server too; on Windows perhaps not before the connections have ended that were accepted there. On a server
// that is neither bound nor listening Close does nothing. It returns nil.
func (s *TcpServer) Close() error {
	s.mu.Lock()
	ln := s.beginClose()
	s.mu.Unlock()
	s.finishClose(ln)
	return nil
}

// beginClose decides what is closed: the listener that it returns, if any, and nothing that comes after. finishClose
// follows. mu is held.
func (s *TcpServer) beginClose() *listener {
	s.strand.failure = acceptFailure{}
	if s.life != nil {
		s.endLife()
		s.life = nil
	}
	return s.address()
}

// finishClose closes ln, unless that has been done meanwhile. nil: there is nothing to close.
func (s *TcpServer) finishClose(ln *listener) {
	if ln == nil {
		return
	}
	s.removeFile(ln)
	if !s.releaseBound(ln) && s.stopListening(ln, nil) {
		s.endPeriod(ln, nil)
	}
}

// giveUp gives up the address that ln is bound to, unless it listens there, or has given it up already. The file is
// removed before.
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

// evict ends the listening of a server whose poller is closed.
func (ln *listener) onPollerClose() {
	if ln.server.stopListening(ln, nil) {
		ln.server.endPeriod(ln, net.ErrClosed)
	}
}

// stopListening ends the period of ln, unless it has ended. failure is what AcceptErrorHandler is to be told; nil:
// nothing, not even of what has failed before. endCycle follows. The path of a unix socket is free before the server
// says that it does not listen.
func (s *TcpServer) stopListening(ln *listener, failure error) bool {
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
	return true
}

// endCycle tells the end of ln's period when its last connection has ended too. cause is nil if the program itself has
// ended it.
func (s *TcpServer) endPeriod(ln *listener, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.ended, ln.cause = true, cause
	s.checkPeriod(ln)
}

// tellClosed has the handler and the callbacks called that wait for the end of ln's period, if it is over. mu is held.
func (s *TcpServer) checkPeriod(ln *listener) {
	if !ln.ended || ln.members > 0 || ln.told {
		return
	}
	ln.told = true
	if ln.closedHandler != nil || s.strand.calling || s.strand.failure.ln == ln {
		s.strand.closed = append(s.strand.closed, func() { s.callClosed(ln) })
		s.wakeStrand()
	} else {
		s.forgetPeriod(ln)
	}
	s.periodEnded(ln)
}

// endPeriod calls ClosedHandler. Whoever waits for the end of the period waits for what it returns from, and for the
// handlers that were called before.
func (s *TcpServer) callClosed(ln *listener) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forgetPeriod(ln)
	}()
	if ln.closedHandler != nil {
		ln.closedHandler(s, ln.cause)
	}
}

// dropCycle forgets a period of which no handler is to be called any more. mu is held.
func (s *TcpServer) forgetPeriod(ln *listener) {
	s.periods = slices.DeleteFunc(s.periods, func(c *listener) bool { return c == ln })
	s.wakeWaiting()
	s.recount()
}

// socketEnded is told by each socket when its connection ends.
func (s *TcpServer) connectionEnded(socket *TcpSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveCount(socket.config.listener)
	s.dropPending(socket)
}

// leaveCount counts a connection of ln less. mu is held.
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

// socketGone is told by each socket after its Disconnected, if it has one.
func (s *TcpServer) memberDone(ln *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.members--
	s.checkPeriod(ln)
}
