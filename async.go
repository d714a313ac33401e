package tcpserver

import (
	"context"
)

// ListenAsync is Listen, in the background: looking up a host name keeps nobody. The callback gets its error. Close
// ends a look-up that is under way; the error is ErrServerClosed then.
//
// The callbacks of this and the other Async methods run where the handlers do: on the Executor or, without one, on a
// goroutine of the poller, or on one of their own while the poller does not run. Each is called exactly once, unless
// the executor no longer runs anything.
func (s *TcpServer) ListenAsync(network, address string, callback func(server *TcpServer, err error)) {
	s.adoptFields()
	ln := s.newListener(network)
	s.mu.Lock()
	if s.life == nil {
		s.life, s.endLife = context.WithCancel(context.Background())
	}
	ctx := s.life
	var err error
	call := s.countCallback(func() { callback(s, err) })
	s.mu.Unlock()
	go func() {
		err = s.listen(ctx, ln, address)
		s.later(call)
	}()
}

// NextPendingConnectionAsync takes the connection that has waited longest when the callback is called, and passes it
// on; nil means that none is pending.
func (s *TcpServer) NextPendingConnectionAsync(callback func(server *TcpServer, socket *TcpSocket)) {
	s.adoptFields()
	s.later(func() { callback(s, s.NextPendingConnection()) })
}

// AcceptAsync waits for a connection and takes it when the callback is called. The callback gets the connection or
// one of the errors of WaitForNewConnection.
func (s *TcpServer) AcceptAsync(ctx context.Context, callback func(server *TcpServer, socket *TcpSocket, err error)) {
	s.adoptFields()
	s.acceptAsync(ctx, s.period(), callback)
}

func (s *TcpServer) acceptAsync(ctx context.Context, ln *listener, callback func(*TcpServer, *TcpSocket, error)) {
	go func() {
		s.mu.Lock()
		err := s.awaitPending(ctx, ln)
		s.mu.Unlock()
		s.later(func() {
			var socket *TcpSocket
			if err == nil {
				if socket, err = s.tryAccept(ctx, ln); socket == nil && err == nil {
					s.acceptAsync(ctx, ln, callback) // another was quicker
					return
				}
			}
			callback(s, socket, err)
		})
	}()
}

// tryAccept is acceptIn without waiting: nil means that none is pending.
func (s *TcpServer) tryAccept(ctx context.Context, ln *listener) (*TcpSocket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusal(ln); err != nil {
		return nil, err
	}
	return s.takePending(), nil
}

// ConnectionCountAsync passes on ConnectionCount. The error is nil.
func (s *TcpServer) ConnectionCountAsync(callback func(server *TcpServer, count int, err error)) {
	s.adoptFields()
	s.later(func() { callback(s, s.ConnectionCount(), nil) })
}
