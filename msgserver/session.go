package msgserver

import (
	"math"

	"github.com/pullaccept/tcpserver"
)

// maxWaiting is how many messages of one client wait for the worker. Then nothing more is read from it.
const maxWaiting = 64

// A session is a client of a ThreadServer.
type session[C, M any] struct {
	server *ThreadServer[C, M]
	socket *tcpserver.TcpSocket
	client C

	// Of the socket's handlers, of which one runs at a time.
	partial []byte // the begin of a message; nil when there is none
	failed  bool

	// Guarded by server.mu.
	waiting int // messages that the worker has not handled
	paused  bool
	cause   error // why we have ended the connection; nil: the socket says why
}

// readyRead decodes what has come. What is left is part of a message, and kept here, so that an end of stream closes the
// socket; only what has to wait for the worker stays in the socket.
func (c *session[C, M]) readyRead(socket *tcpserver.TcpSocket) {
	if c.failed {
		return
	}
	view := socket.Peek(math.MaxInt)
	used, err := c.decode(view)
	if err != nil {
		c.fail(err)
		return
	}
	socket.Discard(used)
}

// decode returns how many bytes of view are done with.
func (c *session[C, M]) decode(view []byte) (used int, err error) {
	for len(c.partial) > 0 {
		n, more, err := c.join(view[used:])
		used += n
		if err != nil || !more {
			return used, err
		}
	}
	for len(view)-used >= c.header() {
		n, full, err := c.next(view[used:])
		if err != nil {
			return used, err
		}
		if n == 0 {
			break
		}
		used += n
		if full {
			return used, nil
		}
	}
	rest := view[used:]
	if len(rest) > c.limit() {
		return used, ErrBufferFull
	}
	c.keep(rest)
	return len(view), nil
}

// join decodes a message that has begun in partial. It returns how many bytes of view are done with, and whether to go
// on.
func (c *session[C, M]) join(view []byte) (used int, more bool, err error) {
	begun := len(c.partial)
	taken := min(len(view), c.limit()+1-begun)
	buf := append(c.partial, view[:taken]...)
	if len(buf) < c.header() {
		c.partial = buf
		return taken, false, nil
	}
	n, full, err := c.next(buf)
	switch {
	case err != nil:
		return 0, false, err
	case n == 0 && len(buf) > c.limit():
		return 0, false, ErrBufferFull
	case n == 0:
		c.partial = buf
		return taken, false, nil
	case n < begun: // the decoder has changed its mind about what it has seen before
		c.partial = buf[n:begun]
		return 0, true, nil
	}
	c.partial = nil
	return n - begun, !full, nil
}

// keep holds on to part of a message.
func (c *session[C, M]) keep(rest []byte) {
	if len(rest) > 0 {
		c.partial = append(make([]byte, 0, max(len(rest), orDefault(c.server.InitialBufferSize, 1<<10))), rest...)
	}
}

func (c *session[C, M]) header() int { return orDefault(c.server.MessageHeaderSize, 1) }
func (c *session[C, M]) limit() int  { return orDefault(c.server.MaxBufferSize, 64<<10) }

// next decodes one message and queues it for the worker. full: the worker is behind.
func (c *session[C, M]) next(buf []byte) (n int, full bool, err error) {
	var msg M
	if decode := c.server.ReadClientMessage; decode == nil {
		n = len(buf)
	} else {
		if failure := try(func() { msg, n, err = decode(c.client, buf) }); failure != nil {
			err = failure
		}
	}
	if err == nil && (n < 0 || n > len(buf)) {
		err = ErrBadCount
	}
	if err != nil || n == 0 {
		return 0, false, err
	}
	return n, c.pass(msg), nil
}

// pass queues a message, and reports whether the worker has so many that nothing more is to be read.
func (c *session[C, M]) pass(msg M) (full bool) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.push(task[C, M]{kind: taskMessage, client: c, msg: msg})
	c.waiting++
	if c.waiting >= maxWaiting && !c.paused {
		c.paused = true
		c.socket.PauseReading()
	}
	return c.paused
}

// handled is told by the worker of each message.
func (c *session[C, M]) handled() {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c.waiting--
	if c.paused && c.waiting <= maxWaiting/2 {
		c.paused = false
		c.socket.ResumeReading()
	}
}

// fail ends the client because of what it has sent. What was sent to it before is still sent.
func (c *session[C, M]) fail(err error) {
	c.failed, c.partial = true, nil
	s := c.server
	s.mu.Lock()
	c.cause = err
	s.push(task[C, M]{kind: taskError, err: err})
	s.mu.Unlock()
	c.socket.Close()
}

func (c *session[C, M]) disconnected(_ *tcpserver.TcpSocket, err error) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.push(task[C, M]{kind: taskDisconnect, client: c, err: err})
}
