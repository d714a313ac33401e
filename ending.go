package tcpserver

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"
)

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
	s.leaveCount(socket.ln)
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

// A farewell is a callback of CloseAsync.
type closeWaiter struct {
	ends int // what has to end before it: Close itself, and periods of listening
	call func()
}

// CloseAsync is Close. The callback is called where the handlers are, after the last connection has ended and after the
// last Disconnected and ClosedHandler, also of earlier periods of listening. Its error is nil, or ErrNotListening if
// the server was neither bound nor listening; connections that have not ended are waited for even so.
func (s *TcpServer) CloseAsync(callback func(server *TcpServer, err error)) {
	s.adoptFields()
	s.mu.Lock()
	periods, ln := s.unfinished(), s.beginClose()
	var err error
	if ln == nil {
		err = opError(opClose, "tcp", nil, nil, ErrNotListening)
	}
	f := &closeWaiter{ends: 1, call: s.countCallback(func() { callback(s, err) })}
	for _, p := range periods {
		if !p.told { // the handlers of the others are called before the callback anyway
			p.closeWaiters = append(p.closeWaiters, f)
			f.ends++
		}
	}
	s.mu.Unlock()
	s.finishClose(ln)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeStepDone(f)
}

// unfinished returns the periods of listening that are not over, and the listener that is bound, which may begin one
// while it is being closed. mu is held.
func (s *TcpServer) unfinished() []*listener {
	periods := slices.Clone(s.periods)
	if s.bound != nil {
		periods = append(periods, s.bound)
	}
	return periods
}

// sayFarewells follows the end of ln. mu is held.
func (s *TcpServer) periodEnded(ln *listener) {
	for _, f := range ln.closeWaiters {
		s.closeStepDone(f)
	}
}

// sayFarewell has the callback called if nothing more has to end before it. mu is held.
func (s *TcpServer) closeStepDone(f *closeWaiter) {
	if f.ends--; f.ends == 0 {
		s.strand.closed = append(s.strand.closed, f.call)
		s.wakeStrand()
	}
}

// owe has Wait wait until the function that it returns has called callback. mu is held.
func (s *TcpServer) countCallback(callback func()) func() {
	s.callbacks++
	s.recount()
	return func() {
		defer func() {
			s.mu.Lock()
			s.callbacks--
			s.recount()
			s.mu.Unlock()
		}()
		callback()
	}
}

// Shutdown closes the server, and waits until every connection has ended that was taken from it and all handlers have
// returned: the last Disconnected, and ClosedHandler. What another goroutine's Listen begins meanwhile is not waited
// for. It returns the context's own error when that ends first, and nil otherwise. It ends no connection: see
// CloseConnections.
//
// Called in a handler, of this server or of any other object, Shutdown waits for the end of the connections alone, and
// not for handlers, of which it may be holding one up. It cannot tell that it holds up handlers in other ways: on an
// Executor's own thread, outside of a handler, Shutdown waits for handlers that cannot run there meanwhile. Use
// CloseAsync on such a thread. The same goes for a program that has stopped running its Executor.
func (s *TcpServer) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	periods, ln := s.unfinished(), s.beginClose()
	s.mu.Unlock()
	s.finishClose(ln)
	lasts := func(ln *listener) bool { return slices.Contains(s.periods, ln) }
	if inHandler() {
		lasts = func(ln *listener) bool { return ln.open > 0 }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return waitOn(ctx, s.waiting(), func() bool { return !slices.ContainsFunc(periods, lasts) })
}

// CloseConnections aborts every connection that was taken from the server and has not ended: its peer gets a reset. The
// pending ones stay.
func (s *TcpServer) CloseConnections() {
	s.mu.Lock()
	var loops []*loop
	for _, ln := range s.periods {
		for _, l := range ln.loop.peers {
			if !slices.Contains(loops, l) {
				loops = append(loops, l)
			}
		}
	}
	s.mu.Unlock()
	for _, l := range loops {
		for _, t := range l.sources() {
			if socket, ok := t.(*TcpSocket); ok && socket.ln.server == s && socket.bits.Load()&inQueue == 0 {
				socket.Abort()
			}
		}
	}
}

// What Wait waits for: the referenced servers that have something left to do.
var (
	livingMu   sync.Mutex // guards both numbers
	alive      int        // those that listen, have connections, or are to call a handler or callback
	serving    int        // of them, those that listen or have connections
	nobodyLeft = sync.NewCond(&livingMu)
)

// Wait waits until no server has anything left to do, but for those that Unref was called for: none listens or is about
// to (ListenAsync), none has connections, and the last Disconnected, ClosedHandler and callbacks of ListenAsync and
// CloseAsync have returned. A program that has nothing else to do can end its main function with it. It returns the
// context's own error when that ends first.
//
// Called in a handler, Wait does not wait for handlers and callbacks; on an Executor's own thread it must not be called
// outside of one. See Shutdown.
func Wait(ctx context.Context) error {
	inHandler := inHandler()
	livingMu.Lock()
	defer livingMu.Unlock()
	return waitOn(ctx, nobodyLeft, func() bool {
		if inHandler {
			return serving == 0
		}
		return alive == 0
	})
}

// Ref has Wait wait for the server, as it does from the start. A second call does nothing.
func (s *TcpServer) Ref() { s.setReferenced(true) }

// Unref has Wait not wait for the server. It may be called in any state, and counts over Close and Listen. A second
// call does nothing.
func (s *TcpServer) Unref() { s.setReferenced(false) }

func (s *TcpServer) setReferenced(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unreferenced = !on
	s.recount()
}

// recount is called when it may have changed whether Wait waits for the server. mu is held.
func (s *TcpServer) recount() {
	serves := !s.unreferenced && (s.cur != nil || s.open > 0)
	lives := serves || !s.unreferenced && (len(s.periods) > 0 || s.callbacks > 0)
	if serves == s.counted.serving && lives == s.counted.alive {
		return
	}
	livingMu.Lock()
	defer livingMu.Unlock()
	recountOne(&serving, &s.counted.serving, serves)
	recountOne(&alive, &s.counted.alive, lives)
}

func recountOne(n *int, counted *bool, counts bool) {
	switch {
	case counts && !*counted:
		*n++
	case *counted && !counts:
		*n--
	}
	*counted = counts
	if *n == 0 {
		nobodyLeft.Broadcast()
	}
}
