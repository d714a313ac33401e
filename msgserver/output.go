package msgserver

import (
	"sync/atomic"
	"time"

	"github.com/pullaccept/tcpserver"
)

// mark is how many bytes may be queued for a client until its further messages have to wait. It is lower if max is low.
const mark = 256 << 10

// An output is what is sent to one client. The bytes are in the queue of the socket; an output lets that grow as far as
// the server allows, tells when messages have to wait for it, sees to it that the client takes from it, and ends the
// connection when it is sent. Any goroutine may call the methods.
type output struct {
	socket *tcpserver.TcpSocket
	max    int               // bytes that may be queued
	lag    time.Duration     // how long the client may take nothing
	drop   func(cause error) // ends the client at once

	watched atomic.Bool // a watch is looking after it
	waiting atomic.Bool // messages wait for it
	ending  atomic.Bool // nothing more is to be sent, and the connection is to be closed
}

// send sends p or queues a copy of it. It returns ErrSlowClient if that is too much. Other errors of the connection are
// left to its handlers.
func (o *output) send(p []byte) error {
	err := o.socket.Send(p)
	if err == tcpserver.ErrWriteBufferFull {
		o.socket.SetWriteBufferSize(o.max)
		err = o.socket.Send(p)
	}
	if err == tcpserver.ErrWriteBufferFull {
		return ErrSlowClient
	}
	queued := o.socket.BytesToWrite()
	if queued > o.max {
		return ErrSlowClient
	}
	if queued > 0 {
		o.watch()
	}
	return nil
}

// mustWait reports whether the client's messages have to wait. written then tells when they may go on.
func (o *output) mustWait() bool {
	if !o.isOverMark() {
		return false
	}
	o.waiting.Store(true) // and look once more: only now written knows that somebody waits
	return o.isOverMark()
}

func (o *output) isOverMark() bool { return o.socket.BytesToWrite() > min(mark, o.max/2) }

// written is called when the system has taken some of the queue. It reports whether messages that wait may go on.
func (o *output) written() bool {
	o.settle()
	return o.waiting.Load() && !o.isOverMark() && o.waiting.Swap(false)
}

// end closes the connection when the queue is sent. Nothing can be sent any more.
func (o *output) end() {
	if o.ending.Swap(true) {
		return
	}
	if o.socket.BytesToWrite() > 0 {
		o.socket.CloseWrite()
		o.watch()
	}
	o.settle()
}

// settle closes the connection if it is to be closed and the queue is sent.
func (o *output) settle() {
	if o.ending.Load() && o.socket.BytesToWrite() == 0 {
		o.socket.Close()
	}
}
