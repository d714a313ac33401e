package tcpserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// The errors of this package that errors.Is finds. What the system reports comes wrapped in a *net.OpError, so
// that errors.Is(err, syscall.EADDRINUSE), os.ErrDeadlineExceeded and fs.ErrPermission work as with package net.
var (
	// ErrServerClosed is what waiting for a connection returns when the server is closed meanwhile.
	// It matches net.ErrClosed.
	ErrServerClosed error = &sentinel{text: "server closed", like: []error{net.ErrClosed}}

	// ErrNotListening is returned by methods that need a listening server. It matches net.ErrClosed.
	ErrNotListening error = &sentinel{text: "not listening", like: []error{net.ErrClosed}}

	// ErrAlreadyListening is returned by Listen and Bind on a server that listens. The running server is not touched.
	ErrAlreadyListening error = &sentinel{text: "already listening"}

	// ErrAlreadyBound is returned by Bind and Listen on a server that is bound. It stays so.
	ErrAlreadyBound error = &sentinel{text: "already bound"}

	// ErrNotBound is returned by ListenBound without a Bind, and by ListenFile for a socket without an address.
	ErrNotBound error = &sentinel{text: "not bound"}

	// ErrSocketClosed is returned by methods of a socket that the program itself has closed, in the direction
	// concerned or altogether. It matches net.ErrClosed.
	ErrSocketClosed error = &sentinel{text: "socket closed", like: []error{net.ErrClosed}}

	// ErrReset says that the peer ended the connection with a reset: what was on its way is lost. It matches
	// syscall.ECONNRESET, and syscall.EPIPE, which some systems report for it on writing; on Windows
	// windows.WSAECONNRESET and WSAECONNABORTED too.
	ErrReset error = &sentinel{text: "connection reset by peer", like: sys.ResetErrnos}

	// ErrIdleTimeout ends a socket on which nothing moved for its idle timeout. It is a net.Error whose Timeout method
	// returns true. What Read and Write return on a socket that has ended so matches it, and net.ErrClosed, but is no
	// timeout: trying again is of no use.
	ErrIdleTimeout error = idleTimeout{&sentinel{text: "idle timeout"}}

	// ErrWouldBlock is returned by TryRead when nothing is there to read.
	ErrWouldBlock error = &sentinel{text: "would block"}

	// ErrWriteBufferFull is returned by Send when p would bring the send queue over its limit; nothing of p was
	// taken.
	ErrWriteBufferFull error = &sentinel{text: "write buffer full"}

	// ErrInvalidAddress is returned by Listen when the address cannot be understood.
	ErrInvalidAddress error = &sentinel{text: "invalid address"}

	// ErrInvalidPort is returned by Listen when the port is not one: 0 to 65535, or the name of a service.
	ErrInvalidPort error = &sentinel{text: "invalid port"}

	// ErrBacklog is returned by Listen when TcpServer.Backlog is negative.
	ErrBacklog error = &sentinel{text: "negative backlog"}

	// ErrUnsupported is returned on platforms without a poller of ours, and for options that a platform lacks. It
	// matches errors.ErrUnsupported.
	ErrUnsupported error = &sentinel{text: "not supported on this platform", like: []error{errors.ErrUnsupported}}
)

// errIdleEnded is what reading and writing meet on a socket that ErrIdleTimeout has ended.
var errIdleEnded error = &sentinel{
	text: "socket closed by its idle timeout",
	like: []error{ErrIdleTimeout, net.ErrClosed},
}

// afterEnd returns what reading and writing meet on a socket that err has ended. It is no timeout, after which a
// program would try again.
func afterEnd(err error) error {
	switch err {
	case ErrIdleTimeout:
		return errIdleEnded
	case os.ErrDeadlineExceeded:
		return ErrSocketClosed
	}
	return err
}

// A sentinel is an error that is also found under the names that other packages have for it.
type sentinel struct {
	text string
	like []error
}

func (e *sentinel) Error() string { return "tcpserver: " + e.text }

func (e *sentinel) Is(target error) bool {
	for _, l := range e.like {
		if target == l {
			return true
		}
	}
	return false
}

// idleTimeout makes a sentinel a net.Error.
type idleTimeout struct{ *sentinel }

func (idleTimeout) Timeout() bool   { return true }
func (idleTimeout) Temporary() bool { return false }

// A PanicError is why a socket ended whose handler panicked or called runtime.Goexit.
type PanicError struct {
	Value any    // what was passed to panic; nil for runtime.Goexit, and under an Executor, where it is not caught
	Stack []byte // of the handler's goroutine
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return "tcpserver: handler did not return"
	}
	return fmt.Sprintf("tcpserver: handler panicked: %v", e.Value)
}

// Unwrap returns what was passed to panic if that was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// The operations that a *net.OpError names.
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

// opError is the one place that wraps an error. The end of a stream stays bare, as readers expect it.
func opError(op, network string, source, addr net.Addr, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}
