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

// ListenFile listens on a descriptor that was made elsewhere: one that systemd passes on, say, or a parent process as
// its ExtraFiles. It is a stream socket that listens, or is bound, in which case it is made to listen; a Backlog other
// than 0 is applied to either. The server uses a duplicate: the program still closes f. The duplicates share the
// non-blocking mode, which is set, and set again when somebody has cleared it, as os.File.Fd does. Of a unix socket
// Close does not remove the file, but see SetUnlinkOnClose.
//
// Whoever else accepts from the descriptor should leave that mode alone. If it is cleared, and the connection taken,
// just when the server is about to accept, the server waits in the system for the next connection. It goes on with
// everything else, but Close does not end that wait: until a client comes, which is turned away, the server keeps its
// duplicate and with it the address. The same goes for ListenOn and File.
//
// The error is a *net.OpError with ErrAlreadyListening, ErrAlreadyBound or ErrBacklog, with ErrNotBound,
// syscall.ENOTSOCK for what is no socket, syscall.EPROTOTYPE for one that is no stream, syscall.EISCONN for a
// connection, or one of Listen's.
func (s *TcpServer) ListenFile(f *os.File) error { return s.adopt(f, false) }

// ListenOn listens on what l does, a *net.TCPListener or *net.UnixListener. The server uses a duplicate: the program
// still closes l, and does not accept from it meanwhile. The errors are those of ListenFile, and ErrInvalidAddress
// for a listener of another type.
//
// The removal of a unix socket's file is taken over: l no longer removes it, the server's Close does. That goes for an
// l that would have removed it, as those of net.Listen do and those of net.FileListener do not, unless its
// SetUnlinkOnClose was called. A file at a relative path stays: see the server's SetUnlinkOnClose.
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
	return s.report("tcp", nil, fmt.Errorf("%w: a %T", ErrInvalidAddress, l))
}

// unlinksOnClose reports what the last SetUnlinkOnClose has set, or package net itself. That package has no method to
// ask for it; should the field go, what its documentation says of listeners in general is assumed.
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

// takeOver changes what the server needs of a descriptor that others have too. What is not inherited, or was not by
// connections that have come before, passOptions sets on each.
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

// inspect finds out what descriptor ln was given, and changes nothing.
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

// File returns a duplicate of the descriptor that listens, or is bound, for another process, say. The program closes
// it. Closing the server does not end it: what is passed on goes on to take connections. The path of a unix socket goes
// with Close, unless SetUnlinkOnClose says otherwise. The error is a *net.OpError with ErrNotListening or the system's.
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

// duplicate is the part of File under the lock. ln is nil if the server has no address.
func (s *TcpServer) duplicate() (ln *listener, fd sys.FD, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ln = s.address(); ln != nil {
		ln.shared = true
		fd, err = sys.Dup(ln.fd)
	}
	return ln, fd, err
}

// SyscallConn gives access to the descriptor that listens, or is bound, to set options, say. As with the listeners of
// package net, its Read and Write return syscall.EINVAL. The function that Control calls runs with the descriptor held
// open: a Close meanwhile gives the address back when it returns. The error is a *net.OpError with ErrNotListening; so
// is Control's after Close.
func (s *TcpServer) SyscallConn() (syscall.RawConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln := s.address()
	if ln == nil {
		return nil, opError(opRaw, "tcp", nil, nil, ErrNotListening)
	}
	ln.shared = true // what is done with the descriptor is the program's own
	return rawListener{ln}, nil
}

// A rawListener is a syscall.RawConn.
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
