package tcpserver

import (
	"math"
	"net"
	"os"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// The default buffer sizes of a TcpSocket, in bytes.
const (
	defaultReadBuffer  = 64 << 10
	defaultWriteBuffer = 1 << 20
)

// SetReadBufferSize sets the number of unread bytes at which the socket stops taking more from the system; once the
// system's own buffers are full, the peer is held back. If n <= 0, it is [TcpServer.ReadBufferSize], which is the
// default. Bytes that the socket already holds stay. The size also limits what [TcpSocket.Peek] returns and the
// length of a line.
//
// Unlike Qt, there is a limit by default, and reading goes on as soon as there is room.
func (s *TcpSocket) SetReadBufferSize(n int) {
	s.cold().readMax.Store(clampSize(n))
	s.rmu.Lock()
	resume := s.mustResume()
	s.rmu.Unlock()
	s.afterRead(resume, nil)
}

// SetWriteBufferSize sets the number of bytes that [TcpSocket.Send] may queue. If n <= 0, it is
// [TcpServer.WriteBufferSize], which is the default. Bytes that are already queued stay.
func (s *TcpSocket) SetWriteBufferSize(n int) {
	s.cold().writeMax.Store(clampSize(n))
}

func clampSize(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

func (s *TcpSocket) readLimit() int {
	if x := s.coldState.Load(); x != nil {
		if n := x.readMax.Load(); n > 0 {
			return int(n)
		}
	}
	return s.config.readLimit
}

func (s *TcpSocket) writeLimit() int {
	if x := s.coldState.Load(); x != nil {
		if n := x.writeMax.Load(); n > 0 {
			return int(n)
		}
	}
	return s.config.writeLimit
}

// option calls set with the descriptor held open. The error is ErrSocketClosed on a socket that has ended.
func (s *TcpSocket) option(set func(fd sys.FD) error) error {
	if !s.incref() {
		return s.opError(opSet, ErrSocketClosed)
	}
	defer s.decref()
	return s.opError(opSet, set(s.fd))
}

// SetAllowHalfOpen sets whether a socket with handlers stays open for sending after the peer has finished sending. If
// on is false, the socket closes after ReadClosed, as soon as what Send has queued is sent. The default is
// [TcpServer.AllowHalfOpen]. It has no effect once ReadClosed has returned.
func (s *TcpSocket) SetAllowHalfOpen(on bool) {
	if on {
		s.ready.set(halfOpen)
	} else {
		s.ready.clear(halfOpen)
	}
}

// SetNoDelay sets whether small segments are sent at once (true, the default) or delayed while earlier ones are not
// acknowledged (Nagle's algorithm, RFC 896).
//
// The error is a *[net.OpError] that wraps [ErrUnsupported] on a unix socket, [ErrSocketClosed] on a socket that has
// ended, or an error of the system.
//
// Unlike Qt, small segments are not delayed by default.
func (s *TcpSocket) SetNoDelay(on bool) error {
	if s.peer.Family == sys.FamilyUnix {
		return s.opError(opSet, ErrUnsupported)
	}
	return s.option(func(fd sys.FD) error { return sys.SetNoDelay(fd, on) })
}

// SetKeepAliveConfig sets whether and how the system detects, while nothing is sent, that the peer is no longer
// there. The fields mean what [net.KeepAliveConfig] says. The default is [TcpServer.KeepAlive]. The error is a
// *[net.OpError] that wraps [ErrSocketClosed] on a socket that has ended, or an error of the system.
func (s *TcpSocket) SetKeepAliveConfig(c net.KeepAliveConfig) error {
	return s.option(func(fd sys.FD) error { return sys.SetKeepAlive(fd, c) })
}

// SetLinger sets what the system does, when the descriptor is closed, with bytes that it has taken but not delivered.
// If sec < 0, which is the default, it sends them in the background. If sec == 0, it drops them and resets the
// connection. If sec > 0, it sends them for at most that many seconds. Close returns at once in any case. The error
// is a *[net.OpError] that wraps [ErrSocketClosed] on a socket that has ended, or an error of the system.
func (s *TcpSocket) SetLinger(sec int) error {
	return s.option(func(fd sys.FD) error {
		s.wmu.Lock() // also for the system's call, so that the flags say what it has set
		defer s.wmu.Unlock()
		if s.state == StateUnconnected {
			return ErrSocketClosed
		}
		s.wflags &^= wLinger | wResetOnClose
		switch {
		case sec > 0:
			s.wflags |= wLinger
		case sec == 0:
			s.wflags |= wResetOnClose
		}
		return sys.SetLinger(fd, sec)
	})
}

// SetReadBuffer sets the size in bytes of the system's own receive buffer (SO_RCVBUF). The errors are those of
// [TcpSocket.SetLinger].
func (s *TcpSocket) SetReadBuffer(bytes int) error {
	return s.option(func(fd sys.FD) error { return sys.SetReadBuffer(fd, bytes) })
}

// SetWriteBuffer sets the size in bytes of the system's own send buffer (SO_SNDBUF). The errors are those of
// [TcpSocket.SetLinger].
func (s *TcpSocket) SetWriteBuffer(bytes int) error {
	return s.option(func(fd sys.FD) error { return sys.SetWriteBuffer(fd, bytes) })
}

// SyscallConn returns access to the descriptor. It implements [syscall.Conn]. While a function passed to Control,
// Read or Write runs, the descriptor stays open. What it reads or writes bypasses the socket's buffers and counters.
// The error is a *[net.OpError] that wraps [ErrSocketClosed] on a socket that has ended. Read and Write wait no
// longer than the socket's deadlines allow.
func (s *TcpSocket) SyscallConn() (syscall.RawConn, error) {
	if !s.incref() {
		return nil, s.opError(opRaw, ErrSocketClosed)
	}
	s.decref()
	return rawConn{s}, nil
}

// A rawConn is the [syscall.RawConn] of a socket.
type rawConn struct{ s *TcpSocket }

func (c rawConn) Control(f func(fd uintptr)) error {
	if !c.s.incref() {
		return c.s.opError(opRaw, ErrSocketClosed)
	}
	defer c.s.decref()
	f(uintptr(c.s.fd))
	return nil
}

// Read calls f whenever something may be readable, until f returns true.
func (c rawConn) Read(f func(fd uintptr) bool) error {
	s := c.s
	x := s.cold()
	defer s.markReadable() // f may have left something
	for {
		s.ready.clear(readable)
		if done, err := c.try(f, evRead); done || err != nil {
			return err
		}
		s.rmu.Lock()
		closed, expired := s.rflags&rClosed != 0, x.readBy.expired
		if !s.ready.has(readable) && s.refs.Load()&refsClosing == 0 && !closed && !expired {
			x.readers.Wait()
		}
		s.rmu.Unlock()
		if err := c.refused(closed, expired); err != nil {
			return err
		}
	}
}

// markReadable makes all who read, handlers included, look for something to read.
func (s *TcpSocket) markReadable() {
	s.ready.set(readable)
	s.wakeReaders()
	if s.handlers.Load() != nil {
		s.notify(strandRead)
	}
}

// Write calls f whenever something may be written, until f returns true.
func (c rawConn) Write(f func(fd uintptr) bool) error {
	s := c.s
	x := s.cold()
	for {
		// wantWrite is set before the attempt, as in tryFlush: otherwise an edge that arrived earlier would be lost.
		s.wmu.Lock()
		flushes := x.flushes
		s.ready.set(wantWrite)
		s.wmu.Unlock()
		if done, err := c.try(f, evWrite); done || err != nil {
			return err
		}
		s.wmu.Lock()
		closed, expired := s.wflags&wClosed != 0 || s.state == StateUnconnected, x.writeBy.expired
		if x.flushes == flushes && !closed && !expired {
			x.writers.Wait()
		}
		s.wmu.Unlock()
		if err := c.refused(closed, expired); err != nil {
			return err
		}
	}
}

// refused returns an error if a raw call must end because the socket is closed or the deadline has passed.
func (c rawConn) refused(closed, expired bool) error {
	switch {
	case closed:
		return c.s.opError(opRaw, ErrSocketClosed)
	case expired:
		return c.s.opError(opRaw, os.ErrDeadlineExceeded)
	}
	return nil
}

// try calls f once. If f returns false, try rearms ev for the next attempt.
func (c rawConn) try(f func(fd uintptr) bool, ev events) (done bool, err error) {
	if !c.s.incref() {
		return false, c.s.opError(opRaw, ErrSocketClosed)
	}
	defer c.s.decref()
	done = f(uintptr(c.s.fd))
	if !done {
		c.s.loop.rearm(c.s.key, ev)
	}
	return done, nil
}
