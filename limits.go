package tcpserver

import (
	"net"
	"runtime/debug"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// OverflowPolicy says what happens to connections when the queue of pending ones is full.
type OverflowPolicy int

const (
	// OverflowWait leaves them to the system, which holds as many as TcpServer.Backlog.
	OverflowWait OverflowPolicy = iota
	// OverflowDrop accepts them and closes them at once.
	OverflowDrop
)

// A Drop is a connection that was turned away: accepted, and closed at once. Nothing was read from it.
type Drop struct {
	Local, Remote net.Addr
	Reason        DropReason
}

// DropReason is why a connection was turned away.
type DropReason int

const (
	// DropQueueFull: the queue was full, and Overflow is OverflowDrop.
	DropQueueFull DropReason = iota
	// DropMaxConnections: there were as many connections as SetMaxConnections allows.
	DropMaxConnections
	// DropFiltered: Filter has said no, or panicked.
	DropFiltered
)

// String returns the name of the reason without "Drop".
func (r DropReason) String() string {
	switch r {
	case DropQueueFull:
		return "QueueFull"
	case DropMaxConnections:
		return "MaxConnections"
	case DropFiltered:
		return "Filtered"
	}
	return "invalid"
}

// MaxConnections returns how many connections the server may have, the pending and the taken ones together. Default: 0,
// no limit.
func (s *TcpServer) MaxConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxConnections
}

// SetMaxConnections sets how many connections the server may have, the pending and the taken ones together. Those
// beyond it are accepted and closed at once; DropHandler is told. It takes effect at once and ends no connection that
// there is. n <= 0: no limit.
//
// Unlike Qt, where only the pending ones have a limit.
func (s *TcpServer) SetMaxConnections(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxConnections = max(n, 0)
}

// isFull reports whether the queue has reached its limit. mu is held.
func (s *TcpServer) isFull() bool { return s.pending.Len() >= s.max.limit() }

// limit reports whether, and why, one more connection is too many. With OverflowWait none is accepted while the queue
// is full, but the limit may have been lowered during an accept: the connection is queued then. mu is held.
func (s *TcpServer) limit() (DropReason, bool) {
	switch {
	case s.maxConnections > 0 && s.open >= s.maxConnections:
		return DropMaxConnections, true
	case s.isFull() && s.cur.overflow == OverflowDrop:
		return DropQueueFull, true
	}
	return 0, false
}

// maxDrops is how many drops wait for the handler; further ones are only counted.
const maxDrops = 64

// drop turns a connection away. It is counted before its peer can notice.
func (ln *listener) drop(c candidate) {
	var d Drop
	if ln.dropHandler != nil {
		d = ln.describe(c)
	}
	defer ln.loop.poller.release()
	defer sys.Close(c.fd)
	s := ln.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped++
	ln.admitting = false
	if ln.dropHandler != nil && s.cur == ln && s.strand.drops.Len() < maxDrops {
		s.strand.drops.PushBack(d)
	}
	s.callAccept()
}

// describe asks for the addresses while the descriptor is open.
func (ln *listener) describe(c candidate) Drop {
	d := Drop{Local: ln.netAddr(), Remote: c.peer.NetAddr(""), Reason: c.reason}
	if ln.addr.IsWildcard() {
		if local, err := sys.LocalAddr(c.fd); err == nil {
			d.Local = local.NetAddr("")
		}
	}
	return d
}

// welcomes asks the filter. If that ends the goroutine, the connection is turned away here, and another tells of it.
func (ln *listener) allowed(c candidate) (ok bool) {
	if ln.filter == nil || c.peer.Family == sys.FamilyUnix {
		return true
	}
	finished := false
	defer func() {
		if finished {
			return
		}
		v := recover()
		ln.logError("filter failed", "remote", c.peer.NetAddr(""), "panic", v, "stack", string(debug.Stack()))
		if v == nil {
			ln.reject(c)
			s := ln.server
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wakeStrand()
		}
	}()
	ok = ln.filter(c.peer.AddrPort())
	finished = true
	return ok
}

// refuse turns away a connection that accept has counted as open.
func (ln *listener) reject(c candidate) {
	s := ln.server
	s.mu.Lock()
	s.leaveCount(ln)
	ln.members--
	s.checkPeriod(ln)
	s.mu.Unlock()
	c.reason = DropFiltered
	ln.drop(c)
}
