package tcpserver

import (
	"context"
	"slices"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// Shutdown closes the server and waits until every connection that was taken from it has ended and all handlers have
// returned, including the last Disconnected and ClosedHandler. It does not wait for a period that another goroutine
// begins with Listen meanwhile. It does not end connections: see [TcpServer.CloseConnections]. If ctx ends first,
// Shutdown returns ctx.Err(), and otherwise nil.
//
// If it is called in a handler, of this server or of any other object, Shutdown waits only for the connections to end,
// not for handlers, because it may be holding one up. It cannot detect that it holds up handlers in other ways: on the
// thread of an Executor, outside of a handler, Shutdown would wait for handlers that cannot run meanwhile. Use
// [TcpServer.CloseAsync] there. The same is true for a program that no longer runs its Executor.
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

// CloseAsync is [TcpServer.Close] with a callback. The callback runs where the handlers run, after the last connection
// has ended and after the last Disconnected and ClosedHandler, including those of earlier periods of listening. Its
// error is nil, or a *[net.OpError] with ErrNotListening if the server was neither bound nor listening; it waits for
// connections that have not ended in that case too.
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
		p.closeWaiters = append(p.closeWaiters, f)
		f.ends++
	}
	s.mu.Unlock()
	s.finishClose(ln)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeStepDone(f)
}

// A closeWaiter is a callback of CloseAsync.
type closeWaiter struct {
	ends int // how much must end before it: Close itself, and periods of listening
	call func()
}

// unfinished returns the periods of listening that have not ended, and the listener that is bound, which may begin to
// listen while it is being closed. mu is held.
func (s *TcpServer) unfinished() []*listener {
	periods := slices.Clone(s.periods)
	if s.bound != nil {
		periods = append(periods, s.bound)
	}
	return periods
}

// periodEnded counts the end of ln for those who wait for it. mu is held.
func (s *TcpServer) periodEnded(ln *listener) {
	for _, f := range ln.closeWaiters {
		s.closeStepDone(f)
	}
	ln.closeWaiters = nil
}

// closeStepDone counts one end, and schedules the callback after the last one. mu is held.
func (s *TcpServer) closeStepDone(f *closeWaiter) {
	if f.ends--; f.ends == 0 {
		s.strand.closed = append(s.strand.closed, f.call)
		s.wakeStrand()
	}
}

// countCallback returns a function that calls callback. Wait waits until that has returned. mu is held.
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

// CloseConnections aborts every connection that was taken from the server and has not ended; its peer gets a reset.
// Pending connections stay.
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

// These count the referenced servers that Wait waits for.
var (
	livingMu   sched.Mutex // guards both numbers
	alive      int         // servers that listen, have connections, or will call a handler or callback
	serving    int         // those of them that listen or have connections
	nobodyLeft = sched.NewCond(&livingMu)
)

// Wait waits until no server of the process has anything left to do: none listens or is about to
// ([TcpServer.ListenAsync]), none has connections, and the last Disconnected, ClosedHandler and callbacks of
// ListenAsync and CloseAsync have returned. Servers that [TcpServer.Unref] was called for do not count. A program that
// has nothing else to do can call Wait at the end of main. If ctx ends first, Wait returns ctx.Err(), and otherwise
// nil.
//
// If it is called in a handler, Wait does not wait for handlers and callbacks. It must not be called on the thread of
// an Executor outside of a handler: see [TcpServer.Shutdown].
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

// Ref makes [Wait] wait for the server, which is the default. A second call does nothing.
func (s *TcpServer) Ref() { s.setReferenced(true) }

// Unref makes [Wait] ignore the server. It may be called in any state, and stays in effect over Close and Listen. A
// second call does nothing.
func (s *TcpServer) Unref() { s.setReferenced(false) }

func (s *TcpServer) setReferenced(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unreferenced = !on
	s.recount()
}

// recount updates whether Wait waits for the server. It is called whenever that may have changed. mu is held.
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
