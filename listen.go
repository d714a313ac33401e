package tcpserver

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Listen starts to listen. The network is "tcp", "tcp4", "tcp6" or "unix".
//
// For the TCP networks, the address is "host:port", as for [net.Listen]. Without a host, "tcp" accepts both IPv4 and
// IPv6 connections. If the port is 0, the system picks one. If the host is a name, Listen uses its first address;
// looking it up may take a while, and [TcpServer.ListenAsync] does not block the caller. The address "" is the same
// as ":0".
//
// For "unix", the address is a path, which must not exist and which Close removes (see [TcpServer.SetUnlinkOnClose]),
// or on Linux an abstract name that begins with '@'.
//
// The error is a *[net.OpError] that wraps [ErrAlreadyListening] or [ErrAlreadyBound], which leave the server as it
// is; [ErrInvalidAddress], [ErrInvalidPort] or [ErrBacklog]; [ErrUnsupported] if the platform has no poller or lacks
// an option; [net.ErrClosed] if the Poller is closed; or an error of the system, such as [syscall.EADDRINUSE],
// [syscall.EADDRNOTAVAIL] or [syscall.EACCES]. After an error, Listen can be called again.
func (s *TcpServer) Listen(network, address string) error {
	return s.listen(context.Background(), s.newListener(network), address)
}

// listen makes ln the server's listener, unless ctx ends first.
func (s *TcpServer) listen(ctx context.Context, ln *listener, address string) error {
	return s.report(ln.network, listenAddr{ln.network, address}, s.tryListen(ctx, ln, address))
}

// report wraps, stores and returns the error of a method that listens or binds.
func (s *TcpServer) report(network string, addr net.Addr, err error) error {
	if err == nil {
		return nil
	}
	err = opError(opListen, network, nil, addr, err)
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	return err
}

func (s *TcpServer) tryListen(ctx context.Context, ln *listener, address string) error {
	to, err := s.prepare(ctx, ln, address)
	if err != nil {
		return err
	}
	return retryBind(func() error {
		opened := false
		err := s.begin(ctx, ln, func() error {
			if err := s.mayBind(); err != nil {
				return err
			}
			if err := ln.bind(to); err != nil {
				return err
			}
			opened = true
			return sys.Listen(ln.fd, ln.backlog)
		})
		if err != nil && opened {
			ln.closeDescriptor()
		}
		return err
	})
}

// retryBind calls bind again while the address is in use, if the system may release it in a moment.
func retryBind(bind func() error) error {
	err := bind()
	for pause := time.Millisecond; sys.IsReleasing(err) && pause < 50*time.Millisecond; pause *= 2 {
		time.Sleep(pause)
		err = bind()
	}
	return err
}

// prepare resolves the address and checks everything that can be checked before anything is opened.
func (s *TcpServer) prepare(ctx context.Context, ln *listener, address string) (to target, err error) {
	if ln.backlog < 0 {
		return to, ErrBacklog
	}
	s.mu.Lock()
	err = s.mayBind()
	s.mu.Unlock()
	if err != nil {
		return to, err
	}
	to, err = resolve(ctx, ln.network, address)
	if ctx.Err() != nil {
		err = ErrServerClosed
	}
	if err == nil {
		err = ln.canBind(to)
	}
	return to, err
}

// canBind returns an error if the system or the address does not support what the configuration asks for.
func (ln *listener) canBind(to target) error {
	unix := to.addr.Family == sys.FamilyUnix
	switch {
	case !Supported():
		return ErrUnsupported
	case ln.reusePort && !unix && !sys.HasReusePort:
		return fmt.Errorf("%w: ReusePort", ErrUnsupported)
	case ln.socketMode != 0 && unix && !sys.HasFileModes:
		return fmt.Errorf("%w: SocketMode", ErrUnsupported)
	case ln.socketMode != 0 && isAbstract(to.path):
		return fmt.Errorf("%w: an abstract name has no permissions", ErrInvalidAddress)
	}
	return nil
}

// mayBind returns an error if the server has an address already. mu is held.
func (s *TcpServer) mayBind() error {
	switch {
	case s.cur != nil:
		return ErrAlreadyListening
	case s.bound != nil:
		return ErrAlreadyBound
	}
	return nil
}

// begin makes ln the server's listener and adds it to a loop. It calls open with mu held; open makes the descriptor
// listen. After an error, the descriptor is still open.
func (s *TcpServer) begin(ctx context.Context, ln *listener, open func() error) (err error) {
	l, err := ln.poller.acquire()
	if err != nil {
		return err
	}
	s.mu.Lock()
	if err = ctx.Err(); err != nil {
		err = ErrServerClosed
	} else {
		err = s.start(ln, l, open)
	}
	s.mu.Unlock()
	if err != nil {
		ln.poller.release()
	}
	return err
}

// start is the part of begin that needs the lock. It changes ln only after open has succeeded, because another
// ListenBound may have made ln the listener before. mu is held.
func (s *TcpServer) start(ln *listener, l *loop, open func() error) error {
	if err := open(); err != nil {
		return err
	}
	ln.loop = l
	if err := ln.loop.add(ln, ln.fd, &ln.key); err != nil {
		ln.loop.remove(ln.key)
		return err
	}
	s.strand.loop = ln.loop
	ln.dispatch = s.dispatchTo(ln.exec, ln.logger)
	s.strand.failure = acceptFailure{}
	ln.acceptBy.cond = s.waiting()
	s.periods = append(s.periods, ln)
	s.cur, s.bound, s.closed, s.err = ln, nil, false, nil
	s.recount()
	return nil
}

// Bind reserves an address without listening. Clients are refused until [TcpServer.ListenBound]. [TcpServer.Addr] and
// [TcpServer.Port] already return the address, and nobody else can bind it. The network and address are those of
// [TcpServer.Listen]. Bind copies the fields; ListenBound does not read them again.
//
// On Linux, Bind misses one conflict: an address that another program has bound with SO_REUSEADDR but does not listen
// on yet looks like one that only has connections in TIME_WAIT. Bind succeeds, and whichever of the two listens
// second fails with EADDRINUSE.
//
// The errors are those of Listen. An error changes nothing but [TcpServer.Err].
//
// Unlike Qt, a server can reserve its address before it listens.
func (s *TcpServer) Bind(network, address string) error {
	ln := s.newListener(network)
	return s.report(network, listenAddr{network, address}, s.tryBind(ln, address))
}

func (s *TcpServer) tryBind(ln *listener, address string) error {
	to, err := s.prepare(context.Background(), ln, address)
	if err != nil {
		return err
	}
	return retryBind(func() error { return s.reserve(ln, to) })
}

func (s *TcpServer) reserve(ln *listener, to target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayBind(); err != nil {
		return err
	}
	if err := ln.bind(to); err != nil {
		return err
	}
	s.bound, s.err = ln, nil
	return nil
}

// ListenBound listens on the address that [TcpServer.Bind] has reserved. The error is a *[net.OpError] that wraps
// [ErrNotBound], [ErrAlreadyListening], [net.ErrClosed] if the Poller is closed, or an error of the system; the
// address then stays reserved. It is released only if the poller runs out of memory or is closed when the system
// already listens: otherwise clients would connect that nobody serves.
func (s *TcpServer) ListenBound() error {
	s.mu.Lock()
	ln, listening := s.bound, s.cur
	s.mu.Unlock()
	switch {
	case listening != nil:
		return s.report(listening.network, listening.netAddr(), ErrAlreadyListening)
	case ln == nil:
		return s.report("tcp", nil, ErrNotBound)
	}
	listens := false
	err := s.begin(context.Background(), ln, func() error {
		switch { // another goroutine may have been faster
		case s.cur != nil:
			return ErrAlreadyListening
		case s.bound != ln:
			return ErrNotBound
		}
		err := sys.Listen(ln.fd, ln.backlog)
		listens = err == nil
		return err
	})
	if err != nil && listens {
		s.removeFile(ln)
		s.releaseBound(ln)
	}
	return s.report(ln.network, ln.netAddr(), err)
}

// bind opens the descriptor and binds it. server.mu is held.
func (ln *listener) bind(to target) (err error) {
	if to.addr.Family == sys.FamilyUnix {
		ln.addr, ln.path = to.addr, to.path
		if ln.fd, err = sys.BindUnix(ln.path, ln.socketMode); err == nil {
			ln.file, ln.unlink = fileAt(ln.path), true
		}
		return err
	}
	if ln.fd, ln.addr, err = sys.Bind(to.addr, to.dualStack, ln.reusePort); err != nil {
		return err
	}
	if err = ln.setKeepAlive(); err != nil {
		sys.Close(ln.fd)
	}
	return err
}

// setKeepAlive enables keep-alive on the descriptor, if configured, for accepted connections to inherit.
func (ln *listener) setKeepAlive() error {
	if !ln.keepAlive.Enable {
		return nil
	}
	return sys.SetKeepAlive(ln.fd, ln.keepAlive)
}

// passOptions sets the options that a connection has not inherited. A connection of an adopted listener may have
// arrived before its options were set. Errors are ignored: if the connection has already ended, that is noticed
// later.
func (ln *listener) passOptions(fd sys.FD) {
	if sys.OptionsInherited && !ln.adopted || ln.addr.Family == sys.FamilyUnix {
		return
	}
	sys.SetNoDelay(fd, true)
	if ln.keepAlive.Enable {
		sys.SetKeepAlive(fd, ln.keepAlive)
	}
}

// closeDescriptor undoes bind.
func (ln *listener) closeDescriptor() {
	sys.Close(ln.fd)
	ln.file.remove()
}

// address returns the listener whose address the server listens on or is bound to, or nil. mu is held.
func (s *TcpServer) address() *listener {
	if s.cur != nil {
		return s.cur
	}
	return s.bound
}

// IsBound reports whether the server has an address: after Bind, and while it listens.
func (s *TcpServer) IsBound() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address() != nil
}
