package msgserver

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/pullaccept/tcpserver"
)

// highWater is how many bytes may be queued for a client until its further messages have to wait. It is lower if max is low.
const highWater = 256 << 10

// An output is what is sent to one client. The bytes are in the queue of the socket; an output lets that grow as far as
// the server allows, tells when messages have to wait for it, sees to it that the client takes from it, and ends the
// connection when the client has it all. Any goroutine may call the methods.
type output struct {
	socket *tcpserver.TcpSocket
	max    int               // bytes that may be queued
	lag    time.Duration     // how long the client may take nothing
	abort  func(cause error) // ends the client at once

	watched atomic.Bool // a watch is looking after it
	waiting atomic.Bool // messages wait for it
	closing atomic.Bool // nothing more is to be sent, and the connection is to be closed
}

// attach has the socket call the handlers, and leaves the end of its stream to them. Of a connection that has ended
// others may have been told; Disconnected is called here then, and may be called twice.
func (o *output) attach(h *tcpserver.SocketHandlers) {
	o.socket.SetAllowHalfOpen(true)
	o.socket.SetHandlers(h)
	if o.socket.State() == tcpserver.StateUnconnected {
		h.Disconnected(o.socket, o.socket.Err())
	}
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
	if !o.isOverHighWater() {
		return false
	}
	o.waiting.Store(true) // and look once more: only now written knows that somebody waits
	return o.isOverHighWater()
}

func (o *output) isOverHighWater() bool { return o.socket.BytesToWrite() > min(highWater, o.max/2) }

// canResume is called when the system has taken some of the queue. It reports whether messages that wait may go on.
func (o *output) canResume() bool {
	return o.waiting.Load() && !o.isOverHighWater() && o.waiting.Swap(false)
}

// closeGracefully closes the connection when the client has everything that was sent to it. Nothing can be sent any more, and what
// the client still sends has to be read and dropped: it would meet a closed descriptor otherwise, and the system would
// answer with a reset and throw away what it has not delivered. The client's end of stream closes the connection too.
func (o *output) closeGracefully() {
	if o.closing.Swap(true) {
		return
	}
	if o.socket.BytesToWrite() == 0 && o.progress().isComplete() {
		o.socket.Close()
		return
	}
	o.socket.CloseWrite()
	o.watch()
}

// forceClose closes the connection now. If the system has not even taken everything, the client gets a reset, so that it does
// not believe that it has the whole.
func (o *output) forceClose() {
	if o.socket.BytesToWrite() > 0 {
		o.abort(os.ErrDeadlineExceeded)
	} else {
		o.socket.Close()
	}
}

// defaultCloseTimeout is TcpServer's.
const defaultCloseTimeout = 5 * time.Second

// forceCloseAfter closes what is left when the CloseTimeout of a server has passed, unless stop is called before.
func forceCloseAfter(closeTimeout time.Duration, all []*output) (stop func()) {
	if closeTimeout < 0 {
		return func() {}
	}
	timer := time.AfterFunc(orDefault(closeTimeout, defaultCloseTimeout), func() {
		for _, o := range all {
			o.forceClose()
		}
	})
	return func() { timer.Stop() }
}

// A progress is what is known of the bytes that the system has taken for a client.
type progress struct {
	sent   int64 // taken by the system
	taken  int64 // of them, taken by the client; where that is not known, all
	window int64 // the room for more that the client's system has announced; 0 if that is not known
	known  bool  // the system tells what the client has taken
}

// progress asks how far the client is. What the system has taken for a local connection, the client has.
func (o *output) progress() progress {
	sent := int64(o.socket.BytesSent())
	p := progress{sent: sent, taken: sent}
	if o.socket.RemoteAddr().Network() != "tcp" {
		p.known = true
		return p
	}
	conn, err := o.socket.SyscallConn()
	if err != nil {
		return p
	}
	conn.Control(func(fd uintptr) {
		var unacked int64
		unacked, p.window, p.known = unackedBytes(fd)
		p.taken -= unacked
	})
	return p
}

// isComplete reports whether the client is known to have taken everything that the system has.
func (p progress) isComplete() bool { return p.known && p.taken >= p.sent }
