package msgserver

import (
	"context"
	"math"
	"os"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// highWater is the number of queued bytes above which a client's messages have to wait. It is lower if max is low.
const highWater = 256 << 10

// An output sends to one client. The socket queues the bytes; the output lets that queue grow as far as the server
// allows, applies back-pressure, drops a client that takes nothing, and closes the connection once the client has taken
// everything. Its methods may be called from any goroutine.
type output struct {
	socket *tcpserver.TcpSocket
	max    int               // how many bytes may be queued
	lag    time.Duration     // how long the client may take nothing
	abort  func(cause error) // ends the connection at once
	drop   func()            // queues the end of a connection that has ended, and whose Disconnected may not come

	reading sched.Mutex // held by ReadyRead and Disconnected, which may run on two goroutines at the end: see attach

	watched sched.Bool // a watch is running
	waiting sched.Bool // messages wait until less is queued
	closing sched.Bool // nothing more will be sent, and the connection will be closed
}

// attach sets the socket's handlers, and leaves it to them to close the socket after the end of the stream. If the
// connection has ended, the socket may have called another Disconnected, or its Executor may be dead. Then Disconnected
// is called some time later, so that an earlier handler that still reads is not disturbed. The socket may call it, too.
func (o *output) attach(h *tcpserver.SocketHandlers) {
	o.socket.SetAllowHalfOpen(true)
	o.socket.SetHandlers(h)
	if o.socket.State() == tcpserver.StateUnconnected {
		sched.AfterFunc(executorDelay, func() {
			o.socket.WaitForDisconnected(context.Background()) // it may be ending: its server must have counted it out
			h.Disconnected(o.socket, o.socket.Err())
		})
	}
}

// send sends p or queues a copy of it. It returns ErrSlowClient if more than max bytes would be queued. Other errors of
// the connection are left to its handlers.
func (o *output) send(p []byte) error {
	err := o.socket.Send(p)
	if err == tcpserver.ErrWriteBufferFull {
		// The limit is for what the system does not take, so it is checked below. Other goroutines may be sending, too.
		o.socket.SetWriteBufferSize(math.MaxInt)
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

// mustWait reports whether the client's messages have to wait. If so, canResume reports when they may continue.
func (o *output) mustWait() bool {
	if !o.isOverHighWater() {
		return false
	}
	// Check again after setting the flag: canResume did not see it before, and may have been called for the last time.
	o.waiting.Store(true)
	return o.isOverHighWater()
}

func (o *output) isOverHighWater() bool { return o.socket.BytesToWrite() > min(highWater, o.max/2) }

// canResume is called when the system has taken some of the queue. It reports, once, whether waiting messages may
// continue.
func (o *output) canResume() bool {
	return o.waiting.Load() && !o.isOverHighWater() && o.waiting.Swap(false)
}

// closeGracefully closes the connection once the client has taken everything that was sent to it. Nothing more can be
// sent. What the client still sends has to be read and discarded: if it arrived at a closed descriptor, the system
// would answer with a reset and discard what it has not delivered. The client's end of stream closes the connection
// too.
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

// forceClose closes the connection now. If the system has not taken everything, the client gets a reset, so that it
// does not take a part for the whole.
func (o *output) forceClose() {
	if o.socket.BytesToWrite() > 0 {
		o.abort(os.ErrDeadlineExceeded)
	} else {
		o.socket.Close()
	}
}

// defaultCloseTimeout is the default of TcpServer.CloseTimeout.
const defaultCloseTimeout = 5 * time.Second

// executorDelay is how long the Disconnected of a connection that has ended may take before it is taken for one that
// never comes.
const executorDelay = 500 * time.Millisecond

// forceCloseAfter closes all connections that are left after a server's CloseTimeout, unless stop is called before. If
// the Executor no longer runs anything, their Disconnected never comes: some time later they are dropped without it. If
// closeTimeout is negative, there is no limit.
func forceCloseAfter(closeTimeout time.Duration, all []*output) (stop func()) {
	if closeTimeout < 0 {
		return func() {}
	}
	limit := orDefault(closeTimeout, defaultCloseTimeout)
	closing := sched.AfterFunc(limit, func() {
		for _, o := range all {
			o.forceClose()
		}
	})
	dropping := sched.AfterFunc(limit+executorDelay, func() {
		for _, o := range all {
			o.drop()
		}
	})
	return func() {
		closing.Stop()
		dropping.Stop()
	}
}

// A progress says what became of the bytes that were sent to a client.
type progress struct {
	sent   int64 // how many the server's system has taken
	taken  int64 // how many of these the client has taken; if that is not known, all
	window int64 // the receive window that the client's system has announced; 0 if that is not known
	known  bool  // whether the server's system reports what the client has taken
}

// progress returns the client's progress. On a unix socket the client has what the system has taken.
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

// isComplete reports whether the client is known to have taken everything that the server's system has taken.
func (p progress) isComplete() bool { return p.known && p.taken >= p.sent }
