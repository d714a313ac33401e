package msgserver

import (
	"bufio"
	"errors"
	"math"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// maxWaiting is how many messages of one client may wait for the worker before nothing more is decoded, unless the
// connection has ended.
const maxWaiting = 64

// A session is a client of a ThreadServer.
type session[C, M any] struct {
	output
	server   *ThreadServer[C, M]
	number   uint64 // of the connection, in order
	handlers tcpserver.SocketHandlers
	client   C

	// Guarded by reading.
	partial []byte // the beginning of a message; nil if there is none
	done    bool   // nothing more is decoded

	decoding sched.Bool // messages are being decoded that must be handled; set by the socket's handlers

	// Used only on the worker.
	parked  []task[C, M] // tasks that wait until less is queued for the client, in order
	refused bool         // by ClientConnected

	// Guarded by server.mu.
	waiting int // how many messages the worker has not handled
	paused  bool
	ended   bool  // taskDisconnect, its last task, is queued
	cause   error // why the server has ended the connection; if nil, the socket's error is the reason
}

func newSession[C, M any](s *ThreadServer[C, M], socket *tcpserver.TcpSocket) *session[C, M] {
	c := &session[C, M]{server: s}
	c.socket, c.abort, c.drop = socket, c.abortWith, c.endEarly
	c.max = orDefault(s.MaxSendBuffer, defaultMaxSend)
	c.lag = orDefault(s.ConnectLag, defaultLag)
	c.handlers = tcpserver.SocketHandlers{
		ReadyRead: c.readyRead, ReadClosed: c.readClosed, BytesWritten: c.bytesWritten, Disconnected: c.disconnected,
	}
	return c
}

// start sets the socket's handlers, and reads from it although the program may have paused that. A client that was
// refused is closed before, so that nothing is decoded.
func (c *session[C, M]) start() {
	if c.refused {
		c.closeGracefully()
	}
	c.attach(&c.handlers)
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if !c.paused {
		c.socket.ResumeReading()
	}
}

// readyRead decodes what has arrived.
func (c *session[C, M]) readyRead(socket *tcpserver.TcpSocket) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.read(socket)
}

// read decodes what has arrived. It moves part of a message to partial, because the socket announces the end of the
// stream only after everything has been read. Only bytes that have to wait stay in the socket. The caller holds
// reading.
func (c *session[C, M]) read(socket *tcpserver.TcpSocket) {
	c.decoding.Store(true)
	defer c.finishDecoding()
	if !c.done && !c.closing.Load() {
		if c.server.shuttingDown.Load() || c.mustWait() {
			c.pause()
			return
		}
		returned := false
		defer func() { c.done = c.done || !returned }() // ReadClientMessage has called runtime.Goexit
		view := socket.Peek(math.MaxInt)
		used, err := c.decode(view)
		returned = true
		if err != nil {
			c.done = true
			c.push(task[C, M]{kind: taskFailure, client: c, err: err})
		} else if !c.done {
			socket.Discard(used)
			return
		}
	}
	c.partial = nil
	socket.Discard(len(socket.Peek(math.MaxInt))) // the client is being closed
}

// finishDecoding clears decoding: what was decoded is queued. It wakes the worker if shutdown waits for that.
func (c *session[C, M]) finishDecoding() {
	c.decoding.Store(false)
	if s := c.server; s.shuttingDown.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wakeup.Signal()
	}
}

// endEarly queues the end of a connection that has ended and whose Disconnected may not come. Nothing is being decoded:
// shutdown has waited for that.
func (c *session[C, M]) endEarly() { c.pushEnd(c.socket.Err()) }

func (c *session[C, M]) isDecoding() bool { return c.decoding.Load() }

// readClosed is called at the end of the client's stream.
func (c *session[C, M]) readClosed(*tcpserver.TcpSocket) {
	c.push(task[C, M]{kind: taskEnd, client: c})
}

func (c *session[C, M]) bytesWritten(*tcpserver.TcpSocket, int) {
	if !c.canResume() {
		return
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.pushLocked(task[C, M]{kind: taskResume, client: c})
	c.resume()
}

// disconnected decodes what the socket still holds, and queues the end. Nothing is decoded after that.
func (c *session[C, M]) disconnected(socket *tcpserver.TcpSocket, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	defer c.pushEnd(err) // also if ReadClientMessage calls runtime.Goexit
	if !c.done && socket.BytesAvailable() > 0 {
		c.read(socket)
	}
	c.done = true
}

func (c *session[C, M]) pushEnd(err error) {
	c.push(task[C, M]{kind: taskDisconnect, client: c, err: err})
}

// push queues a task for the worker.
func (c *session[C, M]) push(t task[C, M]) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.pushLocked(t)
}

// pushLocked queues a task, unless the client's last one is queued. server.mu is held.
func (c *session[C, M]) pushLocked(t task[C, M]) {
	if !c.ended {
		c.ended = t.kind == taskDisconnect
		c.server.push(t)
	}
}

// decode decodes the messages in view and returns how many bytes of view have been consumed.
func (c *session[C, M]) decode(view []byte) (used int, err error) {
	for len(c.partial) > 0 {
		n, more, err := c.decodePartial(view[used:])
		used += n
		if err != nil || !more {
			return used, err
		}
	}
	for len(view)-used >= c.header() {
		n, stop, err := c.decodeOne(view[used:min(len(view), used+c.limit())])
		if err != nil {
			return used, err
		}
		if n == 0 && !stop {
			break
		}
		used += n
		if stop {
			return used, nil
		}
	}
	rest := view[used:]
	if len(rest) > c.limit() {
		return used, ErrBufferFull
	}
	c.keepPartial(rest)
	return len(view), nil
}

// decodePartial decodes a message that begins in partial. It returns how many bytes of view have been consumed, and
// whether decoding can continue.
func (c *session[C, M]) decodePartial(view []byte) (used int, more bool, err error) {
	begun := len(c.partial)
	taken := min(len(view), c.limit()-begun)
	buf := append(c.partial, view[:taken]...)
	if len(buf) < c.header() {
		c.partial = buf
		return taken, false, nil
	}
	n, stop, err := c.decodeOne(buf)
	switch {
	case err != nil:
		return 0, false, err
	case n == 0 && taken < len(view) && !stop:
		return 0, false, ErrBufferFull
	case n == 0:
		c.partial = buf
		return taken, false, nil
	case n < begun: // the decoder now finds a message in bytes for which it has returned 0 before
		c.keepPartial(buf[n:begun])
		return 0, !stop, nil
	}
	c.partial = nil
	return n - begun, !stop, nil
}

// keepPartial copies rest, which is part of a message, to partial.
func (c *session[C, M]) keepPartial(rest []byte) {
	if len(rest) > 0 {
		c.partial = append(make([]byte, 0, max(len(rest), orDefault(c.server.InitialBufferSize, 1<<10))), rest...)
	}
}

func (c *session[C, M]) header() int { return c.server.headerSize() }
func (c *session[C, M]) limit() int  { return c.server.bufferLimit() }

// decodeOne decodes one message and queues it for the worker. If stop is true, nothing more must be decoded now.
func (c *session[C, M]) decodeOne(buf []byte) (n int, stop bool, err error) {
	var msg M
	if decode := c.server.ReadClientMessage; decode == nil {
		n = len(buf)
	} else if failure := try(func() { msg, n, err = decode(c.client, buf) }); failure != nil {
		err = failure
	}
	final := errors.Is(err, bufio.ErrFinalToken)
	switch {
	case err != nil && err != errSkipped && !final:
		return 0, false, err
	case n < 0 || n > len(buf):
		return 0, false, ErrBadCount
	case err != errSkipped && n > 0:
		stop = c.enqueue(msg)
	}
	if final {
		c.done = true
		c.push(task[C, M]{kind: taskEnd, client: c})
	}
	return n, stop || final, nil
}

// enqueue queues a message for the worker. If stop is true, nothing more must be decoded now, because many messages
// wait for the worker or the client is being closed. A readyRead that runs when Serve ends, or after the connection,
// decodes everything.
func (c *session[C, M]) enqueue(msg M) (stop bool) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.pushLocked(task[C, M]{kind: taskMessage, client: c, msg: msg})
	c.waiting++
	if c.waiting >= maxWaiting {
		c.pauseLocked()
	}
	return c.closing.Load() || c.paused && !c.server.shuttingDown.Load() && !c.hasEnded()
}

func (c *session[C, M]) hasEnded() bool { return c.socket.State() == tcpserver.StateUnconnected }

func (c *session[C, M]) pause() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.pauseLocked()
}

// pauseLocked stops reading, except from a client that is being closed, or whose connection has ended: what the socket
// holds is then decoded before the end is queued. server.mu is held.
func (c *session[C, M]) pauseLocked() {
	if !c.closing.Load() && !c.hasEnded() {
		c.paused = true
		c.socket.PauseReading()
	}
}

// resume continues reading unless there is a reason to pause. server.mu is held.
func (c *session[C, M]) resume() {
	if !c.paused {
		return
	}
	if c.closing.Load() || !c.server.shuttingDown.Load() && c.waiting <= maxWaiting/2 && !c.mustWait() {
		c.paused = false
		c.socket.ResumeReading()
	}
}

// messageHandled is called by the worker after each message.
func (c *session[C, M]) messageHandled() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.waiting--
	c.resume()
}

// stop closes the connection once the client has taken everything that was passed to SendData. What the client still
// sends is read and discarded. cause is the reason, or nil for an orderly end.
func (c *session[C, M]) stop(cause error) {
	c.setCause(cause)
	c.closeGracefully()
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.resume()
}

// abortWith ends the connection at once. It may be called from any goroutine.
func (c *session[C, M]) abortWith(cause error) {
	c.setCause(cause)
	c.socket.Abort()
}

// setCause records why the connection ends. The first cause counts.
func (c *session[C, M]) setCause(cause error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
	}
}

const (
	defaultLag     = 500 * time.Millisecond
	defaultMaxSend = 64 << 20
)
