package msgserver

import (
	"container/list"
	"math"
	"slices"

	"github.com/pullaccept/tcpserver"
)

// A loopClient is a client of a ServerLoop.
type loopClient[D any] struct {
	output
	loop     *ServerLoop[D]
	handlers tcpserver.SocketHandlers
	data     D

	// Used only on the loop's goroutine.
	rest    []byte // unprocessed: part of a message, or what has to wait because too much is queued for the client
	out     []byte // what ClientWrite has collected since the last send
	elem    *list.Element
	removed bool

	// Guarded by loop.mu.
	openElem *list.Element // in loop.open
	in       []byte        // what has been received
	queued   bool          // in loop.events
	paused   bool
	sawEOF   bool  // the client has ended its stream
	ended    bool  // the connection has ended
	cause    error // why another goroutine than the loop's has ended the connection
}

func newLoopClient[D any](l *ServerLoop[D], socket *tcpserver.TcpSocket) *loopClient[D] {
	c := &loopClient[D]{loop: l}
	c.socket, c.abort = socket, c.abortWith
	c.drop = c.end
	c.max = orDefault(l.MaxSendBuffer, defaultMaxSend)
	c.lag = orDefault(l.ConnectLag, defaultLag)
	c.handlers = tcpserver.SocketHandlers{
		ReadyRead: c.readyRead, ReadClosed: c.readClosed, BytesWritten: c.bytesWritten, Disconnected: c.disconnected,
	}
	return c
}

// add turns a connection into a client.
func (l *ServerLoop[D]) add(socket *tcpserver.TcpSocket) {
	c := newLoopClient(l, socket)
	l.mu.Lock()
	c.openElem = l.open.PushBack(c)
	l.mu.Unlock()
	accepted := false
	defer l.flush() // this and what follows also if a callback calls runtime.Goexit
	defer c.attach(&c.handlers)
	defer func() {
		l.admitting = nil
		if !accepted {
			l.remove(c)
		}
	}()
	if accepted = l.admit(c); accepted {
		l.clients[socket] = c
		c.elem = l.order.PushBack(c)
	}
}

// admit calls NewData and reports whether it accepts the client.
func (l *ServerLoop[D]) admit(c *loopClient[D]) bool {
	if l.NewData == nil {
		return true
	}
	l.admitting = c
	var err error
	if failure := try(func() { c.data, err = l.NewData(c.socket) }); failure != nil {
		err = failure
	}
	if err != nil {
		l.report(&ClientError{c.socket, err})
	}
	l.send(c)
	l.admitting = nil
	return err == nil && !c.removed
}

// readyRead runs on an event loop of the poller.
func (c *loopClient[D]) readyRead(socket *tcpserver.TcpSocket) {
	c.reading.Lock()
	defer c.reading.Unlock()
	p := socket.Peek(math.MaxInt)
	if len(p) > 0 && !c.closing.Load() {
		c.receive(p)
	}
	socket.Discard(len(p))
}

func (c *loopClient[D]) receive(p []byte) {
	l := c.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.in == nil {
		c.in = l.buffer()
	}
	c.in = append(c.in, p...)
	if len(c.in) > l.limit() {
		c.pause()
	}
	c.post()
}

// pause stops reading until resume is called, except from a client that is being closed. loop.mu is held.
func (c *loopClient[D]) pause() {
	if !c.paused && !c.closing.Load() {
		c.paused = true
		c.socket.PauseReading()
	}
}

// resume continues reading after a pause. loop.mu is held.
func (c *loopClient[D]) resume() {
	if c.paused {
		c.paused = false
		c.socket.ResumeReading()
	}
}

func (c *loopClient[D]) readClosed(*tcpserver.TcpSocket) {
	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()
	c.sawEOF = true
	c.post()
}

func (c *loopClient[D]) bytesWritten(*tcpserver.TcpSocket, int) {
	if c.canResume() {
		c.loop.mu.Lock()
		defer c.loop.mu.Unlock()
		c.post()
	}
}

// disconnected takes what the socket still holds, and queues the end.
func (c *loopClient[D]) disconnected(socket *tcpserver.TcpSocket, _ error) {
	c.readyRead(socket)
	c.end()
}

// end queues the end of the connection.
func (c *loopClient[D]) end() {
	l := c.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.ended {
		return // it was dropped before
	}
	l.open.Remove(c.openElem)
	c.ended = true
	c.post()
	l.wakeup.Signal() // shutdown may be waiting for it, with c in events
}

// abortWith ends the connection at once. It may be called from any goroutine.
func (c *loopClient[D]) abortWith(cause error) {
	c.loop.mu.Lock()
	c.cause = cause
	c.loop.mu.Unlock()
	c.socket.Abort()
}

// post queues an event for the loop. loop.mu is held.
func (c *loopClient[D]) post() {
	if c.queued {
		return
	}
	c.queued = true
	c.loop.events = append(c.loop.events, c)
	c.loop.wakeup.Signal()
}

// maxSpare is how many empty buffers a loop keeps for the next clients that have something to process.
const maxSpare = 64

// buffer returns an empty buffer. mu is held.
func (l *ServerLoop[D]) buffer() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return make([]byte, 0, orDefault(l.BufferSize, 128))
}

// recycle takes back a buffer that is no longer used.
func (l *ServerLoop[D]) recycle(b []byte) {
	if cap(b) == 0 || cap(b) > l.limit() {
		return
	}
	l.mu.Lock()
	if len(l.spare) < maxSpare {
		l.spare = append(l.spare, b[:0])
	}
	l.mu.Unlock()
}

func (l *ServerLoop[D]) limit() int { return orDefault(l.MaxBufferSize, 64<<10) }

// process handles what one client has sent, and the end of its stream or connection.
func (l *ServerLoop[D]) process(c *loopClient[D]) {
	l.mu.Lock()
	in, cause := c.in, c.cause
	over := c.sawEOF || c.ended
	c.in, c.queued = nil, false
	l.mu.Unlock()
	if c.removed {
		return
	}
	buf := in
	if len(c.rest) > 0 {
		buf = append(c.rest, in...)
	}
	finished := false
	defer func() {
		if !finished { // ProcessClientData or OnError has called runtime.Goexit
			l.remove(c)
		}
	}()
	left, wait, err := l.consume(c, buf)
	if err != nil && (c.removed || cause != nil) {
		l.report(&ClientError{c.socket, err}) // the client ends for another reason
		err = nil
	}
	if err == nil {
		err = cause
	}
	switch {
	case c.removed:
	case err != nil:
		l.fail(c, err)
	case over && !wait:
		l.remove(c)
	default:
		c.keepRest(buf, left)
		l.updateReading(c, wait)
	}
	finished = true
	l.recycle(in)
}

// updateReading pauses reading from a client while its messages have to wait, and resumes it otherwise.
func (l *ServerLoop[D]) updateReading(c *loopClient[D], wait bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait {
		c.pause()
	} else {
		c.resume()
	}
}

// consume calls ProcessClientData with a client's bytes and returns what is left. If wait is true, that has to wait
// until less is queued for the client.
func (l *ServerLoop[D]) consume(c *loopClient[D], buf []byte) (left []byte, wait bool, err error) {
	for len(buf) > 0 && !c.removed {
		if !l.shuttingDown && c.mustWait() {
			return buf, true, nil
		}
		var n int
		view := buf[:min(len(buf), l.limit())]
		if failure := try(func() { n, err = l.ProcessClientData(c.data, view) }); failure != nil {
			err = failure
		}
		switch {
		case err != nil:
			return nil, false, err
		case n < 0 || n > len(view):
			return nil, false, ErrBadCount
		case n == 0 && len(view) < len(buf):
			return nil, false, ErrBufferFull
		case n == 0:
			return buf, false, nil
		}
		buf = buf[n:]
		l.updateIfDue()
	}
	return nil, false, nil
}

// keepRest keeps left, the end of buf. If buf does not extend rest, other clients use it next, so left is copied. It is
// also copied out of a buffer that has become far too large for it.
func (c *loopClient[D]) keepRest(buf, left []byte) {
	limit := c.loop.limit()
	switch {
	case len(left) == 0:
		c.rest = nil
	case len(c.rest) > 0 && cap(buf) <= min(4*len(left), 2*limit):
		c.rest = buf[:copy(buf, left)]
	default:
		c.rest = slices.Clone(left)
	}
}

// fail reports an error of a client and removes the client.
func (l *ServerLoop[D]) fail(c *loopClient[D], err error) {
	defer l.remove(c) // also if OnError calls runtime.Goexit
	l.report(&ClientError{c.socket, err})
}

// remove removes a client, unless it has been removed, and closes its connection. What was written to it is still sent.
func (l *ServerLoop[D]) remove(c *loopClient[D]) {
	l.send(c)
	if c.removed {
		return
	}
	c.removed = true
	c.rest = nil
	c.closeGracefully()
	l.mu.Lock()
	c.resume() // what it still sends is discarded
	l.mu.Unlock()
	if c.elem == nil {
		return // refused
	}
	delete(l.clients, c.socket)
	l.order.Remove(c.elem)
	if l.ClientDisconnected == nil {
		return
	}
	if err := try(func() { l.ClientDisconnected(c.data) }); err != nil {
		l.report(&ClientError{c.socket, err})
	}
}
