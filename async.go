package tcpserver

import (
	"context"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// ListenAsync calls [TcpServer.Listen] in the background, so that looking up a host name does not block the caller,
// and passes its error to callback. Close ends a lookup in progress; the error then wraps [ErrServerClosed].
//
// The callbacks of this and the other Async methods run where the handlers run: on the Executor or, if it is nil, on
// a goroutine of the poller, or on a separate one while the poller does not run. Each callback is called exactly
// once, unless the Executor no longer runs anything.
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
	sched.Go(func() {
		err = s.listen(ctx, ln, address)
		s.later(call)
	})
}

// NextPendingConnectionAsync passes the result of [TcpServer.NextPendingConnection] to callback; a nil socket means
// that none is pending. The connection is taken only when callback is called.
func (s *TcpServer) NextPendingConnectionAsync(callback func(server *TcpServer, socket *TcpSocket)) {
	s.adoptFields()
	s.later(func() { callback(s, s.NextPendingConnection()) })
}

// AcceptAsync waits for a connection in the background and passes it to callback, or one of the errors of
// [TcpServer.WaitForNewConnection]. The connection is taken only when callback is called.
func (s *TcpServer) AcceptAsync(ctx context.Context, callback func(server *TcpServer, socket *TcpSocket, err error)) {
	s.adoptFields()
	s.acceptAsync(ctx, s.period(), callback)
}

func (s *TcpServer) acceptAsync(ctx context.Context, ln *listener, callback func(*TcpServer, *TcpSocket, error)) {
	sched.Go(func() {
		s.mu.Lock()
		err := s.awaitPending(ctx, ln)
		s.mu.Unlock()
		s.later(func() {
			var socket *TcpSocket
			if err == nil {
				if socket, err = s.tryAccept(ctx, ln); socket == nil && err == nil {
					s.acceptAsync(ctx, ln, callback) // somebody else has taken the connection
					return
				}
			}
			callback(s, socket, err)
		})
	})
}

// tryAccept is like acceptIn but does not wait: it returns a nil socket if none is pending.
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

// ConnectionCountAsync passes the result of [TcpServer.ConnectionCount] to callback. The error is always nil.
func (s *TcpServer) ConnectionCountAsync(callback func(server *TcpServer, count int, err error)) {
	s.adoptFields()
	s.later(func() { callback(s, s.ConnectionCount(), nil) })
}
