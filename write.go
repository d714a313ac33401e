package tcpserver

import (
	"math"
	"os"

	"github.com/pullaccept/tcpserver/internal/sys"
)

const (
	// maxSend is the most that one system call is given: a raw one keeps the goroutine's processor, and every stop
	// of the world, waiting for as long as the copy takes.
	maxSend = 256 << 10
	// flushBudget is the most that one turn of a loop sends for one socket.
	flushBudget = 1 << 20
)

// Write sends p and waits until the system has taken all of it, after whatever Send had queued. It returns how much
// was taken and, when that is less than len(p), a *net.OpError: with os.ErrDeadlineExceeded when the write deadline
// has passed, with ErrReset, or with ErrSocketClosed after Close. After CloseWrite it returns ErrSocketClosed, but one
// that waits goes on. A Write is not mixed with others.
//
// The stream must have no hole. After a Write that its deadline has cut off in the middle, only another Write goes on;
// Send and CloseWrite return os.ErrDeadlineExceeded until one has succeeded, and if the connection ends before, the
// peer gets a reset. If other bytes were queued behind, they are dropped and the connection ends so at once.
//
// In a handler that runs on the poller it may be called too: when it has to wait, the poller goes on without it.
func (s *TcpSocket) Write(p []byte) (int, error) {
	s.wmu.Lock()
	err := s.writable()
	if err == nil && s.writeTimedOut() {
		err = os.ErrDeadlineExceeded
	}
	if err != nil || len(p) == 0 {
		s.wmu.Unlock()
		return 0, s.opError(opWrite, err)
	}
	n, done, err := s.startWrite(p)
	if done {
		return n, err
	}
	return s.waitWrite(p, n)
}

// startWrite gives the system what it takes of p, unless bytes are queued that come first. If that is all, or if it
// fails, done is true and wmu is released. wmu is held; the caller has checked writable.
func (s *TcpSocket) startWrite(p []byte) (n int, done bool, err error) {
	var e sys.Errno
	if s.out.empty() {
		n, e = s.transmit(p)
	}
	switch {
	case n == len(p):
		s.wflags &^= wTruncated
		s.wmu.Unlock()
		return n, true, nil
	case e != 0 && e != sys.EAGAIN:
		err = s.failWrite(e)
		s.wmu.Unlock()
		s.onWriteError()
		return n, true, s.opError(opWrite, err)
	}
	return n, false, nil
}

// waitWrite queues p, of which n bytes are sent, as it is, and waits until the loop has sent the rest. wmu is held;
// it is released.
func (s *TcpSocket) waitWrite(p []byte, n int) (int, error) {
	c := &chunk{data: p, r: n, w: len(p), kind: chunkWriter}
	s.out.push(c)
	after := s.tryFlush()
	x := s.cold()
	for c.next != nil && !x.writeBy.expired {
		if after != (flushResult{}) {
			s.wmu.Unlock()
			s.finishFlush(after)
			after = flushResult{}
			s.wmu.Lock()
			continue
		}
		x.writers.Wait()
	}
	var err error
	var rest flushResult
	hole := false
	switch {
	case c.next != nil:
		err = os.ErrDeadlineExceeded
		if hole = s.cutWrite(c); !hole {
			rest = s.flush() // an end of stream may have waited behind
		}
	case c.r < c.w:
		err = s.writable()
	default:
		s.wflags &^= wTruncated
	}
	s.wmu.Unlock()
	s.finishFlush(after)
	s.finishFlush(rest)
	if hole {
		s.end(os.ErrDeadlineExceeded)
	}
	return c.r, s.opError(opWrite, err)
}

// cutWrite takes c, whose deadline has passed, out of the queue, unless what is behind it would leave a hole in the
// stream: then the connection is to end. wmu is held.
func (s *TcpSocket) cutWrite(c *chunk) (hole bool) {
	behind := s.out.last != c || s.wflags&wShut != 0 || s.state != StateConnected
	if c.r > 0 && behind {
		return true
	}
	s.out.remove(c)
	if c.r > 0 {
		s.wflags |= wTruncated
	}
	return false
}

// Send sends p, or what the system does not take at once, queues a copy of. It is all or nothing, it never waits,
// and p may be used again at once. What would bring the queue over its limit is refused with ErrWriteBufferFull,
// bare: a p longer than the limit always is. Otherwise it returns a *net.OpError with ErrReset, with an error of the
// system, with ErrSocketClosed after Close or CloseWrite, or with os.ErrDeadlineExceeded behind a Write that was cut
// off. Nothing is collected: a call costs as much as a few kilobytes do, so many small pieces are better sent together.
//
// Unlike Qt, the queue has a limit: TcpServer.WriteBufferSize or SetWriteBufferSize.
func (s *TcpSocket) Send(p []byte) error {
	s.wmu.Lock()
	err := s.writable()
	if err == nil && s.wflags&wTruncated != 0 {
		err = os.ErrDeadlineExceeded
	}
	switch {
	case err != nil || len(p) == 0:
		s.wmu.Unlock()
		return s.opError(opWrite, err)
	case len(p) > s.writeLimit()-int(s.queued):
		s.wmu.Unlock()
		return ErrWriteBufferFull
	}
	n, done, err := s.startWrite(p)
	if done {
		return err
	}
	waiting := !s.out.empty()
	s.out.appendCopy(p[n:])
	s.queued += uint32(len(p) - n)
	var after flushResult
	if !waiting {
		after = s.tryFlush()
	}
	s.wmu.Unlock()
	s.finishFlush(after)
	return nil
}

// writable returns why nothing may be written any more. wmu is held.
func (s *TcpSocket) writable() error {
	x := s.coldState.Load()
	switch {
	case s.wflags&(wClosed|wShut) != 0:
		return ErrSocketClosed
	case x != nil && x.writeErr != nil:
		return x.writeErr
	case x != nil && x.err != nil:
		return afterEnd(x.err)
	case s.state != StateConnected:
		return ErrSocketClosed
	}
	return nil
}

func (s *TcpSocket) writeTimedOut() bool {
	x := s.coldState.Load()
	return x != nil && x.writeBy.expired
}

// transmit gives p to the system until it takes no more, and returns how much it took. wmu is held and the state is
// not StateUnconnected.
func (s *TcpSocket) transmit(p []byte) (sent int, e sys.Errno) {
	for sent < len(p) {
		var n int
		n, e = sys.Send(s.fd, p[sent:min(len(p), sent+maxSend)])
		if e == sys.EINTR {
			continue
		}
		if e != 0 {
			break
		}
		sent += n
	}
	if sent > 0 {
		s.bytesSent += uint64(sent)
		s.touch()
	}
	return sent, e
}

// breakWrite is the end of writing: the system has refused with e. Reading still finds what has come. wmu is held;
// afterBreak follows.
func (s *TcpSocket) failWrite(e sys.Errno) error {
	err := error(os.NewSyscallError("send", e))
	if sys.IsReset(e) {
		err = ErrReset
	}
	s.cold().writeErr = err
	s.out.clear()
	s.queued = 0
	s.ready.set(readable | peerClosed | failed)
	return err
}

// afterBreak lets whoever reads find out that the connection is gone. Without handlers that is left to the program.
func (s *TcpSocket) onWriteError() {
	s.wakeWriters()
	s.wakeReaders()
	s.wmu.Lock()
	closing, err := s.state == StateClosing, s.cold().writeErr
	s.wmu.Unlock()
	if closing {
		s.end(err)
	} else if s.handlers.Load() != nil {
		s.notify(strandRead)
	}
}

// aftermath is what a flush leaves to be done with no lock held (afterFlush).
type flushResult struct {
	broke    bool // afterBreak
	announce bool // BytesWritten
	wake     bool // somebody waits for room, or for the queue to be sent
	again    bool // there is more to send than one turn may
	finished bool // the queue is sent and nothing is to follow
}

// tryFlush sends what was just queued because the system would not take it. The first attempt after wantWrite is
// set makes sure that an event is to come: the last one may have come before.
func (s *TcpSocket) tryFlush() flushResult {
	s.ready.set(wantWrite)
	return s.flush()
}

// flush sends from the queue what the system takes, within the budget of a turn. wmu is held.
func (s *TcpSocket) flush() (after flushResult) {
	if s.state == StateUnconnected {
		return after
	}
	if x := s.coldState.Load(); x != nil {
		x.flushes++
		after.wake = true
	}
	for total := 0; !s.out.empty(); {
		if total >= flushBudget {
			after.again = true
			return after
		}
		c := s.out.first()
		n, e := s.transmit(c.data[c.r:min(c.w, c.r+maxSend)])
		total += n
		c.r += n
		if c.kind != chunkWriter && n > 0 {
			s.queued -= uint32(n)
			s.written = uint32(min(uint64(s.written)+uint64(n), math.MaxInt32))
			after.announce = true
		}
		if c.r == c.w {
			s.out.shift().free()
		}
		if e == sys.EAGAIN {
			s.loop.rearm(s.key, evWrite)
			return after
		}
		if e != 0 {
			s.failWrite(e)
			after.broke = true
			return after
		}
	}
	s.ready.clear(wantWrite)
	if s.wflags&wShut != 0 && s.wflags&wShutSent == 0 {
		s.wflags |= wShutSent
		sys.CloseWrite(s.fd)
		after.finished = true
	}
	after.finished = after.finished || s.state == StateClosing
	return after
}

// afterFlush is called with no lock held.
func (s *TcpSocket) finishFlush(after flushResult) {
	if after.wake {
		s.wakeWriters()
	}
	if after.announce {
		if h := s.handlers.Load(); h != nil && h.BytesWritten != nil {
			s.notify(strandWritten)
		}
	}
	switch {
	case after.broke:
		s.onWriteError()
	case after.again:
		if s.ready.set(flushDue)&flushDue == 0 {
			s.loop.post(s)
		}
	case after.finished:
		if s.State() == StateClosing {
			s.end(nil)
		} else {
			s.endIfBothClosed()
		}
	}
}

// flushTurn is the loop's part: the system takes bytes again.
func (s *TcpSocket) onWritable() {
	s.wmu.Lock()
	after := s.flush()
	s.wmu.Unlock()
	s.finishFlush(after)
}

// BytesToWrite returns how many bytes of Send the system has not taken yet.
func (s *TcpSocket) BytesToWrite() int {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return int(s.queued)
}

// CloseWrite sends an end of stream to the peer, after what Send has queued and what waits in Write. Reading goes on.
// Write and Send return ErrSocketClosed from now on. When the peer has finished too, the connection ends. The error is
// ErrSocketClosed on a socket that is closed, or os.ErrDeadlineExceeded after a Write that was cut off.
//
// Unlike Qt, whose sockets cannot be closed in one direction.
func (s *TcpSocket) CloseWrite() error {
	s.wmu.Lock()
	var err error
	switch {
	case s.wflags&wClosed != 0 || s.state != StateConnected:
		err = ErrSocketClosed
	case s.wflags&wTruncated != 0:
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		s.wmu.Unlock()
		return s.opError(opClose, err)
	}
	s.wflags |= wShut
	after := s.flush()
	s.wmu.Unlock()
	s.finishFlush(after)
	return nil
}
