package tcpserver

import (
	"math"
	"os"

	"github.com/pullaccept/tcpserver/internal/sys"
)

const (
	// maxSend is the most that one system call is given. A raw system call keeps the goroutine's processor, and every
	// stop-the-world pause, waiting for as long as the copy takes.
	maxSend = 256 << 10
	// flushBudget is how many bytes flush sends before it leaves the rest to a later turn of the loop.
	flushBudget = 1 << 20
)

// Write sends p and waits until the system has taken all of it. Bytes that Send has queued go first. Write returns
// how much was taken and, if that is less than len(p), a *[net.OpError] with [os.ErrDeadlineExceeded] if the write
// deadline has passed, [ErrReset], [ErrSocketClosed] after Close or CloseWrite, or an error of the system; after an
// idle timeout it matches both [ErrIdleTimeout] and [net.ErrClosed]. A Write that already waits is not affected by
// CloseWrite. No other bytes come between those of one Write.
//
// The stream has no holes. If the deadline cuts off a Write in the middle, only another Write can continue the
// stream: Send and CloseWrite return os.ErrDeadlineExceeded until a Write has succeeded, and if the connection ends
// before that, the peer gets a reset. If other bytes or the end of the stream were queued behind the Write, they are
// dropped and the connection ends at once, with a reset.
//
// Write can also be called in a handler that runs on the poller: while it waits, another goroutine serves the loop's
// other sockets.
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

// startWrite gives the system as much of p as it takes, unless queued bytes come first, and returns how much that
// was. The caller holds wmu and has checked writable. If the system has taken all of p, or has failed, done is true
// and wmu is unlocked; otherwise the caller still holds it.
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

// waitWrite queues p, of which n bytes are sent, without a copy, and waits until the loop has sent the rest. The
// caller holds wmu; waitWrite unlocks it.
func (s *TcpSocket) waitWrite(p []byte, n int) (int, error) {
	c := &chunk{data: p, r: n, w: len(p), kind: chunkWriter}
	s.out.push(c)
	result := s.tryFlush()
	x := s.cold()
	for c.next != nil && !x.writeBy.expired {
		if result != (flushResult{}) {
			s.wmu.Unlock()
			s.finishFlush(result)
			result = flushResult{}
			s.wmu.Lock()
			continue
		}
		x.writers.Wait()
	}
	var err error
	var rest flushResult
	ended := false
	switch {
	case c.next != nil:
		err = os.ErrDeadlineExceeded
		if s.cutWrite(c) {
			ended = s.beginEnd(err)
		} else {
			rest = s.flush() // an end of stream may have been queued behind c
		}
	case c.r < c.w:
		err = s.sendingErr()
	}
	n = c.r
	s.wmu.Unlock()
	s.finishFlush(result)
	s.finishFlush(rest)
	if ended {
		s.finishEnd()
	}
	return n, s.opError(opWrite, err)
}

// cutWrite removes c, whose deadline has passed, from the queue. If that would leave a hole in the stream, it leaves
// c there and returns true: the caller must end the connection. The caller holds wmu.
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

// Send sends p, and queues a copy of what the system does not take at once. It takes all of p or nothing, never
// waits, and does not use p after it has returned. If p would bring the queue over its limit, Send returns
// [ErrWriteBufferFull], bare; a p longer than the limit always fails. Any other error is a *[net.OpError] with
// [ErrReset], an error of the system, [ErrSocketClosed] after Close or CloseWrite, or [os.ErrDeadlineExceeded] after
// a Write that was cut off.
//
// Send does not coalesce: each call that reaches the socket is one system call, which costs as much as sending a few
// kilobytes. Many small pieces are better sent together.
//
// Unlike Qt, the queue has a limit: [TcpServer.WriteBufferSize] or [TcpSocket.SetWriteBufferSize].
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
	var result flushResult
	if !waiting {
		result = s.tryFlush()
	}
	s.wmu.Unlock()
	s.finishFlush(result)
	return nil
}

// writable returns why nothing can be written any more, or nil. The caller holds wmu.
func (s *TcpSocket) writable() error {
	if s.wflags&wShut != 0 {
		return ErrSocketClosed
	}
	return s.sendingErr()
}

// sendingErr returns why nothing more is sent, or nil. CloseWrite is no reason for a Write that was waiting before. The
// caller holds wmu.
func (s *TcpSocket) sendingErr() error {
	x := s.coldState.Load()
	switch {
	case s.wflags&wClosed != 0:
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

// writeTimedOut reports whether the write deadline has passed. The caller holds wmu.
func (s *TcpSocket) writeTimedOut() bool {
	x := s.coldState.Load()
	return x != nil && x.writeBy.expired
}

// transmit gives p to the system until that has taken all of it or refuses with e, and returns how much it took. The
// caller holds wmu, and the state is not StateUnconnected.
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

// failWrite ends writing after a send has failed with e. It drops the queue, and returns the error that later writes
// get, too. What has arrived can still be read. The caller holds wmu, unlocks it and then calls onWriteError.
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

// onWriteError wakes calls that wait and runs the handlers, so that readers find out that the connection is broken.
// It ends a socket that is closing. Without handlers a connected socket is left to the program. The caller holds no
// lock.
func (s *TcpSocket) onWriteError() {
	s.wakeWriters()
	s.wakeReaders()
	s.wmu.Lock()
	closing, err := s.state == StateClosing, s.cold().writeErr
	s.wmu.Unlock()
	if closing {
		s.end(err)
	} else if s.handlers.Load() != nil {
		s.notifyEvent(strandRead)
	}
}

// A flushResult says what finishFlush must do after a flush.
type flushResult struct {
	broke    bool // failWrite was called: onWriteError follows
	announce bool // BytesWritten is due
	wake     bool // calls may be waiting for bytes to be sent
	again    bool // the budget is spent and the queue is not empty
	finished bool // the queue is sent, and the end of stream too
	ended    bool // the queue of a socket that is closing is sent: finishEnd follows
}

// writeError returns why sending has failed, or nil. The caller holds wmu.
func (s *TcpSocket) writeError() error {
	if x := s.coldState.Load(); x != nil {
		return x.writeErr
	}
	return nil
}

// tryFlush sends from a queue to which bytes were just added because the system did not take them. wantWrite is set
// before the first attempt; otherwise an edge that arrived earlier would be lost and the queue would stall. The
// caller holds wmu, unlocks it and then calls finishFlush.
func (s *TcpSocket) tryFlush() flushResult {
	s.ready.set(wantWrite)
	return s.flush()
}

// flush sends from the queue what the system takes, within flushBudget. The caller holds wmu, unlocks it and then
// calls finishFlush.
func (s *TcpSocket) flush() (result flushResult) {
	if s.state == StateUnconnected {
		return result
	}
	if x := s.coldState.Load(); x != nil {
		x.flushes++
		result.wake = true
	}
	for total := 0; !s.out.empty(); {
		if total >= flushBudget {
			result.again = true
			return result
		}
		c := s.out.first()
		n, e := s.transmit(c.data[c.r:min(c.w, c.r+maxSend)])
		total += n
		c.r += n
		if c.kind != chunkWriter && n > 0 {
			s.queued -= uint32(n)
			s.written = uint32(min(uint64(s.written)+uint64(n), math.MaxInt32))
			result.announce = true
		}
		if c.r == c.w {
			if c.kind == chunkWriter {
				s.wflags &^= wTruncated // here and not where Write returns: another one may be cut off before
			}
			s.out.shift().free()
		}
		if e == sys.EAGAIN {
			s.loop.rearm(s.key, evWrite)
			return result
		}
		if e != 0 {
			s.failWrite(e)
			result.broke = true
			return result
		}
	}
	s.ready.clear(wantWrite)
	if s.wflags&wShut != 0 && s.wflags&wShutSent == 0 && s.writeError() == nil {
		s.wflags |= wShutSent
		sys.CloseWrite(s.fd)
		result.finished = true
	}
	if s.state == StateClosing {
		result.ended = s.beginEnd(s.writeError())
	}
	return result
}

// finishFlush does what must follow a flush: it wakes calls that wait, runs the handlers, sends the rest later, or
// ends a connection that has nothing more to send. The caller holds no lock.
func (s *TcpSocket) finishFlush(result flushResult) {
	if result.wake {
		s.wakeWriters()
	}
	if result.announce {
		if h := s.handlers.Load(); h != nil && h.BytesWritten != nil {
			s.notifyEvent(strandWritten)
		}
	}
	switch {
	case result.broke:
		s.onWriteError()
	case result.again:
		if s.ready.set(flushDue)&flushDue == 0 {
			s.loop.post(s)
		}
	case result.ended:
		s.finishEnd()
	case result.finished:
		s.endIfBothClosed()
	}
}

// onWritable is called by the loop when the system takes bytes again, or when the rest of a long queue is due.
func (s *TcpSocket) onWritable() {
	s.wmu.Lock()
	result := s.flush()
	s.wmu.Unlock()
	s.finishFlush(result)
}

// BytesToWrite returns the number of bytes that Send has queued and the system has not taken yet.
func (s *TcpSocket) BytesToWrite() int {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return int(s.queued)
}

// CloseWrite sends an end of stream to the peer, after what Send has queued and after every Write that waits. From
// now on Write and Send return [ErrSocketClosed]; reading goes on. When the peer has finished sending, too, the
// connection ends. CloseWrite returns ErrSocketClosed if the socket is closed or the connection has ended,
// [os.ErrDeadlineExceeded] after a Write that was cut off, or the error with which sending has failed.
//
// Unlike Qt, a socket can be closed in one direction.
func (s *TcpSocket) CloseWrite() error {
	s.wmu.Lock()
	var err error
	switch {
	case s.wflags&wClosed != 0 || s.state != StateConnected:
		err = ErrSocketClosed
	case s.wflags&wTruncated != 0:
		err = os.ErrDeadlineExceeded
	default:
		err = s.writeError()
	}
	if err != nil {
		s.wmu.Unlock()
		return s.opError(opClose, err)
	}
	s.wflags |= wShut
	result := s.flush()
	s.wmu.Unlock()
	s.finishFlush(result)
	return nil
}
