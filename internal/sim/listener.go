//go:build sim

package sim

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A boundSocket is a socket that is bound or listens.
type boundSocket struct {
	name     string // "port 80" or "unix @name"; "" before bind
	port     uint16
	listener *listener // nil before listen
	file     *file
}

// A listener is a socket that listens.
type listener struct {
	number  int // of the listeners of the run
	since   time.Time
	backlog int
	queue   []*end // established, not accepted
	closed  bool
	gate    sched.Gate // of clients that the backlog has no room for, and of accepts that block
	file    *file
}

// Socket returns a descriptor of a new socket.
func Socket() (int, syscall.Errno) {
	if e := enter(CallSocket, -1); e != 0 {
		return 0, e
	}
	f := &file{bound: &boundSocket{}}
	f.bound.file = f
	return now.install(f)
}

// Bind binds a socket to a port, or to a free one if it is 0, and returns the port.
func Bind(fd int, port uint16) (uint16, syscall.Errno) {
	if e := enter(CallBind, fd); e != 0 {
		return 0, e
	}
	for port == 0 {
		now.port++
		if _, taken := now.bound[portName(now.port)]; !taken {
			port = now.port
		}
	}
	b := now.file(fd).bound
	b.port = port
	return port, b.bind(portName(port))
}

// BindName binds a socket to an abstract name.
func BindName(fd int, name string) syscall.Errno {
	if e := enter(CallBind, fd); e != 0 {
		return e
	}
	return now.file(fd).bound.bind("unix " + name)
}

func portName(port uint16) string { return fmt.Sprint("port ", port) }

func (b *boundSocket) bind(name string) syscall.Errno {
	if _, taken := now.bound[name]; taken {
		return syscall.EADDRINUSE
	}
	b.name = name
	now.listeners++
	b.listener = &listener{number: now.listeners, since: time.Now(), backlog: -1, file: b.file}
	now.bound[name] = b.listener
	return 0
}

// Listen makes a bound socket listen, or changes its backlog.
func Listen(fd, backlog int) syscall.Errno {
	if e := enter(CallListen, fd); e != 0 {
		return e
	}
	now.file(fd).bound.listener.backlog = backlog
	return 0
}

// IsListening reports whether a socket listens.
func IsListening(fd int) bool {
	f := now.file(fd)
	return f.bound != nil && f.bound.listener != nil && f.bound.listener.backlog >= 0
}

// Port returns the local port of a socket.
func Port(fd int) (uint16, syscall.Errno) {
	if e := enter(CallName, fd); e != 0 {
		return 0, e
	}
	if b := now.file(fd).bound; b != nil {
		return b.port, 0
	}
	return 0, 0
}

// LocalName returns the abstract name of a socket, or "".
func LocalName(fd int) string {
	var name string
	if b := now.file(fd).bound; b != nil {
		fmt.Sscanf(b.name, "unix %s", &name)
	}
	return name
}

func (b *boundSocket) closed() {
	l := b.listener
	if l == nil {
		return
	}
	l.closed = true
	delete(now.bound, b.name)
	for _, e := range l.queue {
		e.reset()
		e.gone = true
	}
	l.queue = nil
	l.gate.Open()
}

// HasConnection reports whether a connection waits to be accepted.
func HasConnection(fd int) bool {
	sched.Point()
	l := now.file(fd).bound.listener
	return l != nil && len(l.queue) > 0
}

// Accept accepts a connection. It waits for one only if the description is in blocking mode.
func Accept(fd int) (int, netip.AddrPort, syscall.Errno) {
	var none netip.AddrPort
	fault := enter(CallAccept, fd)
	k := now
	f := k.file(fd)
	l := f.bound.listener
	for fault == 0 && len(l.queue) == 0 && f.blocking && !l.closed {
		l.gate.Wait("a connection, in blocking mode")
	}
	switch {
	case fault == syscall.EAGAIN:
		k.later(func() { f.notify(readEdge) })
		return 0, none, fault
	case fault != 0 && l.dropsConnection(fault):
		return 0, none, fault
	case fault != 0 || len(l.queue) == 0:
		if fault == 0 {
			fault = syscall.EAGAIN
		}
		return 0, none, fault
	case k.open >= k.Files:
		return 0, none, syscall.EMFILE
	}
	e := l.queue[0]
	l.queue = l.queue[1:]
	l.gate.Open()
	if e.broken && k.AbortInBacklog {
		e.gone = true
		return 0, none, syscall.ECONNABORTED
	}
	k.accepted++
	e.conn.Accepted, e.conn.Order = true, k.accepted
	e.touch()
	e.watch = &file{conn: e}
	n, _ := k.install(e.watch)
	return n, e.conn.Local, 0
}

// dropsConnection ends the first connection of the queue if an accept that fails with errno does so.
func (l *listener) dropsConnection(errno syscall.Errno) bool {
	switch errno {
	case syscall.EINTR, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return false
	}
	if len(l.queue) > 0 {
		e := l.queue[0]
		l.queue = l.queue[1:]
		e.reset()
		e.gone = true
		l.gate.Open()
	}
	return true
}

// Dial connects to a port. It waits while the backlog is full.
func Dial(port uint16) (*Conn, error) { return dial(portName(port)) }

// DialName connects to an abstract name.
func DialName(name string) (*Conn, error) { return dial("unix " + name) }

func dial(name string) (*Conn, error) {
	sched.Point()
	k := now
	for {
		l := k.bound[name]
		if l == nil || l.backlog < 0 {
			return nil, syscall.ECONNREFUSED
		}
		if len(l.queue) <= l.backlog {
			c := newConn(k)
			c.Listener = l.number
			l.queue = append(l.queue, c.server)
			l.file.notify(readEdge)
			l.gate.Open()
			return c, nil
		}
		l.gate.Wait("room in the backlog")
	}
}

// Listener returns the number of the listener of a port, or 0 if there is none.
func (k *Kernel) Listener(port uint16) int {
	if l := k.bound[portName(port)]; l != nil && l.backlog >= 0 {
		return l.number
	}
	return 0
}

// ListenerSince returns since when the listener of a port exists.
func (k *Kernel) ListenerSince(port uint16) (t time.Time) {
	if l := k.bound[portName(port)]; l != nil {
		t = l.since
	}
	return t
}

// Waiting returns how many connections wait in the backlog of a port.
func (k *Kernel) Waiting(port uint16) int {
	if l := k.bound[portName(port)]; l != nil {
		return len(l.queue)
	}
	return 0
}
