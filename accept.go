package tcpserver

import (
	"net"
	"os"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// The server has three reasons not to accept. Each begins and ends independently of the others:
//
//	reason       begins when                            ends when
//	paused       PauseAccepting is called               ResumeAccepting is called
//	full         the queue reaches its limit            a connection leaves the queue, or the limit is raised
//	backing off  descriptors or memory have run out     the pause is over, or one of the server's sockets has ended
//
// While there is a reason, accept is not called, and further connections wait in the backlog. With OverflowDrop, a
// full queue is not a reason.

// acceptRound is the maximum number of connections accepted by one call of acceptMany.
const acceptRound = 64

// PauseAccepting stops accepting until [TcpServer.ResumeAccepting]. Pending connections stay in the queue and can be
// taken. A connection that the server is accepting at that moment is still queued: see [TcpServer.IsAccepting].
// PauseAccepting may be called in any state: it takes effect even before Listen, and remains in effect after Close and
// Listen. Pauses are not counted: one ResumeAccepting ends them all.
//
// Unlike Qt, NextPendingConnection does not end a pause.
func (s *TcpServer) PauseAccepting() {
	s.mu.Lock()
	s.paused = true
	s.mu.Unlock()
}

// ResumeAccepting ends the effect of [TcpServer.PauseAccepting]. It may be called in any state.
func (s *TcpServer) ResumeAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	s.callAccept()
}

// IsAccepting reports whether connections may be queued now. Either the server listens and has no reason not to accept:
// it is not paused, its queue is not full, and it is not waiting for descriptors or memory. Or it is still accepting a
// connection with which it began before it had such a reason. Once IsAccepting has returned false after
// [TcpServer.PauseAccepting], no connection is queued until [TcpServer.ResumeAccepting].
func (s *TcpServer) IsAccepting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mayAccept() && !s.isFull() || s.cur != nil && s.cur.admitting
}

// mayAccept reports whether the server listens and has no reason not to accept. With OverflowDrop, a full queue is
// not a reason: the connection is accepted and dropped. mu is held.
func (s *TcpServer) mayAccept() bool {
	return s.cur != nil && !s.paused && !s.retry.waiting && (!s.isFull() || s.cur.overflow == OverflowDrop)
}

// callAccept asks the loop to accept, if there may be connections and there is no reason not to. mu is held.
func (s *TcpServer) callAccept() {
	if ln := s.cur; s.mayAccept() && ln.ready && !ln.called && !ln.admitting {
		ln.called = true
		ln.loop.post(ln)
	}
}

// onReady handles an event of the descriptor: there are connections to accept.
func (ln *listener) onReady(sc *scratch, _ events) {
	ln.server.mu.Lock()
	ln.ready, ln.called = true, false
	ln.server.mu.Unlock()
	ln.acceptMany(sc)
}

// onPost handles the server's own request: a reason not to accept has ended.
func (ln *listener) onPost(sc *scratch) {
	ln.server.mu.Lock()
	ln.called = false
	ln.server.mu.Unlock()
	ln.acceptMany(sc)
}

// acceptMany accepts until there are no more connections, there is a reason not to accept, or acceptRound is reached.
func (ln *listener) acceptMany(sc *scratch) {
	s := ln.server
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

// onTick and onLate make the listener a source, together with onPollerClose (close.go). It has no wheel entries.
func (ln *listener) onTick(uint32) uint32 { return 0 }

func (ln *listener) onLate(sc *scratch) { sc.release() }

// A candidate is the result of an accept.
type candidate struct {
	fd      sys.FD
	peer    sys.Addr
	errno   sys.Errno // if nonzero, why there is no connection
	tooMany bool      // the connection exceeds a limit and is dropped for reason
	reason  DropReason
}

// accept takes one connection from the system. ok is false if there is none, or if there is a reason not to accept.
// The system call does not block, so it is made under mu, which makes a reference to the descriptor unnecessary.
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
	ln.loop.poller.retain() // on behalf of the connection: listening may end at any moment
	if c.reason, c.tooMany = s.limit(); !c.tooMany {
		s.open++
		ln.open++
		ln.members++
	}
	return c, true
}

// acceptShared accepts on an open file description that others share and may put into blocking mode. If they do so
// between two of its system calls, accept blocks. It must then hold up only its own goroutine, which the watchdog
// replaces on the loop, so mu is released meanwhile; not if no connection waits, so that Close usually finds the
// descriptor without references. A connection that arrives after listening has ended is closed, as the pending ones
// are. mu is held on entry and on return.
func (ln *listener) acceptShared() (fd sys.FD, peer sys.Addr, e sys.Errno) {
	s := ln.server
	if waits, e := sys.HasConnection(ln.fd); e != 0 {
		return 0, sys.Addr{}, e
	} else if !waits {
		return 0, sys.Addr{}, sys.EAGAIN
	}
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

// incref keeps the descriptor open until decref, while mu is not held. It returns false if the descriptor is closed.
// mu is held in both calls.
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

// close closes the descriptor as soon as there are no references to it. mu is held.
func (ln *listener) close() {
	ln.closed = true
	if ln.uses == 0 {
		sys.Close(ln.fd)
	}
}

// admit makes a socket of the connection, queues it and calls the handlers, or drops the connection. It returns an
// error if memory has run out.
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

// register adds socket to its loop and to the queue. From then on, the poller may be closed and end the socket, so
// register holds a reference to the descriptor.
func (ln *listener) register(socket *TcpSocket) error {
	socket.incref()
	defer socket.decref()
	err := socket.loop.add(socket, socket.fd, &socket.key)
	if queued := ln.server.enqueue(ln, socket, err); err == nil && !queued {
		err = net.ErrClosed
	}
	return err
}

// enqueue adds socket to the queue. It returns false if err is not nil, or if listening or the connection has ended
// already.
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
	// A handler may hold up this goroutine now, and one that has taken over the loop did not accept while admitting
	// was set.
	s.callAccept()
	return true
}

// acceptFailed handles an error that is not specific to one connection. A shortage passes; any other error ends
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

// keepFailure stores err for AcceptErrorHandler. ln is the current listener, or was until now: errors from before a
// Close or another Listen are not reported. mu is held.
func (s *TcpServer) keepFailure(ln *listener, err error) {
	s.err = err
	if ln.acceptError != nil {
		s.strand.failure = acceptFailure{ln, err}
	}
}

// dropFailure discards an error of ln that AcceptErrorHandler was not called for yet. mu is held.
func (s *TcpServer) dropFailure(ln *listener) {
	if s.strand.failure.ln == ln {
		s.strand.failure = acceptFailure{}
	}
}

// retryAccept is called by the timer of the back-off.
func (s *TcpServer) retryAccept(ln *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == ln {
		s.retry.waiting = false
		s.callAccept()
	}
}

// descriptorFreed is called by each socket that has closed its descriptor. If the server is backing off, it tries
// again at once.
func (s *TcpServer) descriptorFreed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retry.waiting {
		s.retry.timer.Stop()
		s.retry.waiting = false
		s.callAccept()
	}
}

// dropReset ends a connection that its peer has reset, if it is still pending.
func (s *TcpServer) dropReset(socket *TcpSocket) {
	s.mu.Lock()
	pending := s.dropPending(socket)
	s.mu.Unlock()
	if pending {
		socket.abort(ErrReset)
	}
}

// A backoff is the pause between attempts to accept while descriptors or memory are short: 5 ms, doubled up to one
// second, as in net/http. It is guarded by TcpServer.mu.
type backoff struct {
	short   bool // an attempt has failed, and no later acceptMany has tried without such a failure
	waiting bool // the pause is not over
	delay   time.Duration
	timer   *sched.Timer
}

const (
	backoffMin = 5 * time.Millisecond
	backoffMax = time.Second
)

func (b *backoff) begin(retry func()) {
	b.short, b.waiting = true, true
	b.delay = min(max(2*b.delay, backoffMin), backoffMax)
	b.timer = sched.AfterFunc(b.delay, retry)
}

// end ends the shortage, unless the next attempt is still to come.
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
