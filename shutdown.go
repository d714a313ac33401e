package tcpserver

import (
	"context"
	"slices"
	"sync"
)

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

// A farewell is a callback of CloseAsync.
type closeWaiter struct {
	ends int // what has to end before it: Close itself, and periods of listening
	call func()
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
			if socket, ok := t.(*TcpSocket); ok && socket.config.listener.server == s && !socket.ready.has(inQueue) {
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
