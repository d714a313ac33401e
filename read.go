package tcpserver

import (
	"bytes"
	"io"
	"math"
	"os"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Read reads up to len(p) bytes and waits until there is at least one. It returns io.EOF, bare, when the peer has
// finished sending and all is read, and otherwise a *net.OpError: with os.ErrDeadlineExceeded when the read deadline
// has passed, with ErrReset, or with ErrSocketClosed after Close.
func (s *TcpSocket) Read(p []byte) (int, error) {
	var x *coldState
	s.rmu.Lock()
	for {
		n, err := s.tryRead(p, s.ready.has(readable))
		if n > 0 || err != ErrWouldBlock {
			return s.endRead(n, err)
		}
		if x != nil {
			x.readers.Wait()
		}
		x = s.cold() // and look once more: only now the loop knows that somebody waits
	}
}

// TryRead reads up to len(p) bytes and never waits: it returns ErrWouldBlock, bare, when nothing is there. It fills a p
// of BytesAvailable bytes. Otherwise it is like Read.
func (s *TcpSocket) TryRead(p []byte) (int, error) {
	s.rmu.Lock()
	before := s.bytesRead
	n, err := s.tryRead(s.withinCall(p), s.mayAsk())
	s.noteRefill(before)
	return s.endRead(n, err)
}

// tryRead is one attempt, which takes from the buffer and then, if ask is true, from the system. It may return bytes
// with the error of the system. rmu is held; endRead follows.
func (s *TcpSocket) tryRead(p []byte, ask bool) (n int, err error) {
	switch {
	case s.rflags&rClosed != 0:
		return 0, ErrSocketClosed
	case s.readTimedOut():
		return 0, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, nil
	}
	if s.in != nil {
		n = copy(p, s.in.bytes())
		s.consume(n)
	}
	switch {
	case n == len(p), n > 0 && (s.input != inputOpen || !ask):
		return n, nil
	case s.input != inputOpen:
		return 0, s.endOfInput()
	case !ask:
		return 0, ErrWouldBlock
	}
	m, err := s.recv(p[n:])
	if m > 0 {
		s.rflags |= rConsumed
	}
	return n + m, err
}

// endRead unlocks rmu and does what follows from tryRead. Bytes come before the error, which the next call meets.
func (s *TcpSocket) endRead(n int, err error) (int, error) {
	resume := s.mustResume()
	s.rmu.Unlock()
	err = s.afterRead(resume, err)
	if n > 0 {
		return n, nil
	}
	return 0, s.opError(opRead, err)
}

func (s *TcpSocket) readTimedOut() bool {
	x := s.coldState.Load()
	return x != nil && x.readBy.expired
}

// endOfInput is what reading meets when nothing more will come.
func (s *TcpSocket) endOfInput() error {
	if err := s.Err(); err != nil {
		return afterEnd(err)
	}
	return io.EOF
}

// BytesAvailable returns how many bytes can be read now without waiting, those included that the system still holds. In
// a handler these are as many as the call may take.
func (s *TcpSocket) BytesAvailable() int {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	n := s.in.len()
	if s.input != inputOpen || s.rflags&rClosed != 0 {
		return n
	}
	held := sys.Unread(s.fd)
	if held > 0 {
		s.ready.set(readable)
	}
	switch {
	case !s.mayAsk():
		return n
	case s.rflags&rInHandler != 0:
		held = min(held, s.readLimit())
	}
	return n + held
}

// smallView is how many bytes Peek copies rather than show where the loop has read them. What is shown there and not
// taken costs the loop its buffer: a peer must not be able to have that happen at little cost.
const maxCopiedView = 8 << 10

// Peek returns up to n bytes without taking them, and never more than the read buffer size. The slice is valid
// until the next call that reads, or until the end of the handler that called Peek. It is meaningful only if one
// goroutine reads.
func (s *TcpSocket) Peek(n int) []byte {
	err := s.lockInput(max(n, 0))
	if s.in != nil {
		if s.in.kind == chunkScratch && s.in.len() <= maxCopiedView {
			s.in = s.in.clone(0)
		}
		s.in.viewed = true
	}
	p := s.in.bytes()
	s.unlockInput(err)
	n = min(max(n, 0), len(p))
	return p[:n:n]
}

// Discard takes up to n bytes without looking at them and returns how many there were.
func (s *TcpSocket) Discard(n int) (done int) {
	for done < n {
		err := s.lockInput(1)
		taken := min(n-done, s.in.len())
		s.consume(taken)
		s.unlockInput(err)
		if taken == 0 {
			break
		}
		done += taken
	}
	return done
}

// ReadAll takes all that can be read now and returns it in a fresh slice; nil when there is nothing. What comes
// while it runs may be left for the next call. In a handler that is at most the read buffer size.
func (s *TcpSocket) ReadAll() []byte {
	err := s.lockInput(math.MaxInt)
	var all []byte
	if s.in != nil {
		// Beyond the limit of the buffer the system may hold more: that goes straight into the result.
		rest := 0
		if s.input == inputOpen && s.rflags&rInHandler == 0 && s.ready.has(readable) {
			rest = sys.Unread(s.fd)
		}
		all = make([]byte, s.in.len()+rest)
		n := copy(all, s.in.bytes())
		s.consume(n)
		if rest > 0 {
			rest, err = s.recv(all[n:])
		}
		all = all[:n+rest]
	}
	s.unlockInput(err)
	return all
}

// CanReadLine reports whether ReadLine would return a line. A line longer than the read buffer size does not count.
func (s *TcpSocket) CanReadLine() bool {
	err := s.lockLine()
	can := hasLine(s.in.bytes())
	s.unlockInput(err)
	return can
}

// ReadLine takes a line, up to and with its '\n', and returns it in a fresh slice. It returns false when no whole
// line is there; a last line without '\n' is left to Read, and so is one that is longer than the read buffer size.
func (s *TcpSocket) ReadLine() (line []byte, ok bool) {
	err := s.lockLine()
	have := s.in.bytes()
	if i := bytes.IndexByte(have, '\n'); i >= 0 {
		line, ok = bytes.Clone(have[:i+1]), true
		s.consume(i + 1)
	}
	s.unlockInput(err)
	return line, ok
}

// lockInput locks rmu and has at least n bytes in the buffer, if there are so many and they fit. unlockInput follows.
func (s *TcpSocket) lockInput(n int) error {
	s.rmu.Lock()
	if s.in.len() >= n {
		return nil
	}
	return s.refill()
}

// lockLine is lockInput for a line.
func (s *TcpSocket) lockLine() error {
	s.rmu.Lock()
	if hasLine(s.in.bytes()) {
		return nil
	}
	return s.refill()
}

func hasLine(p []byte) bool { return bytes.IndexByte(p, '\n') >= 0 }

// refill is fill for the methods that do not wait. rmu is held.
func (s *TcpSocket) refill() error {
	if !s.mayAsk() {
		return nil
	}
	before := s.bytesRead
	err := s.fill(true)
	s.noteRefill(before)
	return err
}

// unlockInput takes what lockInput has returned.
func (s *TcpSocket) unlockInput(err error) {
	resume := s.mustResume()
	s.rmu.Unlock()
	s.afterRead(resume, err)
}

// mayAsk reports whether a method that does not wait may ask the system for more. Outside of handlers it does so even
// if the loop has not seen anything come. A handler gets something so once, or once more after it has waited, so that a
// peer that sends without end does not keep a handler that reads in a loop from returning. rmu is held.
func (s *TcpSocket) mayAsk() bool {
	switch {
	case s.rflags&rInHandler == 0:
		return true
	case !s.ready.has(readable):
		return false
	}
	return s.rflags&rRefilled == 0 || !inHandler()
}

// noteRefill notes that a method that does not wait has taken something from the system. before is what bytesRead was
// then. rmu is held.
func (s *TcpSocket) noteRefill(before uint64) {
	if s.bytesRead != before {
		s.rflags |= rRefilled
	}
}

// withinCall cuts p to what one call of a handler may take. rmu is held.
func (s *TcpSocket) withinCall(p []byte) []byte {
	if limit := s.readLimit(); s.rflags&rInHandler != 0 && len(p)-s.in.len() > limit {
		return p[:s.in.len()+limit]
	}
	return p
}

// CloseRead ends the reading side: what was not read is dropped, and reading returns io.EOF. The peer is not told;
// what it still sends is thrown away or refused, as the system does it. The error is ErrSocketClosed on a socket
// that is closed.
func (s *TcpSocket) CloseRead() error {
	s.rmu.Lock()
	if s.rflags&rClosed != 0 {
		s.rmu.Unlock()
		return s.opError(opClose, ErrSocketClosed)
	}
	var err error
	if s.input == inputOpen {
		err = sys.CloseRead(s.fd)
	}
	s.input = inputFinished
	s.in = nil
	s.rmu.Unlock()
	s.wakeReaders()
	s.endIfBothClosed()
	return s.opError(opClose, err)
}

// readTurn reads and announces until there is nothing new, or the others are to have their turn.
func (s *TcpSocket) deliverInput(sc *scratch) {
	for reads := 0; reads < maxReads && (reads == 0 || !sc.timeUp()); reads++ {
		h := s.handlers.Load()
		if h == nil {
			return
		}
		s.rmu.Lock()
		due, err := s.readForHandler(sc)
		s.rmu.Unlock()
		if err != nil {
			s.end(err)
			return
		}
		if !due {
			s.callReadClosed(h)
			return
		}
		s.call(h, handleReadyRead, 0, nil)
		s.rmu.Lock()
		more := s.keepUnread(sc)
		s.rmu.Unlock()
		if !more {
			return
		}
	}
	s.ready.set(strandRead)
}

// takeIn reads once for the handlers, into the buffer of the desk unless something is left from before, and reports
// whether ReadyRead is due; then leave follows. The error is why the connection has ended. rmu is held.
func (s *TcpSocket) readForHandler(sc *scratch) (due bool, err error) {
	if s.rflags&(rClosed|rPaused) != 0 {
		return false, s.resetErr()
	}
	had := s.in.len()
	due = had > 0 && s.rflags&rNew != 0
	space := s.readLimit() - had
	if !due && space > 0 && s.input == inputOpen && s.ready.has(readable) {
		c := sc.buffer()
		n, err := s.recv(c.data[:min(space, len(c.data))])
		switch {
		case n == 0:
			if err != ErrWouldBlock && err != io.EOF {
				return false, err
			}
		case had == 0:
			c.r, c.w = 0, n
			s.in = c
			due = true
		default:
			s.in = s.in.room(n)
			s.in.w += copy(s.in.data[s.in.w:], c.data[:n])
			due = true
		}
	}
	if s.input == inputEnded {
		s.input = inputAnnounced
		due = true
	}
	if !due {
		return false, s.resetErr()
	}
	s.rflags &^= rNew
	s.enter()
	return true, nil
}

// lost returns ErrReset if the connection is known to be gone, although the end cannot be read, because the buffer
// is full or reading is paused or ended. rmu is held.
func (s *TcpSocket) resetErr() error {
	if s.ready.has(failed) {
		return ErrReset
	}
	return nil
}

// leave follows ReadyRead: it moves what is left on the desk to a buffer of the socket's own. It reports whether there
// is anything to go on with; what the handler has taken from and left is announced again. rmu is held.
func (s *TcpSocket) keepUnread(sc *scratch) (more bool) {
	s.exit()
	s.leaveScratch(sc)
	if s.in != nil && s.rflags&rConsumed != 0 {
		s.rflags |= rNew
	}
	again := s.in != nil && s.rflags&rNew != 0
	return again || s.input != inputOpen || s.ready.has(readable|failed)
}

// keepUnread moves what is left on the desk to a buffer of the socket's own. What Peek has shown there and nobody has
// taken may be looked at for longer than the handler runs, by another goroutine that reads: its memory is not used
// again for anything else. rmu is held.
func (s *TcpSocket) leaveScratch(sc *scratch) {
	c := sc.chunk.Load()
	switch {
	case c == nil:
		return
	case s.in == c && c.len() > len(c.data)/2:
		sc.detach()
		return
	case s.in == c:
		s.in = c.clone(0)
	}
	if c.viewed {
		sc.detach()
	}
}

// onLate gives up the scratch buffer of a handler that takes long.
func (s *TcpSocket) onLate(sc *scratch) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	s.leaveScratch(sc)
	sc.release()
}

// recv asks the system once. It returns ErrWouldBlock when there is nothing, io.EOF at the end of the stream, and
// ErrReset or an error of the system when the connection is gone; after the latter two comes afterRead. p is not
// empty. rmu is held, rEOF and rClosed are clear.
func (s *TcpSocket) recv(p []byte) (int, error) {
	was := s.ready.clear(readable)
	n, e := sys.Recv(s.fd, p)
	for e == sys.EINTR {
		n, e = sys.Recv(s.fd, p)
	}
	switch {
	case n > 0:
		if n == len(p) || s.ready.has(peerClosed) {
			s.ready.set(readable)
		} else {
			s.loop.rearm(s.key, evRead)
		}
		s.bytesRead += uint64(n)
		s.touch()
		return n, nil
	case e == sys.EAGAIN, e == 0 && !s.ready.isEOFConfirmed(was):
		s.loop.rearm(s.key, evRead)
		return 0, ErrWouldBlock
	}
	s.input = inputEnded
	s.ready.set(peerClosed)
	if sys.IsReset(e) || e == 0 && s.ready.has(failed) {
		return 0, ErrReset
	}
	if e == 0 {
		return 0, io.EOF
	}
	return 0, os.NewSyscallError("recv", e)
}

// minFill is how much room a read without a handler finds in the buffer at least, as far as the limit allows.
const minFill = 2 << 10

// fill reads into the buffer what the system holds, up to the buffer's limit. If ask is false, it does so only if the
// loop has seen something come. rmu is held; the error is for afterRead.
func (s *TcpSocket) fill(ask bool) error {
	for s.input == inputOpen && s.rflags&rClosed == 0 && (ask || s.ready.has(readable)) {
		space := s.readLimit() - s.in.len()
		if space <= 0 {
			return nil
		}
		ask = false
		s.in = s.in.room(min(space, max(minFill, s.in.len())))
		p := s.in.data[s.in.w:]
		n, err := s.recv(p[:min(space, len(p))])
		if n > 0 {
			s.in.w += n
			s.rflags |= rNew
		}
		if s.in.len() == 0 {
			s.in.free()
			s.in = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take consumes n bytes of the buffer, whose views end with that. rmu is held.
func (s *TcpSocket) consume(n int) {
	if n == 0 {
		return
	}
	s.rflags |= rConsumed
	s.in.r += n
	s.in.viewed = false
	switch {
	case s.in.len() == 0:
		s.in.free()
		s.in = nil
	case s.in.isSparse():
		sparse := s.in
		s.in = sparse.clone(0)
		sparse.free()
	}
}

// mustResume reports whether the handlers have to be called after something was read, or read ahead, outside of a
// handler: their reading may have stopped at a full buffer, or wait for the end of the stream to be read, and what was
// read ahead is to be announced. rmu is held.
func (s *TcpSocket) mustResume() bool {
	switch {
	case s.rflags&(rInHandler|rClosed|rPaused) != 0 || s.handlers.Load() == nil:
		return false
	case s.input == inputEnded || s.input == inputAnnounced, s.in != nil && s.rflags&rNew != 0:
		return true
	}
	return s.ready.has(readable) && s.in.len() < s.readLimit()
}

// afterRead does, with no lock held, what follows from a read that ended with err: the connection may have ended
// with it, and the handlers may have to go on. It returns err.
func (s *TcpSocket) afterRead(resume bool, err error) error {
	switch err {
	case nil, ErrWouldBlock, ErrSocketClosed, errIdleEnded, os.ErrDeadlineExceeded:
	case io.EOF:
		s.endIfBothClosed()
	default:
		s.end(err)
	}
	if resume {
		s.notify(strandRead)
	}
	return err
}
