package tcpserver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// The errors of this package, for [errors.Is]. Errors of the system are wrapped in a *[net.OpError], so errors.Is
// works with [syscall.EADDRINUSE], [os.ErrDeadlineExceeded] and [fs.ErrPermission] as it does with package net.
var (
	// ErrServerClosed is returned by methods that wait for a connection if the server is closed, and by
	// [TcpServer.ListenAsync] if it is closed meanwhile. It matches [net.ErrClosed].
	ErrServerClosed error = &sentinel{text: "server closed", like: []error{net.ErrClosed}}

	// ErrNotListening is returned by methods that need a listening server. It matches [net.ErrClosed].
	ErrNotListening error = &sentinel{text: "not listening", like: []error{net.ErrClosed}}

	// ErrAlreadyListening is returned by methods that listen or bind if the server already listens. The server goes
	// on listening.
	ErrAlreadyListening error = &sentinel{text: "already listening"}

	// ErrAlreadyBound is returned by Bind, Listen, ListenFile and ListenOn if the server is already bound. The server
	// stays bound.
	ErrAlreadyBound error = &sentinel{text: "already bound"}

	// ErrNotBound is returned by [TcpServer.ListenBound] if there was no Bind, and by [TcpServer.ListenFile] if the
	// socket has no address.
	ErrNotBound error = &sentinel{text: "not bound"}

	// ErrSocketClosed is returned by methods of a socket that the program itself has closed, either in the direction
	// concerned or altogether. It matches [net.ErrClosed].
	ErrSocketClosed error = &sentinel{text: "socket closed", like: []error{net.ErrClosed}}

	// ErrReset means that the peer has reset the connection; bytes in transit are lost. It matches
	// [syscall.ECONNRESET] and [syscall.EPIPE], which some systems report on writing, and on Windows also
	// windows.WSAECONNRESET and windows.WSAECONNABORTED.
	ErrReset error = &sentinel{text: "connection reset by peer", like: sys.ResetErrnos}

	// ErrIdleTimeout is the reason why a socket ended that neither received nor sent anything for its idle timeout.
	// It is a [net.Error] whose Timeout method returns true. The error that Read and Write return on such a socket
	// matches ErrIdleTimeout and [net.ErrClosed], but is not a timeout: retrying is useless.
	ErrIdleTimeout error = idleTimeout{&sentinel{text: "idle timeout"}}

	// ErrWouldBlock is returned by [TcpSocket.TryRead] if there is nothing to read now.
	ErrWouldBlock error = &sentinel{text: "would block"}

	// ErrWriteBufferFull is returned by [TcpSocket.Send] if its argument would exceed the limit of the send queue. No
	// part of it is sent or queued.
	ErrWriteBufferFull error = &sentinel{text: "write buffer full"}

	// ErrInvalidAddress is returned by methods that listen or bind if they cannot use the address.
	ErrInvalidAddress error = &sentinel{text: "invalid address"}

	// ErrInvalidPort is returned by methods that listen or bind if the port is neither a number from 0 to 65535 nor
	// the name of a service.
	ErrInvalidPort error = &sentinel{text: "invalid port"}

	// ErrBacklog is returned by methods that listen or bind if [TcpServer.Backlog] is negative.
	ErrBacklog error = &sentinel{text: "negative backlog"}

	// ErrUnsupported is returned on platforms for which this package has no poller ([Supported]), and for options
	// that a platform lacks. It matches [errors.ErrUnsupported].
	ErrUnsupported error = &sentinel{text: "not supported on this platform", like: []error{errors.ErrUnsupported}}
)

// errIdleEnded is returned by reading and writing on a socket that ErrIdleTimeout has ended.
var errIdleEnded error = &sentinel{text: "socket closed by idle timeout", like: []error{ErrIdleTimeout, net.ErrClosed}}

// afterEnd returns the error for reading and writing on a socket that err has ended. It is never a timeout, because
// after a timeout a program would retry.
func afterEnd(err error) error {
	switch err {
	case ErrIdleTimeout:
		return errIdleEnded
	case os.ErrDeadlineExceeded:
		return ErrSocketClosed
	}
	return err
}

// A sentinel is an error that also matches errors of other packages.
type sentinel struct {
	text string
	like []error // errors that it matches
}

func (e *sentinel) Error() string { return "tcpserver: " + e.text }

func (e *sentinel) Is(target error) bool { return slices.Contains(e.like, target) }

// idleTimeout makes a sentinel a net.Error.
type idleTimeout struct{ *sentinel }

func (idleTimeout) Timeout() bool   { return true }
func (idleTimeout) Temporary() bool { return false }

// A PanicError means that a socket has ended because one of its handlers panicked or called [runtime.Goexit].
type PanicError struct {
	Value any    // value passed to panic; nil for Goexit, and with an Executor, where panics are not recovered
	Stack []byte // stack of the handler's goroutine
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return "tcpserver: handler did not return"
	}
	return fmt.Sprintf("tcpserver: handler panicked: %v", e.Value)
}

// Unwrap returns the value passed to panic if it is an error, and nil otherwise.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// The values of Op in a *net.OpError.
const (
	opListen = "listen"
	opFile   = "file"
	opAccept = "accept"
	opRead   = "read"
	opWrite  = "write"
	opClose  = "close"
	opSet    = "set"
	opRaw    = "raw"
)

// opError is the only place that wraps errors in a *net.OpError.
func opError(op, network string, source, addr net.Addr, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}
