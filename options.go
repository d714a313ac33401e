package tcpserver

import (
	"math"
	"net"
	"os"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// The buffers of TcpSocket, unless the server or the socket says otherwise, in bytes.
const (
	defaultReadBuffer  = 64 << 10
	defaultWriteBuffer = 1 << 20
)

// SetReadBufferSize limits how many bytes the socket holds unread before it stops taking more from the system; the
// peer is then held back once the system's own buffers are full. n <= 0: the default, TcpServer.ReadBufferSize. What
// is held already stays. It also limits Peek and the length of a line.
//
// Unlike Qt, there is a limit by default, and room is used as soon as there is some.
func (s *TcpSocket) SetReadBufferSize(n int) {
	s.cold().readMax.Store(clampSize(n))
	s.rmu.Lock()
	resume := s.mustResume()
	s.rmu.Unlock()
	s.afterRead(resume, nil)
}

// SetWriteBufferSize limits how many bytes Send queues. n <= 0: the default, TcpServer.WriteBufferSize. What is
// queued already stays.
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

// option runs set on the descriptor. The error is ErrSocketClosed on a socket that has ended.
func (s *TcpSocket) option(set func(fd sys.FD) error) error {
	if !s.incref() {
		return s.opError(opSet, ErrSocketClosed)
	}
	defer s.decref()
	return s.opError(opSet, set(s.fd))
}

// SetAllowHalfOpen sets whether a socket with handlers stays open for sending after the peer has finished. If on is
// false, the socket closes after ReadClosed as soon as what Send has queued is sent. The default is
// TcpServer.AllowHalfOpen. It has no effect on a socket whose ReadClosed has returned.
func (s *TcpSocket) SetAllowHalfOpen(on bool) {
	if on {
		s.ready.set(halfOpen)
	} else {
		s.ready.clear(halfOpen)
	}
}

// SetNoDelay sets whether small pieces are sent at once (true, the default) or held back while others are on their
// way (Nagle's algorithm, RFC 896).
//
// The error is ErrUnsupported on a unix socket.
//
// Unlike Qt, whose sockets hold back by default.
func (s *TcpSocket) SetNoDelay(on bool) error {
	if s.peer.Family == sys.FamilyUnix {
		return s.opError(opSet, ErrUnsupported)
	}
	return s.option(func(fd sys.FD) error { return sys.SetNoDelay(fd, on) })
}

// SetKeepAliveConfig sets whether and how the system finds out that the peer is gone while nothing is sent. The
// meaning of the fields is that of net.KeepAliveConfig.
func (s *TcpSocket) SetKeepAliveConfig(c net.KeepAliveConfig) error {
	return s.option(func(fd sys.FD) error { return sys.SetKeepAlive(fd, c) })
}

// SetLinger sets what the system does with bytes it has taken but not delivered when the descriptor is closed:
// sec < 0, the default, sends them in the background; 0 drops them and resets the connection; sec > 0 sends them
// for at most that many seconds. Close returns at once in any case.
func (s *TcpSocket) SetLinger(sec int) error {
	s.wmu.Lock()
	s.wflags &^= wLinger | wResetOnClose
	switch {
	case sec > 0:
		s.wflags |= wLinger
	case sec == 0:
		s.wflags |= wResetOnClose
	}
	s.wmu.Unlock()
	return s.option(func(fd sys.FD) error { return sys.SetLinger(fd, sec) })
}

// SetReadBuffer sets the size in bytes of the system's own receive buffer (SO_RCVBUF).
func (s *TcpSocket) SetReadBuffer(bytes int) error {
	return s.option(func(fd sys.FD) error { return sys.SetReadBuffer(fd, bytes) })
}

// SetWriteBuffer sets the size in bytes of the system's own send buffer (SO_SNDBUF).
func (s *TcpSocket) SetWriteBuffer(bytes int) error {
	return s.option(func(fd sys.FD) error { return sys.SetWriteBuffer(fd, bytes) })
}

// SyscallConn gives access to the descriptor. Its functions run with the descriptor held open; what is read or
// written there is not seen by the socket's own buffers and counters. The error is ErrSocketClosed on a socket that
// has ended.
func (s *TcpSocket) SyscallConn() (syscall.RawConn, error) {
	if !s.incref() {
		return nil, s.opError(opRaw, ErrSocketClosed)
	}
	s.decref()
	return rawConn{s}, nil
}

// rawConn is a syscall.RawConn.
type rawConn struct{ s *TcpSocket }

func (c rawConn) Control(f func(fd uintptr)) error {
	if !c.s.incref() {
		return c.s.opError(opRaw, ErrSocketClosed)
	}
	defer c.s.decref()
	f(uintptr(c.s.fd))
	return nil
}

// Read calls f until it returns true, each time that something may be readable.
func (c rawConn) Read(f func(fd uintptr) bool) error {
	s := c.s
	x := s.cold()
	defer s.markReadable() // f need not have taken everything
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

// lookAgain has everybody who reads look for something to read.
func (s *TcpSocket) markReadable() {
	s.ready.set(readable)
	s.wakeReaders()
	if s.handlers.Load() != nil {
		s.notify(strandRead)
	}
}

// Write calls f until it returns true, each time that something may be written.
func (c rawConn) Write(f func(fd uintptr) bool) error {
	s := c.s
	x := s.cold()
	for {
		// As in tryFlush, an attempt after wantWrite is set makes sure that an event is to come.
		s.wmu.Lock()
		flushes := x.flushes
		s.ready.set(wantWrite)
		s.wmu.Unlock()
		if done, err := c.try(f, evWrite); done || err != nil {
			return err
		}
		s.wmu.Lock()
		closed, expired := s.wflags&wClosed != 0, x.writeBy.expired
		if x.flushes == flushes && s.refs.Load()&refsClosing == 0 && !closed && !expired {
			x.writers.Wait()
		}
		s.wmu.Unlock()
		if err := c.refused(closed, expired); err != nil {
			return err
		}
	}
}

// refused returns why a raw call does not go on.
func (c rawConn) refused(closed, expired bool) error {
	switch {
	case closed:
		return c.s.opError(opRaw, ErrSocketClosed)
	case expired:
		return c.s.opError(opRaw, os.ErrDeadlineExceeded)
	}
	return nil
}

// try calls f. If that is not enough, ev is to come before the next time.
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
