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
	// ErrBufferFull ends a client that has sent MaxBufferSize bytes and one more without a whole message in the first
	// MaxBufferSize.
	ErrBufferFull = errors.New("msgserver: no message in a full buffer")

	// ErrBadCount ends a client whose decoder has returned a count that is negative or beyond its buffer.
	ErrBadCount = errors.New("msgserver: count outside of the buffer")

	// ErrSlowClient ends a client that takes nothing of what is queued for it, or for which more than MaxSendBuffer is
	// queued. It wraps os.ErrDeadlineExceeded.
	ErrSlowClient = fmt.Errorf("msgserver: the client does not take what it is sent: %w", os.ErrDeadlineExceeded)

	// ErrRunning is returned by Run and Serve of a server that is running.
	ErrRunning = errors.New("msgserver: already running")

	errHeaderSize = errors.New("msgserver: MessageHeaderSize is larger than MaxBufferSize")
	errNoProcess  = errors.New("msgserver: ProcessClientData is nil")
)

// prefix begins the text of each error of this package.
const prefix = "msgserver: "

// A ClientError is an error that concerns one client, as OnError is told it.
type ClientError struct {
	Socket *tcpserver.TcpSocket // the client's; it may be closed
	Err    error                // what went wrong: an error of this package, of a callback, or a *tcpserver.PanicError
}

// Error returns the address of the client and the text of Err.
func (e *ClientError) Error() string {
	return fmt.Sprintf(prefix+"client %v: %s", e.Socket.RemoteAddr(), strings.TrimPrefix(e.Err.Error(), prefix))
}

// Unwrap returns Err.
func (e *ClientError) Unwrap() error { return e.Err }

// try calls f and returns its panic as an error, a *tcpserver.PanicError.
func try(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &tcpserver.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}

// stackOf returns nil unless err is a panic.
func stackOf(err error) []byte {
	var p *tcpserver.PanicError
	if errors.As(err, &p) {
		return p.Stack
	}
	return nil
}

// printError writes an error that the program does not want to hear of.
func printError(w io.Writer, err error) {
	if w == nil {
		w = os.Stderr
	}
	fmt.Fprintf(w, "%s%s\n%s", prefix, strings.TrimPrefix(err.Error(), prefix), stackOf(err))
}
