package tcpserver

import (
	"bytes"
	"io"
	"os"
	"slices"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Read reads up to len(p) bytes. It waits until there is at least one byte. It returns [io.EOF], bare, when the peer
// has finished sending and everything has been read. Any other error is a *[net.OpError] with
// [os.ErrDeadlineExceeded] if the read deadline has passed, [ErrReset], [ErrSocketClosed] after Close, or an error of
// the system; after an idle timeout it matches both [ErrIdleTimeout] and [net.ErrClosed]. If Read need not wait, it
// fills a p of [TcpSocket.BytesAvailable] bytes.
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
		x = s.cold() // try once more: wakeReaders did nothing as long as there was no cold state
	}
}

// TryRead reads up to len(p) bytes without waiting. It returns [ErrWouldBlock], bare, if nothing can be read now. It
// fills a p of [TcpSocket.BytesAvailable] bytes. In all other respects it behaves like [TcpSocket.Read].
func (s *TcpSocket) TryRead(p []byte) (int, error) {
	s.rmu.Lock()
	before := s.bytesRead
	n, err := s.tryRead(s.withinCall(p), s.mayAsk())
	s.noteRefill(before)
	return s.endRead(n, err)
}

// tryRead makes one attempt to read. It takes bytes from the buffer and then, if ask is true, from the system. It may
// return bytes together with an error of the system. The caller holds rmu and then calls endRead.
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
	for more := true; more; {
		var m int
		m, err = s.recv(p[n:])
		if n += m; m > 0 {
			s.rflags |= rConsumed
		}
		more = m > 0 && n < len(p) && s.ready.has(shortReads)
	}
	return n, err
}

// endRead unlocks rmu and does what must follow tryRead. If n > 0 it returns no error; the next call returns it.
func (s *TcpSocket) endRead(n int, err error) (int, error) {
	resume := s.mustResume()
	s.rmu.Unlock()
	err = s.afterRead(resume, err)
	if n > 0 {
		return n, nil
	}
	return 0, s.opError(opRead, err)
}

// readTimedOut reports whether the read deadline has passed. The caller holds rmu.
func (s *TcpSocket) readTimedOut() bool {
	x := s.coldState.Load()
	return x != nil && x.readBy.expired
}

// endOfInput returns the error of a read after the last byte: why the connection ended, or io.EOF. The caller holds
// rmu.
func (s *TcpSocket) endOfInput() error {
	if err := s.inputErr(); err != nil {
		return afterEnd(err)
	}
	return io.EOF
}

// inputErr returns why the connection has ended, or is about to because reading has failed. It returns nil after an
// orderly end. The caller holds rmu.
func (s *TcpSocket) inputErr() error {
	if x := s.coldState.Load(); x != nil && x.readErr != nil {
		return x.readErr
	}
	return s.Err()
}

// BytesAvailable returns how many bytes can be read now without waiting, including those that the system still holds.
// In a handler it counts only as many as this call of the handler may take. Where the system does not count what lies
// behind urgent data (MSG_OOB), the number may be too small; once a loop has noticed that data, it is not zero.
func (s *TcpSocket) BytesAvailable() int {
	s.rmu.Lock()
	held, err := s.unread(), error(nil)
	if held == 0 && s.in == nil && s.ready.has(shortReads) {
		err = s.refill()
	}
	n := s.in.len() + held
	s.unlockInput(err)
	return n
}

// unread returns how many bytes the system reports that a method that does not wait may take. The caller holds rmu.
func (s *TcpSocket) unread() int {
	if s.input != inputOpen || s.rflags&rClosed != 0 {
		return 0
	}
	n := sys.Unread(s.fd)
	if n > 0 {
		s.ready.set(readable)
	}
	switch {
	case !s.mayAsk():
		return 0
	case s.rflags&rInHandler != 0:
		return min(n, s.readLimit())
	}
	return n
}

// maxCopiedView is the largest number of bytes that Peek copies out of the loop's scratch buffer. A larger view
// points into that buffer, and costs the loop the buffer if it is not consumed. Copying small views keeps a peer from
// causing that with little traffic.
const maxCopiedView = 8 << 10

// Peek returns up to n bytes without taking them, and never more than the read buffer size. The slice is empty if
// nothing can be read now. It is valid until the next call that reads or, in a handler, until the handler returns.
// Peek is useful only if no other goroutine reads from the socket.
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

// Discard takes up to n bytes and drops them. It does not wait. It returns how many bytes it took.
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

// ReadAll takes everything that can be read now and returns it in a new slice, or nil if there is nothing. Bytes that
// arrive while it runs may be left for the next call. In a handler it returns at most the read buffer size.
func (s *TcpSocket) ReadAll() []byte {
	var all []byte
	var err error
	s.rmu.Lock()
	for rounds, more := 0, true; more && rounds < 2; rounds++ {
		var rest int
		err = s.refill()
		all, rest = s.takeBuffer(all)
		if rest > 0 {
			all, err = s.recvRest(all, rest)
		}
		// The system does not count what lies behind urgent data.
		known := s.ready.load() & (readable | shortReads)
		more = err == nil && known == readable|shortReads && s.rflags&rInHandler == 0
	}
	s.unlockInput(err)
	return all
}

// takeBuffer moves what is in the buffer to the end of all. If the buffer was full, rest is how many bytes the system
// reports to hold, and all has room for them. The caller holds rmu.
func (s *TcpSocket) takeBuffer(all []byte) (_ []byte, rest int) {
	if s.in == nil {
		return all, 0
	}
	if s.input == inputOpen && s.rflags&rInHandler == 0 && s.ready.has(readable) {
		rest = sys.Unread(s.fd)
	}
	all = append(slices.Grow(all, s.in.len()+rest), s.in.bytes()...)
	s.consume(s.in.len())
	return all, rest
}

// recvRest appends up to rest bytes of the system's to all, which has room for them. The caller holds rmu.
func (s *TcpSocket) recvRest(all []byte, rest int) (_ []byte, err error) {
	n, end := len(all), len(all)+rest
	for more := true; more; {
		var got int
		got, err = s.recv(all[n:end])
		n += got
		more = got > 0 && n < end && s.ready.has(shortReads)
	}
	return all[:n], err
}

// CanReadLine reports whether [TcpSocket.ReadLine] would return a line. It returns false for a line that is longer
// than the read buffer size.
func (s *TcpSocket) CanReadLine() bool {
	err := s.lockLine()
	can := hasLine(s.in.bytes())
	s.unlockInput(err)
	return can
}

// ReadLine takes one line, up to and including its '\n', and returns it in a new slice. It returns false if there is
// no whole line. A last line without '\n', and a line that is longer than the read buffer size, are left to Read and
// ReadAll.
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

// lockInput locks rmu and, if the buffer holds fewer than n bytes, refills it. The caller passes the error to
// unlockInput.
func (s *TcpSocket) lockInput(n int) error {
	s.rmu.Lock()
	if s.in.len() >= n {
		return nil
	}
	return s.refill()
}

// lockLine is lockInput for a line: it refills the buffer if that holds no whole line.
func (s *TcpSocket) lockLine() error {
	s.rmu.Lock()
	if hasLine(s.in.bytes()) {
		return nil
	}
	return s.refill()
}

func hasLine(p []byte) bool { return bytes.IndexByte(p, '\n') >= 0 }

// refill is fill for the methods that do not wait. The caller holds rmu.
func (s *TcpSocket) refill() error {
	if !s.mayAsk() {
		return nil
	}
	before := s.bytesRead
	err := s.fill(true)
	s.noteRefill(before)
	return err
}

// unlockInput unlocks rmu and does what must follow lockInput, which returned err.
func (s *TcpSocket) unlockInput(err error) {
	resume := s.mustResume()
	s.rmu.Unlock()
	s.afterRead(resume, err)
}

// mayAsk reports whether a method that does not wait may ask the system for bytes. Outside handlers it always may,
// even if the loop has seen no event. While a handler runs, there must have been an event, and handlers may receive
// something only once per call, or once more after each WaitForReadyRead of a handler: otherwise a peer that sends
// without end would keep a handler that reads in a loop from returning. Handlers of other sockets count as well,
// because inHandler cannot tell them apart. The caller holds rmu.
func (s *TcpSocket) mayAsk() bool {
	switch {
	case s.rflags&rInHandler == 0:
		return true
	case !s.ready.has(readable):
		return false
	}
	return s.rflags&rRefilled == 0 || !inHandler()
}

// noteRefill records that a method that does not wait has received bytes. before is bytesRead before the attempt. The
// caller holds rmu.
func (s *TcpSocket) noteRefill(before uint64) {
	if s.bytesRead != before {
		s.rflags |= rRefilled
	}
}

// withinCall returns p or, while a handler runs, the part of p that may be filled within one call: what is in the
// buffer, and readLimit bytes from the system. The caller holds rmu.
func (s *TcpSocket) withinCall(p []byte) []byte {
	if limit := s.readLimit(); s.rflags&rInHandler != 0 && len(p)-s.in.len() > limit {
		return p[:s.in.len()+limit]
	}
	return p
}

// CloseRead closes the receiving side. What has not been read is dropped, and reading returns [io.EOF]. The peer is
// not informed; depending on the system, what it still sends is discarded, held back or answered with a reset.
// CloseRead returns [ErrSocketClosed] if the socket is closed, or an error of the system.
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

// deliverInput reads and calls ReadyRead until there is nothing new, or until maxReads or the time limit is reached:
// then it marks the strand, so that the rest follows in a later run. If nothing is left to read, it calls ReadClosed
// if that is due. The caller holds no lock.
func (s *TcpSocket) deliverInput(sc *scratch) {
	for reads := 0; reads < maxReads && (reads == 0 || !sc.timeUp()); reads++ {
		s.rmu.Lock()
		h := s.handlers.Load()
		if h == nil {
			s.rmu.Unlock()
			s.endIfBothClosed() // SetHandlers did so before the end was read
			return
		}
		due, err := s.readForHandler(sc)
		s.rmu.Unlock()
		if err != nil {
			s.end(err)
			return
		}
		if !due {
			s.callReadClosed()
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

// readForHandler reads once for the handlers, into the scratch buffer if nothing is left from before. It reports
// whether ReadyRead is due; if so, it has begun the call, and keepUnread must follow. err is why the connection has
// ended. The caller holds rmu.
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

// resetErr returns the error of a connection that is known to be broken although the end cannot be read, because the
// buffer is full, or reading is paused or has ended. The caller holds rmu.
func (s *TcpSocket) resetErr() error {
	if s.ready.has(failed) {
		return s.brokenErr()
	}
	return nil
}

// brokenErr returns why the connection is broken, if that is known: what a send has met, or a reset. The system reports
// an error once; wmu is held from the send that meets it until it is noted.
func (s *TcpSocket) brokenErr() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	switch err := s.writeError(); {
	case err != nil:
		return err
	case s.ready.has(failed):
		return ErrReset
	}
	return nil
}

// keepUnread must follow ReadyRead. It moves what is left in the scratch buffer to a buffer of the socket, and
// reports whether there is more to deliver. If the handler took something and left something, the rest is announced
// again. The caller holds rmu.
func (s *TcpSocket) keepUnread(sc *scratch) (more bool) {
	s.exit()
	s.leaveScratch(sc)
	if s.in != nil {
		s.wakeOthers()
		if s.rflags&rConsumed != 0 {
			s.rflags |= rNew
		}
	}
	again := s.in != nil && s.rflags&rNew != 0
	return again || s.input != inputOpen || s.ready.has(readable|failed)
}

// leaveScratch moves what is left in the scratch buffer to a buffer of the socket; if more than half of it is left,
// the socket keeps the memory. A slice that Peek returned and nobody has consumed may be in use for longer than the
// handler runs, by another goroutine that reads: the memory behind it is not reused. The caller holds rmu.
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

// onLate is called when a handler takes long and another goroutine runs the loop. It gives up the handler's scratch
// buffer, as leaveScratch does. It detaches the buffer before it looks at it, because the handler may return at any
// moment, and its goroutine then releases the scratch.
func (s *TcpSocket) onLate(sc *scratch) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	c := sc.detach()
	switch {
	case c == nil, s.in == c && c.len() > len(c.data)/2:
		return
	case s.in == c:
		s.in = c.clone(0)
	}
	if !c.viewed {
		c.free()
	}
}

// recv asks the system once. It returns ErrWouldBlock if there is nothing, io.EOF at the end of the stream, and
// ErrReset or an error of the system if the connection is broken. After io.EOF or such an error, the caller releases
// rmu and calls afterRead, or ends the socket itself. p is not empty. The caller holds rmu; input is inputOpen, and
// rClosed is not set.
func (s *TcpSocket) recv(p []byte) (int, error) {
	s.ready.clear(readable)
	n, e := sys.Recv(s.fd, p)
	for e == sys.EINTR {
		n, e = sys.Recv(s.fd, p)
	}
	switch {
	case n > 0:
		if n == len(p) || s.ready.has(peerClosed|shortReads) {
			s.ready.set(readable)
		} else {
			s.loop.rearm(s.key, evRead)
		}
		s.bytesRead += uint64(n)
		s.touch()
		return n, nil
	case e == sys.EAGAIN:
		s.loop.rearm(s.key, evRead)
		return 0, ErrWouldBlock
	case e == 0 && !s.ready.isEOFConfirmed():
		s.loop.rearm(s.key, evRead|evAfterEnd)
		return 0, ErrWouldBlock
	}
	s.ready.set(peerClosed)
	var err error
	switch {
	case sys.IsReset(e):
		err = ErrReset
	case e != 0:
		err = os.NewSyscallError("recv", e)
	default:
		if err = s.brokenErr(); err == nil {
			s.input = inputEnded
			return 0, io.EOF
		}
	}
	// Other calls must not take this for the end of the stream before the caller has ended the socket.
	s.input = inputFinished
	s.cold().readErr = err
	return 0, err
}

// minFill is the least room that fill makes in the buffer, as far as the limit allows.
const minFill = 2 << 10

// fill reads what the system holds into the buffer, up to readLimit. If ask is false, it does so only if readable is
// set. The caller holds rmu, and then passes the error to afterRead.
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
			s.wakeOthers()
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

// wakeOthers wakes the calls that wait to read, when bytes were moved from the system to the buffer and left there: the
// system has no event for them any more. The caller holds rmu.
func (s *TcpSocket) wakeOthers() {
	if x := s.coldState.Load(); x != nil {
		x.readers.Broadcast()
	}
}

// consume takes n bytes from the buffer. Slices that Peek has returned are no longer valid. The caller holds rmu.
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

// mustResume reports whether the handlers must run after something was read, or read ahead, outside a handler: a full
// buffer may have stopped their reading, ReadClosed may be waiting until everything is read, or what was read ahead
// is not announced yet. The caller holds rmu, releases it, and then passes the result to afterRead.
func (s *TcpSocket) mustResume() bool {
	switch {
	case s.rflags&(rInHandler|rClosed|rPaused) != 0 || s.handlers.Load() == nil:
		return false
	case s.input == inputEnded || s.input == inputAnnounced, s.in != nil && s.rflags&rNew != 0:
		return true
	}
	return s.ready.has(readable) && s.in.len() < s.readLimit()
}

// afterRead does what must follow a read that returned err: it ends the socket if the connection has ended, and runs
// the handlers if resume is true. It returns err. The caller holds no lock.
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
