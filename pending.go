package tcpserver

import (
	"context"
	"iter"
	"net"
	"os"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// NextPendingConnection takes the connection that has been pending longest. It never blocks. It returns nil if none
// is pending.
func (s *TcpServer) NextPendingConnection() *TcpSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takePending()
}

// takePending takes the first connection of the queue, or returns nil. mu is held.
func (s *TcpServer) takePending() *TcpSocket {
	if s.pending.Len() == 0 {
		return nil
	}
	socket := s.popPending()
	s.callAccept()
	return socket
}

// popPending takes the first connection of the queue, which must not be empty. mu is held.
func (s *TcpServer) popPending() *TcpSocket {
	socket := s.pending.PopFront()
	socket.ready.clear(inQueue)
	return socket
}

// dropPending removes socket from the queue. It returns false if socket is not in it. mu is held.
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

// HasPendingConnections reports whether [TcpServer.NextPendingConnection] would return a connection now.
func (s *TcpServer) HasPendingConnections() bool { return s.PendingConnections() > 0 }

// PendingConnections returns the number of pending connections.
func (s *TcpServer) PendingConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending.Len()
}

// MaxPendingConnections returns the maximum number of pending connections. The default is 30.
func (s *TcpServer) MaxPendingConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max.limit()
}

// SetMaxPendingConnections sets the maximum number of pending connections; further ones wait in the system's backlog
// (see [TcpServer.Overflow]). It takes effect at once; connections that are already pending stay. If n <= 0, none is
// accepted until the limit is raised.
//
// Unlike Qt, raising the limit takes effect at once, even from 0.
func (s *TcpServer) SetMaxPendingConnections(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = maxPending(max(n, 0) - defaultMaxPending)
	s.callAccept()
}

// WaitForNewConnection waits until a connection can be taken. It returns at once if one is already pending. If
// several goroutines take connections, another one may be faster.
//
// It returns ctx.Err() if ctx has ended, even if connections are pending; [ErrNotListening] if the server has never
// listened; [ErrServerClosed] once it is closed, even if it listens again at once; and [os.ErrDeadlineExceeded] after
// the deadline ([TcpServer.SetDeadline]).
//
// Unlike Qt, it notices connections that were queued before the call, respects a pause, and returns nil only for a
// connection.
func (s *TcpServer) WaitForNewConnection(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.awaitPending(ctx, s.cur)
}

// AcceptSocket waits for a connection and takes it. The errors are those of [TcpServer.WaitForNewConnection].
func (s *TcpServer) AcceptSocket(ctx context.Context) (*TcpSocket, error) {
	return s.acceptIn(ctx, s.period())
}

// SetDeadline sets the time from which Accept, AcceptSocket, AcceptAsync and WaitForNewConnection fail with
// [os.ErrDeadlineExceeded], and Connections ends. It also applies to calls that already wait, and even if connections
// are pending. The zero time means no deadline. The deadline belongs to the current period of listening: each period
// begins without one. Connections are still accepted and queued, and NextPendingConnection still takes them. The
// error is a *[net.OpError] that wraps [ErrNotListening].
func (s *TcpServer) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return opError(opSet, "tcp", nil, nil, ErrNotListening)
	}
	s.cur.acceptBy.set(t)
	return nil
}

// Accept waits for a connection and takes it, as [net.Listener] specifies. The error is a *[net.OpError] that matches
// [net.ErrClosed] or, after the deadline, [os.ErrDeadlineExceeded]; its Timeout method then returns true.
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

// Connections returns an iterator that takes one connection after another and waits for each. It ends when ctx ends,
// the deadline passes or the server is closed, even if the server listens again at once.
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

// period returns the current period of listening, or nil. A caller waits for connections of one period, not for those
// that come after a Close.
func (s *TcpServer) period() *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// acceptIn waits for a connection in the period of ln and takes it.
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

// refusal returns the error that ends waiting in the period of ln, or nil. mu is held.
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

// waiting returns s.cond, which it makes if necessary. mu is held.
func (s *TcpServer) waiting() *sched.Cond {
	if s.cond == nil {
		s.cond = sched.NewCond(&s.mu)
	}
	return s.cond
}

// wakeWaiting wakes all who wait on s.cond, so that they check again. mu is held.
func (s *TcpServer) wakeWaiting() {
	if s.cond != nil {
		s.cond.Broadcast()
	}
}
