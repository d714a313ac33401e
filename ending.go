package tcpserver

import (
	"context"
	"net"
	"slices"
	"sync"
)

// Close stops listening, or gives up the address that Bind has reserved, and ends the pending connections, whose peers
// get an end of stream; those that the system still holds are reset by it. Sockets that were taken live on. Calls that
// wait for a connection return ErrServerClosed. Of the handlers only ClosedHandler is still called; called elsewhere
// than on the handlers' own goroutine, Close may find one running. The same address can be listened on again at once,
// by this server too; on Windows perhaps not before the connections have ended that were accepted there. On a server
// that is neither bound nor listening Close does nothing. It returns nil.
func (s *TcpServer) Close() error {
	s.mu.Lock()
	ln, bound := s.cur, s.bound
	s.bound = nil
	s.lane.failure = nil
	if s.life != nil {
		s.endLife()
		s.life = nil
	}
	s.mu.Unlock()
	if bound != nil {
		bound.closeDescriptor()
	}
	if ln != nil && s.stopListening(ln) {
		s.endCycle(ln, nil)
	}
	return nil
}

// evict ends the listening of a server whose poller is closed.
func (ln *listener) evict() {
	if ln.server.stopListening(ln) {
		ln.server.endCycle(ln, net.ErrClosed)
	}
}

// stopListening ends the period of ln, unless it has ended. endCycle follows.
func (s *TcpServer) stopListening(ln *listener) bool {
	s.mu.Lock()
	if s.cur != ln {
		s.mu.Unlock()
		return false
	}
	s.cur = nil
	s.closed = true
	s.retry.stop()
	s.lane.connections = 0
	s.lane.drops.Clear()
	var left []*TcpSocket
	for s.pending.Len() > 0 {
		left = append(left, s.popPending())
	}
	ln.loop.kern.remove(ln.fd, ln.key)
	sysClose(ln.fd)
	s.wakeWaiting()
	s.recount()
	s.mu.Unlock()

	ln.file.remove()
	for _, socket := range left {
		socket.Close()
	}
	ln.loop.remove(ln.key)
	ln.loop.poller.release()
	return true
}

// endCycle tells the end of ln's period when its last connection has ended too. cause is nil if the program itself has
// ended it.
func (s *TcpServer) endCycle(ln *listener, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.ended, ln.cause = true, cause
	s.tellClosed(ln)
}

// tellClosed has the handler and the callbacks called that wait for the end of ln's period, if it is over. mu is held.
func (s *TcpServer) tellClosed(ln *listener) {
	if !ln.ended || ln.members > 0 {
		return
	}
	i := slices.Index(s.cycles, ln)
	if i < 0 {
		return
	}
	s.cycles = slices.Delete(s.cycles, i, i+1)
	if f := ln.closedHandler; f != nil {
		s.lane.closed = append(s.lane.closed, func() { f(s, ln.cause) })
	}
	s.lane.closed = append(s.lane.closed, ln.onEnd...)
	if len(s.lane.closed) > 0 {
		s.wakeLane()
	}
}

// socketEnded is told by each socket when its connection ends.
func (s *TcpServer) socketEnded(socket *TcpSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveCount()
	s.dropPending(socket)
}

// leaveCount counts a connection less. mu is held.
func (s *TcpServer) leaveCount() {
	s.open--
	if s.open == 0 {
		s.wakeWaiting()
		s.recount()
	}
}

// socketGone is told by each socket after its Disconnected, if it has one.
func (s *TcpServer) socketGone(ln *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln.members--
	s.tellClosed(ln)
}

// CloseAsync is Close. The callback is called where the handlers are, after the last connection has ended and after
// ClosedHandler. Its error is nil, or ErrNotListening if the server was neither bound nor listening; connections that
// have not ended are waited for even so.
func (s *TcpServer) CloseAsync(callback func(server *TcpServer, err error)) {
	s.adoptFields()
	s.mu.Lock()
	var err error
	if s.address() == nil {
		err = opError(opClose, "tcp", nil, nil, ErrNotListening)
	}
	call := func() { callback(s, err) }
	if n := len(s.cycles); n > 0 {
		s.cycles[n-1].onEnd = append(s.cycles[n-1].onEnd, call)
		s.mu.Unlock()
		s.Close()
		return
	}
	s.mu.Unlock()
	s.Close()
	s.later(call)
}

// Shutdown closes the server, and waits until every connection has ended that was taken from it. It returns the
// context's own error when that ends first, and nil otherwise. It ends no connection: see CloseConnections.
func (s *TcpServer) Shutdown(ctx context.Context) error {
	s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	return waitOn(ctx, s.waiting(), func() bool { return s.open == 0 })
}

// CloseConnections aborts every connection that was taken from the server and has not ended: its peer gets a reset. The
// pending ones stay.
func (s *TcpServer) CloseConnections() {
	s.mu.Lock()
	var loops []*loop
	for _, ln := range s.cycles {
		for _, l := range ln.loop.peers {
			if !slices.Contains(loops, l) {
				loops = append(loops, l)
			}
		}
	}
	s.mu.Unlock()
	for _, l := range loops {
		for _, t := range l.tenants() {
			if socket, ok := t.(*TcpSocket); ok && socket.ln.server == s && socket.bits.Load()&inQueue == 0 {
				socket.Abort()
			}
		}
	}
}

// What Wait waits for.
var (
	aliveMu   sync.Mutex
	alive     int                      // referenced servers that listen or have connections; guarded by aliveMu
	aliveNone = sync.NewCond(&aliveMu) // there is none any more
)

// Wait waits until no server listens or has connections, but for those that Unref was called for: a program that has
// nothing else to do can end its main function with it. It returns the context's own error when that ends first.
func Wait(ctx context.Context) error {
	aliveMu.Lock()
	defer aliveMu.Unlock()
	return waitOn(ctx, aliveNone, func() bool { return alive == 0 })
}

// Ref has Wait wait for the server, as it does from the start. A second call does nothing.
func (s *TcpServer) Ref() { s.setReferenced(true) }

// Unref has Wait not wait for the server. It may be called in any state, and counts over Close and Listen. A second call
// does nothing.
func (s *TcpServer) Unref() { s.setReferenced(false) }

func (s *TcpServer) setReferenced(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unreferenced = !on
	s.recount()
}

// recount is called when it may have changed whether Wait waits for the server. mu is held.
func (s *TcpServer) recount() {
	counts := !s.unreferenced && (s.cur != nil || s.open > 0)
	if counts == s.counted {
		return
	}
	s.counted = counts
	aliveMu.Lock()
	defer aliveMu.Unlock()
	if counts {
		alive++
		return
	}
	alive--
	if alive == 0 {
		aliveNone.Broadcast()
	}
}
