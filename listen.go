package tcpserver

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Listen starts to listen. The network is "tcp", "tcp4" or "tcp6", or "unix".
//
// The address of the first three is "host:port", as for net.Listen: without a host, "tcp" takes IPv4 and IPv6
// connections alike, with port 0 the system picks one, and of a host name the first address is taken; "" is ":0".
// Looking a name up may take a while: ListenAsync does not keep the caller. The address of "unix" is a path, which must
// not exist and which Close removes (SetUnlinkOnClose), or on Linux an abstract name that begins with '@'.
//
// The error is a *net.OpError with ErrAlreadyListening or ErrAlreadyBound, which change nothing, with
// ErrInvalidAddress, ErrInvalidPort or ErrBacklog, with ErrUnsupported where there is no poller, with net.ErrClosed if
// the Poller is closed, or with the system's: syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EACCES. After an error
// the server can Listen again.
func (s *TcpServer) Listen(network, address string) error {
	return s.listen(context.Background(), s.newListener(network), address)
}

// listen makes ln the server's listener, unless ctx ends before.
func (s *TcpServer) listen(ctx context.Context, ln *listener, address string) error {
	return s.report(ln.network, listenAddr{ln.network, address}, s.tryListen(ctx, ln, address))
}

// report keeps and returns what a method that listens or binds has failed with.
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

// patiently calls bind again while the system may be about to give back an address that was closed just now.
func retryBind(bind func() error) error {
	err := bind()
	for pause := time.Millisecond; sys.IsReleasing(err) && pause < 50*time.Millisecond; pause *= 2 {
		time.Sleep(pause)
		err = bind()
	}
	return err
}

// prepare checks what can be checked before anything is opened.
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

// canBind returns an error if the system or the address has no such thing as the configuration asks for.
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

// mayBind returns why the server cannot be given another address. mu is held.
func (s *TcpServer) mayBind() error {
	switch {
	case s.cur != nil:
		return ErrAlreadyListening
	case s.bound != nil:
		return ErrAlreadyBound
	}
	return nil
}

// begin makes ln the server's listener and puts it on a loop. open is called with mu held and has the descriptor
// listen. The descriptor is left open after an error.
func (s *TcpServer) begin(ctx context.Context, ln *listener, open func() error) (err error) {
	if ln.loop, err = ln.poller.acquire(); err != nil {
		return err
	}
	s.mu.Lock()
	if err = ctx.Err(); err != nil {
		err = ErrServerClosed
	} else {
		err = s.start(ln, open)
	}
	s.mu.Unlock()
	if err != nil {
		ln.poller.release()
	}
	return err
}

// start is the part of begin under the lock.
func (s *TcpServer) start(ln *listener, open func() error) error {
	if err := open(); err != nil {
		return err
	}
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

// Bind reserves an address without listening: clients are refused until ListenBound, Addr and Port are known, and
// nobody else can bind the same address. Network and address are those of Listen. The fields are copied by Bind, and
// ListenBound does not look at them again.
//
// On Linux one case goes unnoticed: an address that another program has bound with SO_REUSEADDR and does not listen on
// yet cannot be told from one that only remembers earlier connections. Bind succeeds, and whichever of the two listens
// second fails with EADDRINUSE.
//
// The errors are those of Listen. They change nothing.
//
// Unlike Qt, which has no such step.
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

// ListenBound listens on the address that Bind has reserved. The error is a *net.OpError with ErrNotBound,
// ErrAlreadyListening, net.ErrClosed if the Poller is closed, or the system's; the address stays reserved then. It is
// given up only if the system listens already when the poller fails for want of memory, or is closed at that moment:
// clients would be taken that nobody serves.
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
		if s.bound != ln {
			return ErrNotBound // somebody else has been quicker
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

// setKeepAlive sets what accepted connections inherit.
func (ln *listener) setKeepAlive() error {
	if !ln.keepAlive.Enable {
		return nil
	}
	return sys.SetKeepAlive(ln.fd, ln.keepAlive)
}

// passOptions gives a connection what it has not inherited: of an adopted listener, one that had come before. That a
// connection is gone already is found out later.
func (ln *listener) passOptions(fd sys.FD) {
	if sys.OptionsInherited && !ln.adopted || ln.addr.Family == sys.FamilyUnix {
		return
	}
	sys.SetNoDelay(fd, true)
	if ln.keepAlive.Enable {
		sys.SetKeepAlive(fd, ln.keepAlive)
	}
}

// closeDescriptor gives back what bind has opened.
func (ln *listener) closeDescriptor() {
	sys.Close(ln.fd)
	ln.file.remove()
}

// address returns the listener whose address the server has: it listens there or is bound to it. nil: it has none.
// mu is held.
func (s *TcpServer) address() *listener {
	if s.cur != nil {
		return s.cur
	}
	return s.bound
}

// IsBound reports whether the server has an address: since Bind, and while it listens.
func (s *TcpServer) IsBound() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address() != nil
}
