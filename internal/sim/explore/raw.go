//go:build sim

package explore

import (
	"errors"
	"net"
	"os"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// raw looks by the descriptor.
func raw(l *link) {
	c, err := l.socket.SyscallConn()
	if err != nil {
		return
	}
	c.Control(func(fd uintptr) { sim.Unread(int(fd)) })
}

// rawRead waits by the descriptor until something has arrived, and leaves it to others.
func (a *actor) rawRead(l *link) {
	c, err := l.socket.SyscallConn()
	if err != nil || a.link != nil || a.ui {
		return // it may wait for good
	}
	arrived := func() bool {
		eof, reset := l.conn.EndArrived()
		return l.conn.Held() > 0 || eof || reset || l.deaf // as recv would say
	}
	from := l.readBy.from
	could := func() bool { return arrived() || l.isEnded() || l.readBy.havePassed() }
	a.w.waiting("Read of a RawConn", could, func() {
		err = c.Read(func(fd uintptr) bool {
			sim.Unread(int(fd))
			return arrived()
		})
	})
	a.w.checkRaw(l, err, &l.readBy, from)
}

// rawWrite waits by the descriptor until something can be sent, and sends nothing, because that could come between the
// bytes of others.
func (a *actor) rawWrite(l *link) {
	c, err := l.socket.SyscallConn()
	if err != nil || a.link != nil || a.ui {
		return
	}
	from := l.writeBy.from
	could := func() bool { return l.isEnded() || l.writeBy.havePassed() }
	a.w.waiting("Write of a RawConn", could, func() {
		err = c.Write(func(fd uintptr) bool {
			sim.Unread(int(fd))
			return l.conn.RoomToSend() > 0
		})
	})
	a.w.checkRaw(l, err, &l.writeBy, from)
}

// isEnded reports whether no call waits any more for what a connection does.
func (l *link) isEnded() bool {
	return l.closed || tcpserver.Inspect(l.socket).State == tcpserver.StateUnconnected
}

// mayBeClosed reports whether a call that closes a connection has begun, or it has ended.
func (w *world) mayBeClosed(l *link) bool {
	return l.closing || w.aborting > 0 || w.pollerClosed || w.over || l.isEnded()
}

// checkRaw fails if there is no reason for the error of a raw call.
func (w *world) checkRaw(l *link, err error, by *deadlines, from int) {
	reason := true
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = by.mayHavePassed(from)
	case errors.Is(err, net.ErrClosed):
		reason = w.mayBeClosed(l)
	default:
		reason = false
	}
	if !reason {
		sched.Fail("%v: a raw call returned %v without a reason", l, err)
	}
}

// setOptions sets what changes nothing here.
func (a *actor) setOptions(l *link, n int) {
	s := l.socket
	s.SetUserData(l)
	keepAlive := net.KeepAliveConfig{Enable: n%2 == 0}
	for _, err := range []error{
		s.SetNoDelay(n%2 == 0), s.SetKeepAliveConfig(keepAlive), s.SetReadBuffer(n), s.SetWriteBuffer(n),
	} {
		if err != nil && !a.w.faulty && (!errors.Is(err, net.ErrClosed) || !a.w.mayBeClosed(l)) {
			sched.Fail("%v: an option returned %v", l, err)
		}
	}
	if s.UserData() != l {
		sched.Fail("%v: UserData is not what was set", l)
	}
}

func (a *actor) countAsync() {
	called, s := false, a.w.server
	s.ConnectionCountAsync(func(_ *tcpserver.TcpServer, n int, err error) {
		defer a.w.enterServer(s, "callback of ConnectionCountAsync")()
		if called || n < 0 || err != nil {
			sched.Fail("ConnectionCountAsync: called before %v, %d connections, error %v", called, n, err)
		}
		called = true
	})
}
