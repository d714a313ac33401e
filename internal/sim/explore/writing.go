//go:build sim

package explore

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// output is what the model knows of the send queue of a connection.
type output struct {
	sends    int  // calls of Send that have begun
	sending  int  // and not returned
	offered  int  // bytes that they were given
	writes   int  // calls of Write that have begun
	writing  int  // and not returned
	written  int  // bytes that they have reported
	shut     bool // a call of CloseWrite has begun
	dropped  bool // a Close may have cut off a Write and what was queued behind it
	rest     *rest
	resuming bool // a Write continues rest

	limit   int // of the queue
	most    int // the highest that was in force
	sizings int // calls that change the limit, which have begun and which have ended

	reported int // by BytesWritten
	last     reported
}

// reported is what was known at a call of BytesWritten.
type reported struct {
	total, sends, sending, offered int
}

// A rest is what is to follow after a Write that was cut off, before anything else.
type rest struct {
	frame *frame
	data  []byte
}

// init sets the limit of the queue.
func (o *output) init(limit int) {
	const byDefault = 1 << 20
	if limit == 0 {
		limit = byDefault
	}
	o.limit, o.most = limit, limit
}

// setWriteDeadline moves the deadline, unless it has passed while a Write runs: that one may have begun before another
// was cut off, and would then continue the stream of the other with bytes of its own.
func (l *link) setWriteDeadline(t time.Time) {
	if l.output.writing > 0 && l.writeBy.mayHavePassed(l.writeBy.from) {
		return
	}
	l.writeBy.begin(t)
	l.socket.SetWriteDeadline(t)
	l.writeBy.end()
}

func (l *link) setWriteSize(n int) {
	o := &l.output
	o.sizings++
	o.most = max(o.most, n)
	l.socket.SetWriteBufferSize(n)
	o.limit = n
	o.sizings++
}

// canSend reports whether a frame may be sent.
func (a *actor) canSend(l *link) bool { return !l.cut && len(l.frames[a.writer]) < maxFrames }

func (a *actor) send(l *link, n int) {
	if !a.canSend(l) {
		return
	}
	f, p := l.newFrame(a.writer, n)
	o := &l.output
	rest, resuming := o.rest, o.resuming
	pending, sizings, alone := tcpserver.Inspect(l.socket).Pending, o.sizings, o.sending == 0
	o.sends++
	o.sending++
	o.offered += len(p)
	number, writes := o.sends, o.writes
	err := l.socket.Send(p)
	o.sending--
	if err != tcpserver.ErrWriteBufferFull {
		cut := l.cut || rest != nil || o.rest != nil || o.writing > 0 || o.writes != writes
		a.w.checkWriteError(l, "Send", err, cut)
	}
	for i := range p {
		p[i] = 0xEE // Send does not use it any more
	}
	switch {
	case err == nil:
		f.state = accepted
	case err == tcpserver.ErrWriteBufferFull, errors.Is(err, tcpserver.ErrSocketClosed):
		f.state = refused
	default:
		f.state = broken
		if errors.Is(err, os.ErrDeadlineExceeded) {
			f.state = refused
		}
	}
	now := tcpserver.Inspect(l.socket).Pending
	switch {
	case err == nil && rest != nil && rest == o.rest && !resuming && !o.resuming:
		sched.Fail("%v: Send was successful after a Write that was cut off", l)
	case now > o.most:
		sched.Fail("%v: %d bytes are queued, the limit is %d", l, now, o.most)
	case err != tcpserver.ErrWriteBufferFull || !alone || number != o.sends || sizings != o.sizings || sizings%2 > 0:
	case len(p)+pending <= o.limit:
		sched.Fail("%v: Send has refused %d bytes, %d are queued, the limit is %d", l, len(p), pending, o.limit)
	}
}

// write calls Write. After one that was cut off, only what is missing may follow: it continues that.
func (a *actor) write(l *link, n int) {
	o := &l.output
	switch {
	case !a.canSend(l) || o.resuming || o.rest != nil && o.writing > 0:
		return
	case o.rest != nil:
		a.resumeWrite(l, o.rest)
		return
	}
	f, p := l.newFrame(a.writer, n)
	defer func() { o.writing-- }()
	m, number, err := a.callWrite(l, p)
	cutOff := l.isCutOff(err)
	alone := o.writing == 1 && o.writes == number // now, so that no other Write can come between
	switch {
	case err == nil:
		f.state = accepted
	case m == 0 && !errors.Is(err, tcpserver.ErrReset):
		f.state = refused
		o.dropped = o.dropped || errors.Is(err, tcpserver.ErrIdleTimeout) // it may have waited in the queue
	case m > 0 && alone && cutOff:
		o.rest = &rest{f, p[m:]}
	default:
		f.state = broken
		if m > 0 {
			f.state = severed
		}
		l.cut = true
	}
}

// isCutOff reports whether err is that of a Write that was cut off and may be continued.
func (l *link) isCutOff(err error) bool {
	connected := tcpserver.Inspect(l.socket).State == tcpserver.StateConnected
	return errors.Is(err, os.ErrDeadlineExceeded) && connected && !l.closing
}

// resumeWrite writes what is missing of a Write that was cut off.
func (a *actor) resumeWrite(l *link, r *rest) {
	o := &l.output
	o.resuming = true
	defer func() { o.writing-- }()
	m, _, err := a.callWrite(l, r.data)
	cutOff := l.isCutOff(err)
	o.resuming = false
	switch {
	case err == nil:
		r.frame.state = accepted
		o.rest = nil
	case cutOff:
		o.rest = &rest{r.frame, r.data[m:]}
	default:
		r.frame.state = severed
		l.cut, o.rest = true, nil
	}
}

// callWrite calls Write. The caller counts one call that is writing less when it has noted the result. number is that
// of the call.
func (a *actor) callWrite(l *link, p []byte) (m, number int, err error) {
	could := func() bool {
		i := tcpserver.Inspect(l.socket)
		return i.State == tcpserver.StateUnconnected || i.Queued == 0 || l.writeBy.havePassed()
	}
	o := &l.output
	o.writes++
	o.writing++
	number = o.writes
	from := l.writeBy.from
	o.dropped = o.dropped || l.closing
	a.w.waiting(fmt.Sprintf("Write of %d", l.id), could, func() { m, err = l.socket.Write(p) })
	o.dropped = o.dropped || l.closing
	o.written += m
	if (m < len(p)) != (err != nil) {
		sched.Fail("%v: Write of %d bytes returned %d and %v", l, len(p), m, err)
	}
	a.w.checkWriteError(l, "Write", err, l.writeBy.mayHavePassed(from))
	return m, number, err
}

// timedWrite is Write, with a deadline where it must not wait for good.
func (a *actor) timedWrite(l *link, op Op) {
	if a.link != nil || a.ui {
		l.setWriteDeadline(time.Now().Add(ms(20)))
		defer l.setWriteDeadline(time.Time{})
	}
	a.write(l, op.N)
}

func (l *link) closeWrite() {
	o := &l.output
	rest, resuming := o.rest, o.resuming
	o.shut = true
	if err := l.socket.CloseWrite(); err == nil && rest != nil && rest == o.rest && !resuming && !o.resuming {
		sched.Fail("%v: CloseWrite was successful after a Write that was cut off", l)
	}
}

// checkWriteError fails if there is no reason for the error of a call that sends. timedOut is true if the write
// deadline has passed or, for Send, if a Write may have been cut off.
func (w *world) checkWriteError(l *link, call string, err error, timedOut bool) {
	_, reset := l.conn.EndArrived()
	cause := tcpserver.Inspect(l.socket).Err
	reason, failure := true, new(tcpserver.PanicError)
	switch {
	case err == nil, w.over, w.faulty:
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = timedOut
	case errors.Is(err, tcpserver.ErrReset):
		reason = reset
	case errors.Is(err, tcpserver.ErrIdleTimeout):
		reason = cause == tcpserver.ErrIdleTimeout && errors.Is(err, net.ErrClosed)
	case errors.Is(err, net.ErrClosed):
		ended := l.closing || w.aborting > 0 || w.pollerClosed || cause == os.ErrDeadlineExceeded
		reason = ended || l.told || l.output.shut
	case errors.As(err, &failure):
		reason = l.panicked
	default:
		reason = false
	}
	if !reason {
		sched.Fail("%v: %s returned %v without a reason (the socket's error is %v)", l, call, err, cause)
	}
}

// checkWritten fails if BytesWritten does not report what has left the queue. What is queued, sent but not reported,
// and reported changes together only with what Send is given.
func (w *world) checkWritten(l *link, n int) {
	o, i := &l.output, tcpserver.Inspect(l.socket)
	o.reported += n
	now, last := reported{o.reported + i.Pending + i.Unreported, o.sends, o.sending, o.offered}, o.last
	_, reset := l.conn.EndArrived()
	o.last = now
	switch {
	case n <= 0 || o.reported > o.offered:
		sched.Fail("%v: BytesWritten of %d, %d in all, Send was given %d", l, n, o.reported, o.offered)
	case reset || w.faulty || i.State == tcpserver.StateUnconnected: // the queue was dropped
	case now.total < last.total || now.total > last.total+now.offered-last.offered && last.sending == 0,
		now.sends == last.sends && last.sending == 0 && now.total != last.total:
		sched.Fail("%v: BytesWritten of %d: %+v, before %+v", l, n, now, last)
	}
}

// lost returns how many of the bytes that Send and Write have accepted the system has not taken.
func (l *link) lost() int {
	taken, _, _, _ := l.conn.Taken()
	all := 0
	for _, frames := range l.frames {
		for _, f := range frames {
			if f.state == accepted {
				all += f.length
			}
		}
	}
	return all - taken
}
