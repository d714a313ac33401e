package msgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/pullaccept/tcpserver"
)

var (
	// ErrBufferFull ends a client that has sent more than MaxBufferSize bytes of which the first MaxBufferSize do not
	// contain a whole message.
	ErrBufferFull = errors.New("msgserver: no message in a full buffer")

	// ErrBadCount ends a client whose decoder has returned a count that is negative or larger than its buffer.
	ErrBadCount = errors.New("msgserver: count outside of the buffer")

	// ErrSlowClient ends a client that takes none of the data that is queued for it, or for which more than
	// MaxSendBuffer would be queued. It wraps [os.ErrDeadlineExceeded].
	ErrSlowClient = fmt.Errorf("msgserver: the client does not take what it is sent: %w", os.ErrDeadlineExceeded)

	// ErrRunning is returned by Run and Serve if the server is already running.
	ErrRunning = errors.New("msgserver: already running")

	errHeaderSize = errors.New("msgserver: MessageHeaderSize is larger than MaxBufferSize")
	errNoProcess  = errors.New("msgserver: ProcessClientData is nil")
)

// prefix is the beginning of the text of every error of this package.
const prefix = "msgserver: "

// A ClientError is an error that concerns one client. It is passed to OnError.
type ClientError struct {
	Socket *tcpserver.TcpSocket // the client's socket; it may be closed
	Err    error                // an error of this package or of a callback, or a *tcpserver.PanicError
}

// Error returns the address of the client and the text of Err.
func (e *ClientError) Error() string {
	return fmt.Sprintf(prefix+"client %v: %s", e.Socket.RemoteAddr(), strings.TrimPrefix(e.Err.Error(), prefix))
}

// Unwrap returns Err.
func (e *ClientError) Unwrap() error { return e.Err }

// try calls f. If f panics, it returns a *tcpserver.PanicError.
func try(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &tcpserver.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}

// stackOf returns the stack of the panic that err reports, or nil if err is no panic.
func stackOf(err error) []byte {
	var p *tcpserver.PanicError
	if errors.As(err, &p) {
		return p.Stack
	}
	return nil
}

// printError writes an error for which the program has no OnError. If w is nil, it writes to os.Stderr.
func printError(w io.Writer, err error) {
	if w == nil {
		w = os.Stderr
	}
	fmt.Fprintf(w, "%s%s\n%s", prefix, strings.TrimPrefix(err.Error(), prefix), stackOf(err))
}
