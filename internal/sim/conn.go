//go:build sim

package sim

import (
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A Conn is a connection as its client sees it.
type Conn struct {
	ID     int
	client *end
	server *end
	Local  netip.AddrPort // the client's address

	Listener   int       // which of the listeners of the run it came to
	Accepted   bool      // accept has returned it
	Order      int       // as how many-th
	LastActive time.Time // when the server has received or sent something, or accepted it
	Before     time.Time // when it had done so before that, at another time
	Closed     time.Time // when the server has closed its descriptor
}

// An end is one of the two ends of a connection.
type end struct {
	conn   *Conn
	peer   *end
	client bool
	watch  *file // whose watches are told of edges; nil at the client
	gate   sched.Gate

	unsent   []byte // taken from the program, not delivered
	finDue   bool   // an end of stream follows
	finSent  bool
	resetDue bool // a reset is on its way to the peer
	onWire   bool
	frozen   bool // nothing that it sends arrives any more

	sent     int       // bytes that were taken from the program
	sentAt   time.Time // when the last of them was
	received []byte
	total    int           // bytes that were received
	totalAt  time.Time     // when the last of them was
	shut     bool          // the receive window is closed
	eof      bool          // an end of stream was received
	shutRead bool          // by shutdown
	errno    syscall.Errno // the next call returns it
	broken   bool          // by a reset
	wantRoom bool          // a send found too little room: an edge follows
	linger0  bool
	lingers  bool // closing it may block
	ending   bool // the program has ended its stream
	last     bool // the peer had ended its stream before
	sentThen int  // how many bytes the peer had sent until then
	quiet    bool // and all of them had arrived before that moment
	gone     bool // the program has closed it
}

func newEnd(c *Conn, client bool) *end { return &end{conn: c, client: client} }

func newConn(k *Kernel) *Conn {
	c := &Conn{ID: len(k.conns)}
	c.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(20000+c.ID))
	c.client, c.server = newEnd(c, true), newEnd(c, false)
	c.client.peer, c.server.peer = c.server, c.client
	k.conns = append(k.conns, c)
	return c
}

func (e *end) room() int { return max(0, now.SendBuffer-len(e.unsent)) }

// hasWork reports whether deliver would do something.
func (e *end) hasWork() bool {
	switch {
	case e.frozen:
		return false
	case e.resetDue:
		return true
	case len(e.unsent) > 0:
		return e.peer.gone || e.peer.broken || e.peer.window() > 0
	}
	return e.finDue && !e.finSent
}

// window returns how many bytes e announces that it would receive. A closed window opens again when there is room for
// WindowStep bytes.
func (e *end) window() int {
	room := now.ReceiveBuffer - len(e.received)
	e.shut = room <= 0 || e.shut && room < now.WindowStep
	if e.shut {
		return 0
	}
	return room
}

// kick puts e on the wire if it has something to deliver.
func (e *end) kick() {
	if !e.onWire && e.hasWork() {
		e.onWire = true
		now.wires = append(now.wires, e)
	}
	now.carry()
}

// expects reports whether more bytes are on their way to e. A system returns less than it holds, if at all, only then:
// it makes no edge for what it has left, so that the one of the next bytes must be enough.
func (e *end) expects() bool {
	p := e.peer
	return p.onWire && !p.frozen && !p.resetDue && len(p.unsent) > 0 && e.window() > 0
}

// deliver delivers a piece of what e has sent.
func (e *end) deliver() {
	p := e.peer
	switch {
	case !e.hasWork():
	case e.resetDue:
		e.resetDue = false
		p.breakOff(syscall.ECONNRESET)
	case p.broken:
		e.unsent, e.finDue = nil, false
	case len(e.unsent) > 0 && (p.gone || p.shutRead && p.client):
		// Nobody will read it: the peer's system answers with a reset.
		e.unsent = nil
		p.sendEnd()
		e.breakOff(syscall.ECONNRESET)
	case len(e.unsent) > 0:
		n := min(len(e.unsent), p.window())
		if now.Segments > 0 {
			n = min(n, 1+sched.Intn(now.Segments))
		}
		p.received = append(p.received, e.unsent[:n]...)
		p.total += n
		p.totalAt = time.Now()
		e.unsent = e.unsent[n:]
		if p.shutRead {
			p.received = nil
		}
		p.readEdge()
		e.madeRoom()
	default:
		e.finSent = true
		p.eof = true
		p.readEdge()
	}
	e.onWire = e.hasWork()
	if !e.onWire {
		now.wires = slices.DeleteFunc(now.wires, func(o *end) bool { return o == e })
	}
}

// madeRoom tells a program that a third of the send buffer is free again, if it has found it full. The fraction is that
// of Linux (sock_def_write_space).
func (e *end) madeRoom() {
	if e.wantRoom && e.room() >= max(1, now.SendBuffer/3) {
		e.wantRoom = false
		e.notify(writeEdge)
	}
	e.gate.Open()
}

func (e *end) readEdge() {
	e.notify(readEdge)
	e.gate.Open()
}

func (e *end) notify(edge edge) {
	if e.watch != nil {
		e.watch.notify(edge)
	}
}

// breakOff ends the connection at e, with an error for the program.
func (e *end) breakOff(errno syscall.Errno) {
	if e.broken || e.gone {
		return
	}
	e.broken = true
	e.errno = errno
	e.unsent, e.finDue = nil, false
	if now.ResetDropsData {
		e.received = nil
	}
	e.notify(errorEdge)
	e.gate.Open()
}

// sendEnd delivers an end of stream that nothing holds back. It comes before a reset that follows.
func (e *end) sendEnd() {
	if e.finDue && len(e.unsent) == 0 && !e.frozen && !e.peer.broken {
		e.finSent, e.peer.eof = true, true
	}
}

// reset drops what e has not sent and resets the connection.
func (e *end) reset() {
	e.sendEnd()
	e.unsent, e.finDue = nil, false
	if !e.broken {
		e.resetDue = true
	}
	e.broken = true
	e.kick()
}

// end notes whether the peer has ended its stream first.
func (e *end) end() {
	if !e.ending {
		e.ending, e.last = true, e.eof && len(e.received) == 0
		e.sentThen = e.peer.sent
		e.quiet = e.total == e.peer.sent && e.totalAt.Before(time.Now())
	}
}

// closed is called when the program has closed its last descriptor.
func (e *end) closed() {
	unread := len(e.received) > 0
	e.end()
	if !e.client {
		e.conn.Closed = time.Now()
	}
	e.received = nil
	switch {
	case e.broken:
	case e.linger0 || unread:
		e.reset()
	default:
		e.finDue = true
		e.kick()
	}
	e.gone = true
	e.watch = nil
	e.peer.kick() // what the peer has sent meets a closed end
	e.gate.Open()
}

// drained is the size of the reads that only empty a connection before it is closed.
const drained = 256 << 10

// recv takes what was received.
func (e *end) recv(p []byte) (int, syscall.Errno) {
	switch {
	case len(e.received) > 0:
		n := copy(p, e.received)
		e.received = e.received[n:]
		if len(p) < drained {
			e.touch()
		}
		e.peer.kick()
		return n, 0
	case e.errno != 0:
		errno := e.errno
		e.errno = 0
		return 0, errno
	case e.eof || e.broken || e.shutRead:
		return 0, 0
	}
	return 0, syscall.EAGAIN
}

// send takes as much of p as there is room for.
func (e *end) send(p []byte) (int, syscall.Errno) {
	switch {
	case e.errno != 0:
		errno := e.errno
		e.errno = 0
		return 0, errno
	case e.broken || e.finDue:
		return 0, syscall.EPIPE
	}
	n := min(len(p), e.room())
	e.unsent = append(e.unsent, p[:n]...)
	if n > 0 {
		e.sent += n
		e.sentAt = time.Now()
	}
	if n < len(p) {
		e.wantRoom = true
	}
	e.kick()
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	e.touch()
	return n, 0
}

func (e *end) touch() {
	if c, t := e.conn, time.Now(); !e.client && t != c.LastActive {
		c.Before, c.LastActive = c.LastActive, t
	}
}

// Recv and the calls below are those of the server's end.

// Recv is recv without waiting.
func Recv(fd int, p []byte) (int, syscall.Errno) {
	fault := enter(CallRecv, fd)
	e := now.file(fd).conn
	if fault == Short && len(p) > 1 && len(e.received) > 1 && e.expects() {
		p = p[:1+sched.Intn(min(len(p), len(e.received))-1)]
	} else if fault != 0 && fault != Short {
		return 0, e.fail(fault, e.readEdge)
	}
	return e.recv(p)
}

// Send is send without waiting.
func Send(fd int, p []byte) (int, syscall.Errno) {
	fault := enter(CallSend, fd)
	e := now.file(fd).conn
	if fault == Short && len(p) > 1 {
		p = p[:1+sched.Intn(len(p)-1)]
	} else if fault != 0 && fault != Short {
		e.wantRoom = true
		return 0, e.fail(fault, func() { e.notify(writeEdge) })
	}
	return e.send(p)
}

// fail prepares the end for a call that fails. One that fails with EAGAIN is followed by an edge.
func (e *end) fail(fault syscall.Errno, edge func()) syscall.Errno {
	switch fault {
	case syscall.EAGAIN:
		now.later(edge)
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT:
		if !e.broken {
			e.breakOff(0)
			e.peer.breakOff(syscall.ECONNRESET)
		}
	}
	return fault
}

// Unread returns how many bytes were received and not read.
func Unread(fd int) int {
	if enter(CallUnread, fd) != 0 {
		return 0
	}
	return len(now.file(fd).conn.received)
}

// Unacked returns how many bytes were sent that the peer's system has not received, where the end of the stream counts
// as one, and the peer's receive window. known is false if the system does not tell that.
func Unacked(fd int) (unacked, window int, known bool) {
	sched.Point()
	e := now.file(fd).conn
	if now.HideUnacked {
		return 0, 0, false
	}
	unacked = len(e.unsent)
	if e.finDue && !e.finSent {
		unacked++
	}
	return unacked, now.ReceiveBuffer, true
}

// Shutdown ends one or both directions.
func Shutdown(fd int, read, write bool) syscall.Errno {
	if e := enter(CallShutdown, fd); e != 0 {
		return e
	}
	e := now.file(fd).conn
	if e.broken {
		return syscall.ENOTCONN
	}
	if read {
		e.shutRead = true
		e.received = nil
		e.readEdge()
	}
	if write {
		e.end()
		e.finDue = true
		e.kick()
	}
	return 0
}

// SetLinger is SO_LINGER. With 0 seconds closing the descriptor resets the connection; with more it may block. It does
// not fail.
func SetLinger(fd, seconds int) syscall.Errno {
	enter(CallLinger, fd)
	if c := now.file(fd).conn; c != nil {
		c.linger0, c.lingers = seconds == 0, seconds > 0
	}
	return 0
}

// SetOption stands for the options that change nothing here.
func SetOption(fd int) syscall.Errno {
	e := enter(CallOption, fd)
	now.file(fd)
	return e
}

// The methods below are the client's.

// Send sends p and waits until the system has taken all of it.
func (c *Conn) Send(p []byte) (sent int, err error) {
	e := c.client
	for {
		sched.Point()
		n, errno := e.send(p[sent:])
		sent += n
		switch {
		case sent == len(p):
			return sent, nil
		case errno != 0 && errno != syscall.EAGAIN:
			return sent, errno
		}
		if e.room() == 0 && !e.broken && e.errno == 0 { // e.send may have let others run
			e.gate.Wait("room to send")
		}
	}
}

// Recv waits for bytes. It returns io.EOF at the end of the stream.
func (c *Conn) Recv(p []byte) (int, error) {
	for {
		n, err := c.TryRecv(p)
		if err != syscall.EAGAIN {
			return n, err
		}
		c.client.gate.Wait("bytes from the server")
	}
}

// TryRecv is Recv without waiting: it returns EAGAIN if there is nothing.
func (c *Conn) TryRecv(p []byte) (int, error) {
	sched.Point()
	if c.client.gone {
		return 0, syscall.EBADF
	}
	n, errno := c.client.recv(p)
	switch {
	case n > 0:
		return n, nil
	case errno == 0:
		return 0, io.EOF
	}
	return 0, errno
}

// CloseWrite ends the client's stream.
func (c *Conn) CloseWrite() {
	sched.Point()
	c.client.finDue = true
	c.client.kick()
}

// Close closes the client's end. If bytes are unread, the server gets a reset.
func (c *Conn) Close() {
	sched.Point()
	if !c.client.gone {
		c.client.closed()
	}
}

// Reset resets the connection.
func (c *Conn) Reset() {
	sched.Point()
	if !c.client.gone {
		c.client.linger0 = true
		c.client.closed()
	}
}

// Vanish makes the client a machine that is no longer there: nothing comes from it, and it takes nothing.
func (c *Conn) Vanish() {
	sched.Point()
	c.client.frozen = true
	c.server.frozen = true
	c.client.gate.Open()
}

// Arrived returns how many of the client's bytes have arrived at the server's system.
func (c *Conn) Arrived() int { return c.server.total }

// Held returns how many bytes the server's system holds that the program has not read.
func (c *Conn) Held() int { return len(c.server.received) }

// Taken returns how many bytes the server's system has taken from the program, and how many of these the client's
// system has received, with the times of the last ones.
func (c *Conn) Taken() (sent int, sentAt time.Time, received int, receivedAt time.Time) {
	return c.server.sent, c.server.sentAt, c.client.total, c.client.totalAt
}

// EndReceived reports whether the server's end of stream has arrived at the client's system.
func (c *Conn) EndReceived() bool { return c.client.eof }

// EndArrived reports whether the client's end of stream has arrived at the server's system, or its reset.
func (c *Conn) EndArrived() (eof, reset bool) { return c.server.eof, c.server.broken }

// EndedFirst reports whether the client's end of stream had arrived when the server ended its own.
func (c *Conn) EndedFirst() bool { return c.server.last }

// Quiet reports whether everything that the client has sent had arrived some time before the server ended its stream.
func (c *Conn) Quiet() bool { return c.server.quiet && c.client.sent == c.server.sentThen }

// ServerGone reports whether the server has closed its descriptor.
func (c *Conn) ServerGone() bool { return c.server.gone }

// RoomToSend returns how many bytes the server's system would take.
func (c *Conn) RoomToSend() int { return c.server.room() }
