package tcpserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"reflect"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// ListenFile listens on a descriptor that was opened elsewhere, for example by systemd or by a parent process that
// passes it in ExtraFiles. f must be a stream socket that listens or is bound; one that is only bound is made to
// listen. A nonzero Backlog is applied to both. The server uses a duplicate: the program still has to close f. All
// duplicates share the non-blocking mode; ListenFile sets it, and the server sets it again if somebody clears it, as
// [os.File.Fd] does. Close does not remove the file of a unix socket, unless [TcpServer.SetUnlinkOnClose] says
// otherwise.
//
// Others who accept from the descriptor should leave that mode alone. If somebody clears it and takes the connection
// just when the server is about to accept, the server's accept blocks until the next connection. Everything else goes
// on, but Close does not end that accept: until a client connects, whose connection is then dropped, the server keeps
// its duplicate and with it the address. The same is true of [TcpServer.ListenOn] and [TcpServer.File].
//
// The error is a *[net.OpError] that wraps [ErrAlreadyListening], [ErrAlreadyBound] or [ErrBacklog]; [ErrNotBound];
// [syscall.ENOTSOCK] if f is not a socket, [syscall.EPROTOTYPE] if it is not a stream socket, [syscall.EISCONN] if it
// is a connection; or another error of [TcpServer.Listen].
func (s *TcpServer) ListenFile(f *os.File) error { return s.adopt(f, false) }

// ListenOn listens on the socket of l, a *[net.TCPListener] or *[net.UnixListener]. The server uses a duplicate: the
// program still has to close l, and must not accept from it meanwhile. The errors are those of
// [TcpServer.ListenFile], and [ErrInvalidAddress] if l has another type.
//
// The server takes over the removal of a unix socket's file: l no longer removes it, and Close removes it if l would
// have. Unless its SetUnlinkOnClose was called, a listener from [net.Listen] would have removed it, and one from
// [net.FileListener] would not. A file at a relative path stays: see [TcpServer.SetUnlinkOnClose].
func (s *TcpServer) ListenOn(l net.Listener) error {
	switch l := l.(type) {
	case *net.TCPListener:
		return s.adopt(l, false)
	case *net.UnixListener:
		err := s.adopt(l, unlinksOnClose(l))
		// On Plan 9 there is no such method.
		if u, ok := any(l).(interface{ SetUnlinkOnClose(bool) }); ok && err == nil {
			u.SetUnlinkOnClose(false)
		}
		return err
	}
	return s.report("tcp", nil, fmt.Errorf("%w: unsupported listener type %T", ErrInvalidAddress, l))
}

// unlinksOnClose reports whether l removes its file when it is closed, as set by package net or by its
// SetUnlinkOnClose. Package net has no method that returns this, so unlinksOnClose reads the field. If a future
// version has no such field, it assumes the documented default of listeners.
func unlinksOnClose(l *net.UnixListener) bool {
	if l == nil {
		return false
	}
	field := reflect.ValueOf(l).Elem().FieldByName("unlink")
	return field.Kind() != reflect.Bool || field.Bool()
}

// adopt listens on a duplicate of c's descriptor.
func (s *TcpServer) adopt(c syscall.Conn, unlink bool) error {
	ln := s.newListener("tcp")
	ln.adopted, ln.shared, ln.unlink = true, true, unlink
	err := s.tryAdopt(ln, c)
	return s.report(ln.network, ln.netAddr(), err)
}

func (s *TcpServer) tryAdopt(ln *listener, c syscall.Conn) error {
	switch {
	case !Supported():
		return ErrUnsupported
	case ln.backlog < 0:
		return ErrBacklog
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	if err = raw.Control(func(fd uintptr) { ln.fd, dupErr = sys.Dup(sys.FD(fd)) }); err == nil {
		err = dupErr
	}
	if err != nil {
		return err
	}
	listening, err := ln.inspect()
	if err == nil {
		err = s.begin(context.Background(), ln, func() error {
			if err := s.mayBind(); err != nil {
				return err
			}
			return ln.takeOver(listening)
		})
	}
	if err != nil {
		sys.Close(ln.fd)
	}
	return err
}

// takeOver sets what the server needs on a descriptor that others share. passOptions sets, on each connection,
// options that are not inherited, or that were set after it arrived.
func (ln *listener) takeOver(listening bool) error {
	if err := sys.SetNonblock(ln.fd); err != nil {
		return err
	}
	if ln.addr.Family != sys.FamilyUnix {
		if err := ln.setKeepAlive(); err != nil {
			return err
		}
	}
	if listening && ln.backlog == 0 {
		return nil
	}
	return sys.Listen(ln.fd, ln.backlog)
}

// inspect finds out what kind of descriptor ln has, and changes nothing.
func (ln *listener) inspect() (listening bool, err error) {
	if listening, err = sys.IsListening(ln.fd); err != nil {
		return false, err
	}
	if ln.addr, err = sys.LocalAddr(ln.fd); err != nil {
		return false, err
	}
	switch ln.addr.Family {
	case sys.FamilyNone:
		return false, syscall.EAFNOSUPPORT
	case sys.FamilyUnix:
		ln.network, ln.path = "unix", sys.LocalPath(ln.fd)
		ln.file = adoptedFile(ln.path)
	}
	if !listening && ln.addr.Port == 0 && ln.path == "" {
		return false, ErrNotBound
	}
	return listening, nil
}

// File returns a duplicate of the descriptor that listens or is bound, for example to pass it to another process. The
// program has to close it. Closing the server does not affect the duplicate, which still receives connections. Close
// removes the path of a unix socket, unless [TcpServer.SetUnlinkOnClose] says otherwise. The error is a
// *[net.OpError] that wraps [ErrNotListening] or an error of the system.
//
// To hand over to another server or process without losing a connection, wait until that serves the file with
// ListenFile. Then call [TcpServer.PauseAccepting], wait until [TcpServer.IsAccepting] returns false, take the pending
// connections, which Close would end, and call [TcpServer.Shutdown].
func (s *TcpServer) File() (*os.File, error) {
	ln, fd, err := s.duplicate()
	if ln == nil {
		return nil, opError(opFile, "tcp", nil, nil, ErrNotListening)
	}
	if err != nil {
		return nil, opError(opFile, ln.network, nil, ln.netAddr(), err)
	}
	return os.NewFile(uintptr(fd), ln.network+":"+ln.netAddr().String()), nil
}

// duplicate is the part of File that needs the lock. ln is nil if the server has no address.
func (s *TcpServer) duplicate() (ln *listener, fd sys.FD, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ln = s.address(); ln != nil {
		ln.shared = true
		fd, err = sys.Dup(ln.fd)
	}
	return ln, fd, err
}

// SyscallConn returns access to the descriptor that listens or is bound, for example to set options. It implements
// [syscall.Conn]. As with the listeners of package net, Read and Write return [syscall.EINVAL]. While the function
// passed to Control runs, the descriptor stays open: if the server is closed meanwhile, the address is released when
// the function returns. The error is a *[net.OpError] that wraps [ErrNotListening]; Control returns the same after
// Close.
func (s *TcpServer) SyscallConn() (syscall.RawConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln := s.address()
	if ln == nil {
		return nil, opError(opRaw, "tcp", nil, nil, ErrNotListening)
	}
	ln.shared = true // the program may change the descriptor in any way
	return rawListener{ln}, nil
}

// A rawListener is the [syscall.RawConn] of a listener.
type rawListener struct{ ln *listener }

func (r rawListener) Control(f func(fd uintptr)) error {
	s := r.ln.server
	s.mu.Lock()
	ok := r.ln.incref()
	s.mu.Unlock()
	if !ok {
		return opError(opRaw, r.ln.network, nil, r.ln.netAddr(), ErrNotListening)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.ln.decref()
	}()
	f(uintptr(r.ln.fd))
	return nil
}

func (rawListener) Read(func(fd uintptr) bool) error  { return syscall.EINVAL }
func (rawListener) Write(func(fd uintptr) bool) error { return syscall.EINVAL }
