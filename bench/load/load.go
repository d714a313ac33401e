package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A conn is the state of one connection.
type conn struct {
	open     bool
	pending  bool  // connecting
	inFlight int   // messages whose echo is not complete
	received int   // bytes of the next echo received so far
	unsent   int   // bytes that the system has not accepted yet
	sentAt   int64 // when the oldest message in flight was sent, nanoseconds
	answered bool  // its first message has been echoed
}

// A load is an event loop. Its connections send messages of one size, and each echo is followed by another message.
type load struct {
	server       unix.SockaddrInet4
	size, depth  int
	churn        int // if not zero, connections open at a time, each of which is closed after one message
	ramping      int // connections that still wait for their first answer in a ramp
	ep           int
	conns        []conn // by descriptor
	active       []int  // descriptors of the connections that are not idle
	opened       int    // connections opened by a churn, for their source addresses
	inFlight     int    // messages in flight on all connections, and connections in progress
	running      bool   // an echo is followed by another message
	out, in      []byte
	latency      *histogram
	firstLatency *histogram // of the first message of each connection
	start        time.Time
	events       [512]unix.EpollEvent
}

func newLoad(server *net.TCPAddr, size, depth int) (*load, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &load{
		server:       unix.SockaddrInet4{Port: server.Port, Addr: [4]byte(server.IP.To4())},
		size:         size,
		depth:        depth,
		ep:           ep,
		conns:        make([]conn, 32<<10),
		out:          make([]byte, size*depth),
		in:           make([]byte, 256<<10),
		latency:      new(histogram),
		firstLatency: new(histogram),
		start:        time.Now(),
	}
	for i := range l.out {
		l.out[i] = byte(i%size) * 7
	}
	return l, nil
}

func (l *load) now() int64 { return int64(time.Since(l.start)) }

// open opens n more connections.
func (l *load) open(n int) error {
	for range n {
		fd, err := l.connect(true)
		if err != nil {
			return err
		}
		l.active = append(l.active, fd)
	}
	return nil
}

// leaveIdle makes run leave the connections opened so far idle.
func (l *load) leaveIdle() { l.active = nil }

// connect opens a connection, and returns when it is established if wait is true. A churn varies the source address,
// because one address does not have enough ports.
func (l *load) connect(wait bool) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if l.churn > 0 {
		l.opened++
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		source := unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + l.opened%200)}}
		if err := unix.Bind(fd, &source); err != nil {
			return 0, err
		}
	}
	if err := unix.SetNonblock(fd, !wait); err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, &l.server); err != nil && err != unix.EINPROGRESS {
		return 0, fmt.Errorf("connection %d: %w", l.opened, err)
	}
	unix.SetNonblock(fd, true)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)}
	if fd >= len(l.conns) {
		return 0, fmt.Errorf("too many connections: descriptor %d", fd)
	}
	l.conns[fd] = conn{open: true, pending: !wait}
	return fd, unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &ev)
}

// verify sends one message on each active connection and compares the echo with it.
func (l *load) verify() error {
	for _, fd := range l.active {
		unix.SetNonblock(fd, false)
		for sent := 0; sent < l.size; {
			n, err := unix.Write(fd, l.out[sent:l.size])
			if err != nil {
				return err
			}
			sent += n
		}
		got := make([]byte, 0, l.size)
		for len(got) < l.size {
			n, err := unix.Read(fd, got[len(got):l.size])
			if n <= 0 {
				return fmt.Errorf("no echo: %v", err)
			}
			got = got[:len(got)+n]
		}
		if !bytes.Equal(got, l.out[:l.size]) {
			return errors.New("echo differs from message")
		}
		unix.SetNonblock(fd, true)
	}
	return nil
}

// run keeps the active connections busy for the duration d, and then waits for the messages in flight. It returns how
// long that took in all.
func (l *load) run(d time.Duration) time.Duration {
	*l.latency, *l.firstLatency = histogram{}, histogram{}
	l.running = true
	begin := l.now()
	for _, fd := range l.active {
		l.send(fd, l.depth)
	}
	for range l.churn + min(l.ramping, rampWindow) {
		l.connectNext()
	}
	for l.inFlight > 0 {
		n, _ := unix.EpollWait(l.ep, l.events[:], 1000)
		if l.now()-begin > int64(d) && l.ramping == 0 {
			l.running = false
		}
		for _, ev := range l.events[:max(n, 0)] {
			l.handleEvent(int(ev.Fd), ev.Events)
		}
	}
	return time.Duration(l.now() - begin)
}

// burst opens n connections, leaves them idle for burstRest without a message, lets all send at once, and keeps them
// busy for the duration d.
func (l *load) burst(n int, d time.Duration) time.Duration {
	check(l.open(n))
	time.Sleep(burstRest)
	defer l.closeAll()
	return l.run(d)
}

// ramp opens n connections, of which up to rampWindow wait for their first answer at a time. Each keeps sending from
// then on, until all n have had their first answer.
func (l *load) ramp(n int) time.Duration {
	l.ramping = n
	defer l.closeAll()
	return l.run(0)
}

const (
	// burstRest is how long the server is idle before a burst.
	burstRest = 300 * time.Millisecond
	// rampWindow is less than an accept queue holds: the system drops a connection request for which a full queue has
	// no room, and the client repeats it only after a second.
	rampWindow = 1000
)

func (l *load) closeAll() {
	for fd := range l.conns {
		if l.conns[fd].open {
			unix.Close(fd)
			l.conns[fd] = conn{}
		}
	}
	l.active = nil
}

// connectNext opens the next connection of a churn or ramp. The latency of its first message includes connecting.
func (l *load) connectNext() {
	fd, err := l.connect(false)
	check(err)
	l.conns[fd].sentAt = l.now()
	l.inFlight++
}

func (l *load) handleEvent(fd int, events uint32) {
	c := &l.conns[fd]
	if !c.open {
		return
	}
	if c.pending {
		if events&unix.EPOLLOUT == 0 {
			return
		}
		c.pending = false
		l.inFlight-- // send counts it again
		connectedAt := c.sentAt
		l.send(fd, 1)
		c.sentAt = connectedAt
		return
	}
	if c.unsent > 0 {
		l.flush(fd)
	}
	if events&unix.EPOLLIN != 0 {
		l.receive(fd)
	}
}

// send sends n more messages on a connection.
func (l *load) send(fd, n int) {
	c := &l.conns[fd]
	if c.inFlight == 0 {
		c.sentAt = l.now()
	}
	c.inFlight += n
	l.inFlight += n
	c.unsent += n * l.size
	l.flush(fd)
}

func (l *load) flush(fd int) {
	c := &l.conns[fd]
	for c.unsent > 0 {
		n, err := send(fd, l.out[:min(c.unsent, len(l.out))])
		if err != nil {
			return
		}
		c.unsent -= n
	}
}

func (l *load) receive(fd int) {
	c := &l.conns[fd]
	for {
		n, err := receive(fd, l.in)
		if n <= 0 {
			if err == unix.EAGAIN {
				return
			}
			check(fmt.Errorf("server closed a connection: %v", err))
		}
		c.received += n
		done := c.received / l.size
		c.received %= l.size
		if done > 0 {
			l.complete(fd, done)
		}
		if n < len(l.in) || !c.open {
			return
		}
	}
}

// complete counts echoed messages, and continues the connection.
func (l *load) complete(fd, done int) {
	c := &l.conns[fd]
	now := l.now()
	for range done {
		l.latency.add(now - c.sentAt)
	}
	if !c.answered {
		c.answered = true
		l.firstLatency.add(now - c.sentAt)
		if l.ramping > 0 {
			l.onFirstAnswer()
		}
	}
	c.inFlight -= done
	l.inFlight -= done
	c.sentAt = now
	switch {
	case l.churn > 0:
		unix.Close(fd)
		c.open = false
		if l.running {
			l.connectNext()
		}
	case l.running:
		l.send(fd, done)
	}
}

// onFirstAnswer counts a connection of a ramp that has had its first answer, and opens another if any is left.
func (l *load) onFirstAnswer() {
	l.ramping--
	if l.ramping >= rampWindow {
		l.connectNext()
	}
}
