package tcpserver

import (
	"net"
	"runtime/debug"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// An OverflowPolicy determines what happens to new connections while the queue of pending connections is full. The
// zero value is [OverflowWait].
type OverflowPolicy int

const (
	// OverflowWait leaves new connections in the system's backlog, which holds up to [TcpServer.Backlog] of them.
	OverflowWait OverflowPolicy = iota
	// OverflowDrop accepts new connections and closes them at once.
	OverflowDrop
)

// A Drop is a connection that was dropped: it was accepted and closed at once, and nothing was read from it.
type Drop struct {
	Local, Remote net.Addr
	Reason        DropReason
}

// A DropReason is the reason why a connection was dropped.
type DropReason int

const (
	// DropQueueFull means that the queue was full and [TcpServer.Overflow] is [OverflowDrop].
	DropQueueFull DropReason = iota
	// DropMaxConnections means that there were as many connections as [TcpServer.SetMaxConnections] allows.
	DropMaxConnections
	// DropFiltered means that [TcpServer.Filter] returned false or panicked.
	DropFiltered
)

// String returns the name of the reason without "Drop", or "invalid".
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

// MaxConnections returns the maximum number of connections, pending and taken together. The default is 0, which means
// that there is no limit.
func (s *TcpServer) MaxConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxConnections
}

// SetMaxConnections sets the maximum number of connections, pending and taken together. Further connections are
// accepted, closed at once, and reported to [TcpServer.DropHandler]. It takes effect at once and ends no existing
// connection. If n <= 0, there is no limit.
//
// Unlike Qt, which limits only the pending connections, it also counts those that were taken.
func (s *TcpServer) SetMaxConnections(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxConnections = max(n, 0)
}

// isFull reports whether the queue has reached its limit. mu is held.
func (s *TcpServer) isFull() bool { return s.pending.Len() >= s.max.limit() }

// limit reports whether, and why, one more connection is too many. With OverflowWait, none is accepted while the
// queue is full; if the limit is lowered during an accept, the connection is still queued. mu is held.
func (s *TcpServer) limit() (DropReason, bool) {
	switch {
	case s.maxConnections > 0 && s.open >= s.maxConnections:
		return DropMaxConnections, true
	case s.isFull() && s.cur.overflow == OverflowDrop:
		return DropQueueFull, true
	}
	return 0, false
}

// maxDrops is how many drops may wait for DropHandler. Further drops are only counted.
const maxDrops = 64

// drop closes a connection, after it has counted the drop, so that the count comes before the peer can notice.
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

// describe returns the Drop of c, whose descriptor must still be open for the addresses.
func (ln *listener) describe(c candidate) Drop {
	d := Drop{Local: ln.netAddr(), Remote: c.peer.NetAddr(""), Reason: c.reason}
	if ln.addr.IsWildcard() {
		if local, err := sys.LocalAddr(c.fd); err == nil {
			d.Local = local.NetAddr("")
		}
	}
	return d
}

// allowed reports whether the filter lets c pass. If the filter ends the goroutine, allowed rejects c itself, and
// another goroutine calls DropHandler.
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

// reject drops a connection that accept has counted as open.
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
