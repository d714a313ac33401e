package tcpserver

import (
	"net"
	"os"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// The server has three reasons not to accept, each of which ends by itself alone:
//
//	paused       PauseAccepting ... ResumeAccepting
//	full         the queue has reached its limit ... a connection leaves it, or the limit is raised
//	backing off  descriptors or memory have run out ... the pause is over, or one of our sockets has ended
//
// While there is one, accept is not called: the system holds the rest. With OverflowDrop a full queue is no reason.

// acceptRound is how many connections are accepted in one turn of the loop.
const acceptRound = 64

// PauseAccepting stops accepting until ResumeAccepting. Pending connections stay and can be taken. It may be called
// in any state: a pause set before Listen counts, and one that is set stays over Close and Listen. Two pauses are
// ended by one resume.
//
// Unlike Qt, NextPendingConnection does not end a pause.
func (s *TcpServer) PauseAccepting() {
	s.mu.Lock()
	s.paused = true
	s.mu.Unlock()
}

// ResumeAccepting ends a pause. It may be called in any state.
func (s *TcpServer) ResumeAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	s.callAccept()
}

// IsAccepting reports whether the server listens and has no reason not to accept: it is not paused, its queue is not
// full, and it is not waiting for descriptors or memory.
func (s *TcpServer) IsAccepting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mayAccept() && !s.isFull()
}

// mayAccept is the rule. With OverflowDrop a full queue is no reason: what is accepted is turned away. mu is held.
func (s *TcpServer) mayAccept() bool {
	return s.cur != nil && !s.paused && !s.retry.waiting && (!s.isFull() || s.cur.overflow == OverflowDrop)
}

// callAccept asks the loop to accept if there may be something and no reason is left not to. mu is held.
func (s *TcpServer) callAccept() {
	if ln := s.cur; s.mayAccept() && ln.ready && !ln.called && !ln.admitting {
		ln.called = true
		ln.loop.post(ln)
	}
}

// onReady is the listener's turn on its loop.
func (ln *listener) onReady(sc *scratch, _ events) {
	ln.server.mu.Lock()
	ln.ready = true
	ln.server.mu.Unlock()
	ln.onPost(sc)
}

// onPost accepts until there is no more, a reason not to accept, or acceptRound is reached.
func (ln *listener) onPost(sc *scratch) {
	s := ln.server
	s.mu.Lock()
	ln.called = false
	s.mu.Unlock()
	tried, short := false, false
	for range acceptRound {
		c, ok := ln.accept()
		tried = tried || ok || c.errno == sys.EAGAIN
		if !ok {
			break
		}
		if c.errno == 0 {
			if err := ln.admit(sc, c); err != nil {
				short = true
				ln.acceptFailed(sc, err, short)
				break
			}
		} else if !sys.IsTransient(c.errno) {
			short = sys.IsExhausted(c.errno)
			ln.acceptFailed(sc, os.NewSyscallError("accept", c.errno), short)
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if tried && !short && s.cur == ln {
		s.retry.end()
	}
	s.callAccept()
}

// onTick makes the listener a tenant; see evict too.
func (ln *listener) onTick(uint32) uint32 { return 0 }

func (ln *listener) onLate(sc *scratch) { sc.release() }

// A candidate is what an accept has brought.
type candidate struct {
	fd      sys.FD
	peer    sys.Addr
	errno   sys.Errno // 0, or why there is no connection
	tooMany bool      // for reason
	reason  DropReason
}

// accept takes one connection from the system. ok is false when there is none, or a reason not to accept. The lock
// stands for a use of the descriptor: accept does not block.
func (ln *listener) accept() (c candidate, ok bool) {
	s := ln.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != ln || !ln.ready || ln.admitting || !s.mayAccept() {
		return c, false
	}
	ln.ready = false
	if ln.shared {
		c.fd, c.peer, c.errno = ln.acceptShared()
		if s.cur != ln {
			return c, false
		}
	} else {
		c.fd, c.peer, c.errno = sys.Accept(ln.fd)
	}
	if c.errno == sys.EAGAIN {
		ln.loop.rearm(ln.key, evRead)
		return c, false
	}
	ln.ready = true
	if c.errno != 0 {
		s.acceptErrors++
		return c, true
	}
	ln.admitting = true
	ln.loop.poller.retain() // for the connection: listening may end at any moment
	if c.reason, c.tooMany = s.limit(); !c.tooMany {
		s.open++
		ln.open++
		ln.members++
	}
	return c, true
}

// acceptShared is sysAccept for an open file description that others have too, and may put into blocking mode: if that
// comes between two of its calls, accept blocks, and must hold up nothing but its own goroutine, which the watchdog
// then relieves of the loop. mu is held, but not meanwhile. A connection that comes after the end of listening is ended
// like the pending ones.
func (ln *listener) acceptShared() (fd sys.FD, peer sys.Addr, e sys.Errno) {
	s := ln.server
	ln.admitting = true
	ln.incref()
	s.mu.Unlock()
	fd, peer, e = sys.AcceptShared(ln.fd)
	s.mu.Lock()
	ln.decref()
	ln.admitting = false
	if s.cur != ln && e == 0 {
		sys.Close(fd)
	}
	return fd, peer, e
}

// use keeps the descriptor open until unuse, while mu is not held. Calling it and unuse, it is held. False: the
// descriptor is closed.
func (ln *listener) incref() bool {
	if ln.closed {
		return false
	}
	ln.uses++
	return true
}

func (ln *listener) decref() {
	ln.uses--
	if ln.closed && ln.uses == 0 {
		sys.Close(ln.fd)
	}
}

// close closes the descriptor when nobody uses it. mu is held.
func (ln *listener) close() {
	ln.closed = true
	if ln.uses == 0 {
		sys.Close(ln.fd)
	}
}

// admit makes a socket of the connection, queues it and tells the program, or turns it away. The error is a shortage
// of memory.
func (ln *listener) admit(sc *scratch, c candidate) error {
	if c.tooMany {
		ln.drop(c)
		ln.server.announce(sc)
		return nil
	}
	if !ln.allowed(c) {
		ln.reject(c)
		ln.server.announce(sc)
		return nil
	}
	ln.passOptions(c.fd)
	socket := newSocket(&ln.socketConfig, c.fd, c.peer)
	socket.loop = ln.loop.pick(ln.nextLoop.Add(1))
	socket.ready.set(inQueue)
	if err := ln.register(socket); err != nil {
		socket.Close()
		if err == net.ErrClosed {
			return nil // the poller is being closed, or listening has ended
		}
		return err
	}
	if ln.idleTimeout > 0 {
		socket.watchIdle()
	}
	ln.server.announce(sc)
	return nil
}

// register puts socket on its loop and in the queue. From then on the poller may be closed and evict it: the
// descriptor is held open meanwhile.
func (ln *listener) register(socket *TcpSocket) error {
	socket.incref()
	defer socket.decref()
	err := socket.loop.add(socket, socket.fd, &socket.key)
	if queued := ln.server.enqueue(ln, socket, err); err == nil && !queued {
		err = net.ErrClosed
	}
	return err
}

// enqueue puts socket in the queue, unless err is not nil or listening or the connection has ended already.
func (s *TcpServer) enqueue(ln *listener, socket *TcpSocket, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.admitting = false
	if err != nil || s.cur != ln || socket.ready.has(failed) || socket.refs.Load()&refsClosing != 0 {
		return false
	}
	s.accepted++
	s.pending.PushBack(socket)
	s.wakeWaiting()
	if ln.newConnection != nil {
		s.strand.connections++
	}
	// This turn may be held up in the handler, and another was not to accept meanwhile.
	s.callAccept()
	return true
}

// acceptFailed sees to an error that the one connection does not explain: a shortage, which passes, or the end of
// listening.
func (ln *listener) acceptFailed(sc *scratch, err error, shortage bool) {
	s := ln.server
	err = opError(opAccept, ln.network, nil, ln.netAddr(), err)
	if shortage {
		s.beginShortage(ln, err)
		s.announce(sc)
	} else if s.stopListening(ln, err, err) {
		s.announce(sc)
	}
}

func (s *TcpServer) beginShortage(ln *listener, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != ln {
		return
	}
	if s.retry.short {
		s.err = err
	} else {
		s.keepFailure(ln, err)
	}
	s.retry.begin(func() { s.retryAccept(ln) })
}

// keepFailure has AcceptErrorHandler called. ln is, or was until now, the present listener: Close, and a Listen that
// follows, are not told of what came before. mu is held.
func (s *TcpServer) keepFailure(ln *listener, err error) {
	s.err = err
	if ln.acceptError != nil {
		s.strand.failure = acceptFailure{ln, err}
	}
}

// dropFailure has AcceptErrorHandler not called for what has befallen ln. mu is held.
func (s *TcpServer) dropFailure(ln *listener) {
	if s.strand.failure.ln == ln {
		s.strand.failure = acceptFailure{}
	}
}

// retryAccept is what the timer of the back-off calls.
func (s *TcpServer) retryAccept(ln *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == ln {
		s.retry.waiting = false
		s.callAccept()
	}
}

// descriptorFreed is told by each socket that has given back its descriptor.
func (s *TcpServer) descriptorFreed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retry.waiting {
		s.retry.timer.Stop()
		s.retry.waiting = false
		s.callAccept()
	}
}

// forget drops a connection that its peer has reset, if it is still pending.
func (s *TcpServer) dropReset(socket *TcpSocket) {
	s.mu.Lock()
	pending := s.dropPending(socket)
	s.mu.Unlock()
	if pending {
		socket.abort(ErrReset)
	}
}

// A backoff is the pause between attempts to accept while descriptors or memory are short: 5 ms, doubling to a
// second, as in net/http. It is guarded by TcpServer.mu.
type backoff struct {
	short   bool // since an attempt failed, until a round with an attempt ends without such a failure
	waiting bool // until the next attempt
	delay   time.Duration
	timer   *time.Timer
}

const (
	backoffMin = 5 * time.Millisecond
	backoffMax = time.Second
)

func (b *backoff) begin(retry func()) {
	b.short, b.waiting = true, true
	b.delay = min(max(2*b.delay, backoffMin), backoffMax)
	b.timer = time.AfterFunc(b.delay, retry)
}

// end forgets the shortage unless the next attempt is still to come.
func (b *backoff) end() {
	if !b.waiting {
		b.short, b.delay = false, 0
	}
}

func (b *backoff) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
	*b = backoff{}
}
