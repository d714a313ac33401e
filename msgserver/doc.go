// Package msgserver serves whole messages instead of bytes, with the servers that Haxe's neko.net has: a ThreadServer,
// which decodes on several loops and calls back on one goroutine, and a ServerLoop, which does everything on one.
//
// Both are filled in and run:
//
//	chat := msgserver.ThreadServer[*user, string]{
//		ClientConnected:   join,
//		ReadClientMessage: msgserver.Lines[*user](1 << 10),
//		ClientMessage:     say,
//	}
//	err := chat.Run(ctx, "127.0.0.1", 7000)
//
// An idle client costs neither a goroutine nor a buffer. A client that does not read what it is sent, sends more than a
// buffer without a whole message in it, or makes a callback panic, loses its connection, and harms no other.
package msgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/pullaccept/tcpserver"
)

var (
	// ErrBufferFull ends a client that has sent MaxBufferSize bytes and one more without a whole message in them.
	ErrBufferFull = errors.New("msgserver: no message in a full buffer")

	// ErrBadCount ends a client whose decoder has returned a count that is negative or beyond its buffer.
	ErrBadCount = errors.New("msgserver: count outside of the buffer")

	// ErrRunning is returned by Run and Serve of a server that is running.
	ErrRunning = errors.New("msgserver: already running")

	// errSlow wraps os.ErrDeadlineExceeded.
	errSlow = fmt.Errorf("msgserver: the client does not read: %w", os.ErrDeadlineExceeded)
)

func orDefault[T ~int | ~int64](v, byDefault T) T {
	if v > 0 {
		return v
	}
	return byDefault
}

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

// printError is what happens to an error that the program does not want to hear of.
func printError(w io.Writer, err error) {
	if w == nil {
		w = os.Stderr
	}
	fmt.Fprintf(w, "msgserver: %v\n%s", err, stackOf(err))
}
