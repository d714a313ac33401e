package tcpserver

import (
	"context"
	"iter"
	"net"
	"os"
	"sync"
	"time"
)

// NextPendingConnection takes the connection that has waited longest. It never blocks: nil means that none is
// pending.
func (s *TcpServer) NextPendingConnection() *TcpSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takePending()
}

// takePending takes the first of the queue, or nil. mu is held.
func (s *TcpServer) takePending() *TcpSocket {
	if s.pending.Len() == 0 {
		return nil
	}
	socket := s.popPending()
	s.callAccept()
	return socket
}

// popPending takes the first of the queue, which is not empty. mu is held.
func (s *TcpServer) popPending() *TcpSocket {
	socket := s.pending.PopFront()
	socket.ready.clear(inQueue)
	return socket
}

// dropPending takes socket out of the queue if it is in it. mu is held.
func (s *TcpServer) dropPending(socket *TcpSocket) bool {
	if !socket.ready.has(inQueue) {
		return false
	}
	i := s.pending.Index(func(p *TcpSocket) bool { return p == socket })
	if i < 0 {
		return false
	}
	s.pending.Remove(i)
	socket.ready.clear(inQueue)
	s.callAccept()
	return true
}

// HasPendingConnections reports whether NextPendingConnection would return a connection now.
func (s *TcpServer) HasPendingConnections() bool { return s.PendingConnections() > 0 }

// PendingConnections returns how many connections are pending.
func (s *TcpServer) PendingConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending.Len()
}

// MaxPendingConnections returns how many connections may be pending. Default: 30.
func (s *TcpServer) MaxPendingConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max.limit()
}

// SetMaxPendingConnections sets how many connections may be pending; the rest wait in the system. It takes effect at
// once. What is pending already stays. n <= 0: none is accepted until the limit is raised.
//
// Unlike Qt, a limit that is raised counts at once, and one of 0 can be recovered from.
func (s *TcpServer) SetMaxPendingConnections(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = maxPending(max(n, 0) - defaultMaxPending)
	s.callAccept()
}

// WaitForNewConnection waits until a connection can be taken, and returns at once if one can be already; where
// several goroutines take connections, another may be quicker. It returns the context's own error when that has ended,
// whatever is pending, ErrNotListening if the server has never listened, ErrServerClosed once it is closed, also if it
// listens again at once, and os.ErrDeadlineExceeded after the deadline (SetDeadline).
//
// Unlike Qt, it sees what was queued before, respects a pause, and never returns nil for nothing.
func (s *TcpServer) WaitForNewConnection(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.awaitPending(ctx, s.cur)
}

// AcceptSocket waits for a connection and takes it. It returns the errors of WaitForNewConnection.
func (s *TcpServer) AcceptSocket(ctx context.Context) (*TcpSocket, error) {
	return s.acceptIn(ctx, s.period())
}

// SetDeadline sets when Accept, AcceptSocket, AcceptAsync, WaitForNewConnection and Connections begin to fail with
// os.ErrDeadlineExceeded, also those that wait already, and whatever is pending. The zero time is no deadline. It
// concerns the present period of listening alone: each begins without a deadline. Connections are accepted and queued
// as ever, and NextPendingConnection takes them. The error is a *net.OpError with ErrNotListening.
func (s *TcpServer) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return opError(opSet, "tcp", nil, nil, ErrNotListening)
	}
	s.cur.acceptBy.set(t)
	return nil
}

// Accept waits for a connection and takes it, for programs that want a net.Listener. The error is a *net.OpError
// that matches net.ErrClosed, or os.ErrDeadlineExceeded after the deadline, when its Timeout method returns true.
func (s *TcpServer) Accept() (net.Conn, error) {
	addr, network := s.Addr(), "tcp"
	if addr != nil {
		network = addr.Network()
	}
	socket, err := s.AcceptSocket(context.Background())
	if err != nil {
		return nil, opError(opAccept, network, nil, addr, err)
	}
	return socket, nil
}

// Connections takes one connection after the other, waiting for each, until ctx or the deadline ends or the server
// closes. If it listens again then, the loop ends even so.
//
//	for socket := range server.Connections(ctx) {
//		go serve(socket)
//	}
func (s *TcpServer) Connections(ctx context.Context) iter.Seq[*TcpSocket] {
	return func(yield func(*TcpSocket) bool) {
		ln := s.period()
		for {
			socket, err := s.acceptIn(ctx, ln)
			if err != nil || !yield(socket) {
				return
			}
		}
	}
}

// period returns the present period of listening, or nil. Who waits for connections waits for those of one period:
// what comes after a Close is not for them.
func (s *TcpServer) period() *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// acceptIn waits for a connection of the period of ln and takes it.
func (s *TcpServer) acceptIn(ctx context.Context, ln *listener) (*TcpSocket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.awaitPending(ctx, ln); err != nil {
		return nil, err
	}
	return s.takePending(), nil
}

// awaitPending waits until the queue is not empty, in the period of ln. mu is held.
func (s *TcpServer) awaitPending(ctx context.Context, ln *listener) error {
	var err error
	ctxErr := waitOn(ctx, s.waiting(), func() bool {
		err = s.refusal(ln)
		return err != nil || s.pending.Len() > 0
	})
	if ctxErr != nil {
		return ctxErr
	}
	return err
}

// refusal returns why there is nothing to wait for in the period of ln; nil: there is. mu is held.
func (s *TcpServer) refusal(ln *listener) error {
	switch {
	case ln == nil && !s.closed:
		return ErrNotListening
	case ln == nil || s.cur != ln:
		return ErrServerClosed
	case ln.acceptBy.expired:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// waiting returns what to wait on. mu is held.
func (s *TcpServer) waiting() *sync.Cond {
	if s.cond == nil {
		s.cond = sync.NewCond(&s.mu)
	}
	return s.cond
}

// wakeWaiting has those who wait look again. mu is held.
func (s *TcpServer) wakeWaiting() {
	if s.cond != nil {
		s.cond.Broadcast()
	}
}
