//go:build sim

package explore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// deadlines are those that were set of one kind. Calls that overlap may take effect in any order.
type deadlines struct {
	all     []time.Time
	from    int // those before it are no longer in force
	batch   int // the first of those that are being set
	setting int // calls that set one
}

func (d *deadlines) begin(t time.Time) {
	if d.setting == 0 {
		d.batch = len(d.all)
	}
	d.setting++
	d.all = append(d.all, t)
}

func (d *deadlines) end() {
	if d.setting--; d.setting == 0 {
		d.from = d.batch
	}
}

// mayHavePassed reports whether one that was in force at from or later has passed.
func (d *deadlines) mayHavePassed(from int) bool {
	return slices.ContainsFunc(d.all[from:], hasPassed)
}

// havePassed reports whether the one in force has passed, for sure.
func (d *deadlines) havePassed() bool {
	last := d.all[d.from:]
	isAhead := func(t time.Time) bool { return !hasPassed(t) }
	return d.setting == 0 && len(last) > 0 && !slices.ContainsFunc(last, isAhead)
}

func hasPassed(t time.Time) bool { return !t.IsZero() && !t.After(time.Now()) }

func (l *link) setReadDeadline(t time.Time) {
	l.readBy.begin(t)
	l.socket.SetReadDeadline(t)
	l.readBy.end()
}

// read calls Read, and reports whether it has read something.
func (a *actor) read(l *link, n int) bool {
	p := make([]byte, n)
	number, from := l.beginRead(), l.readBy.from
	var m int
	var err error
	could := func() bool { return a.w.isReadable(l) }
	a.w.waiting(fmt.Sprintf("Read of %d", l.id), could, func() { m, err = l.socket.Read(p) })
	l.endRead("Read", number, p[:m])
	if (m > 0) == (err != nil) || err == tcpserver.ErrWouldBlock {
		sched.Fail("%v: Read returned %d and %v", l, m, err)
	}
	a.w.checkReadError(l, "Read", number, from, err)
	return m > 0
}

// isReadable reports whether a Read of a connection need not wait.
func (w *world) isReadable(l *link) bool {
	i := tcpserver.Inspect(l.socket)
	eof, reset := l.conn.EndArrived()
	return i.Buffered > 0 || !i.InputOpen || l.closed || l.conn.Held() > 0 || eof || reset || l.readBy.havePassed()
}

// tryRead calls TryRead. It looks at the system, unless that pretends to have nothing, if there are no handlers
// and none is running that was removed.
func (a *actor) tryRead(l *link, n int) {
	p := make([]byte, n)
	i := tcpserver.Inspect(l.socket)
	looks := !a.w.injects() && l.reading == 0 && !i.HasHandlers && !i.Running
	held := l.conn.Held() + i.Buffered
	number, from := l.beginRead(), l.readBy.from
	m, err := l.socket.TryRead(p)
	l.endRead("TryRead", number, p[:m])
	if (m > 0) == (err != nil) {
		sched.Fail("%v: TryRead returned %d and %v", l, m, err)
	}
	looks = looks && l.readings == number && !tcpserver.Inspect(l.socket).HasHandlers
	if err == tcpserver.ErrWouldBlock && looks && held > 0 && l.conn.Held() >= held {
		sched.Fail("%v: TryRead has found nothing", l)
	}
	a.w.checkReadError(l, "TryRead", number, from, err)
}

// look notes a call that may move bytes to the buffer, beside a handler that may then take them. The caller calls done
// when it has returned.
func (a *actor) look(l *link) (done func()) {
	if a.link == l {
		return func() {}
	}
	l.looks++
	l.looking++
	return func() { l.looking-- }
}

func (a *actor) waitRead(ctx context.Context, l *link) {
	defer a.look(l)()
	number, from := l.readings, l.readBy.from
	could := func() bool { return a.w.isReadable(l) }
	var err error
	a.w.waiting("WaitForReadyRead", could, func() { err = l.socket.WaitForReadyRead(ctx) })
	switch {
	case !hasEnded(ctx) || err != ctx.Err():
		a.w.checkReadError(l, "WaitForReadyRead", number, from, err)
	case err == nil:
		sched.Fail("%v: WaitForReadyRead with an ended context returned nil", l)
	}
}

// checkReadError fails if there is no reason for the error of a call that reads. number is that of the call, and from
// the first of the deadlines that concern it.
func (w *world) checkReadError(l *link, call string, number, from int, err error) {
	eof, reset := l.conn.EndArrived()
	cause := tcpserver.Inspect(l.socket).Err
	reason, failure := true, new(tcpserver.PanicError)
	switch {
	case err == nil, err == tcpserver.ErrWouldBlock, w.over:
	case err == io.EOF:
		alone := l.reading == 0 && l.readings == number && len(l.ahead) == 0 && !l.vague
		reason = l.deaf || eof && (!alone || l.pos == l.conn.Arrived()) || w.faulty
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = l.readBy.mayHavePassed(from)
	case errors.Is(err, tcpserver.ErrReset):
		reason = reset || w.faulty
	case errors.Is(err, tcpserver.ErrIdleTimeout):
		reason = cause == tcpserver.ErrIdleTimeout && errors.Is(err, net.ErrClosed)
	case errors.Is(err, net.ErrClosed):
		// A CloseTimeout ends a socket that ReadClosed has closed, and a deadline one whose Write is cut off.
		reason = l.closing || w.aborting > 0 || w.pollerClosed || w.faulty || cause == os.ErrDeadlineExceeded
	case errors.As(err, &failure):
		reason = l.panicked
	default:
		reason = w.faulty
	}
	bare := err == nil || err == io.EOF || err == tcpserver.ErrWouldBlock
	if !bare && !asOpError(err, new(*net.OpError)) {
		sched.Fail("%v: %s returned %v, which is no net.OpError", l, call, err)
	}
	if !reason {
		sched.Fail("%v: %s returned %v without a reason (the socket's error is %v)", l, call, err, cause)
	}
}
