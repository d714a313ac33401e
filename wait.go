package tcpserver

import (
	"context"
	"os"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// coldState is what most sockets never need. TcpSocket.cold makes it when it is first needed; then it stays.
type coldState struct {
	readers sched.Cond // on rmu; signalled when something may be readable, or reading has ended
	writers sched.Cond // on wmu; signalled when bytes were sent, or writing has ended

	readBy   deadline // guarded by rmu
	readErr  error    // why reading has failed; guarded by rmu
	local    sys.Addr // of a socket whose listener has a wildcard address; guarded by rmu
	pausedBy uint64   // the goroutine of the running handler, if that has paused reading, or 0; guarded by rmu

	writeBy    deadline     // guarded by wmu
	err        error        // why the connection ended, as Err returns it; guarded by wmu
	writeErr   error        // why the last send failed; guarded by wmu
	flushes    uint32       // attempts to send from the queue; guarded by wmu
	closeTimer *sched.Timer // ends StateClosing after CloseTimeout; guarded by wmu

	readMax  sched.Int32 // SetReadBufferSize; 0 means the server's
	writeMax sched.Int32 // SetWriteBufferSize; 0 means the server's
	idle     sched.Int64 // SetIdleTimeout, in nanoseconds, or idleInherited
}

// idleInherited means that the idle timeout is the server's.
const idleInherited = -1

// cold returns the cold state, and makes it if there is none.
func (s *TcpSocket) cold() *coldState {
	if x := s.coldState.Load(); x != nil {
		return x
	}
	x := &coldState{readers: sched.Cond{L: &s.rmu}, writers: sched.Cond{L: &s.wmu}}
	x.readBy.cond, x.writeBy.cond = &x.readers, &x.writers
	x.idle.Store(idleInherited)
	if s.coldState.CompareAndSwap(nil, x) {
		return x
	}
	return s.coldState.Load()
}

// wakeReaders wakes the calls that wait to read, after a change that they wait for. It locks rmu so that no call is
// between its look at the state and its wait. The caller holds no lock.
func (s *TcpSocket) wakeReaders() {
	if x := s.coldState.Load(); x != nil {
		s.rmu.Lock()
		x.readers.Broadcast()
		s.rmu.Unlock()
	}
}

// wakeWriters wakes the calls that wait to write. It needs no lock: what they wait for changes only under wmu.
func (s *TcpSocket) wakeWriters() {
	if x := s.coldState.Load(); x != nil {
		x.writers.Broadcast()
	}
}

// A deadline is a point in time from which reading, writing or accepting fails, until the deadline is moved. It is
// guarded by cond.L.
type deadline struct {
	cond    *sched.Cond // of the calls that the deadline concerns
	at      time.Time   // zero if there is none
	expired bool
	timer   *sched.Timer
}

// set moves the deadline to t and wakes the calls that wait. The zero time removes the deadline. The caller holds
// cond.L.
func (d *deadline) set(t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = time.Time{}
	left := time.Until(t)
	if !t.IsZero() {
		// Keep the reading of the monotonic clock: the wall clock may be changed.
		d.at = time.Now().Add(left)
	}
	d.expired = !t.IsZero() && left <= 0
	switch {
	case t.IsZero() || d.expired:
	case d.timer == nil:
		d.timer = sched.AfterFunc(left, d.fire)
	default:
		d.timer.Reset(left)
	}
	d.cond.Broadcast()
}

// fire is called by the timer. The deadline may have been moved since the timer expired.
func (d *deadline) fire() {
	d.cond.L.Lock()
	d.expired = !d.at.IsZero() && !d.at.After(time.Now())
	d.cond.Broadcast()
	d.cond.L.Unlock()
}

// SetDeadline sets the read and the write deadline, as [TcpSocket.SetReadDeadline] and [TcpSocket.SetWriteDeadline]
// do.
func (s *TcpSocket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline sets the time from which Read, TryRead and WaitForReadyRead fail with [os.ErrDeadlineExceeded],
// including calls that already wait. The zero time, which is the default, means no deadline. The deadline has no
// effect on handlers. SetReadDeadline returns [ErrSocketClosed] if the socket is closed.
func (s *TcpSocket) SetReadDeadline(t time.Time) error {
	x := s.cold()
	s.rmu.Lock()
	closed := s.rflags&rClosed != 0
	if !closed {
		x.readBy.set(t)
	}
	s.rmu.Unlock()
	return s.setDeadlineError(closed)
}

// SetWriteDeadline sets the time from which Write and WaitForBytesWritten fail with [os.ErrDeadlineExceeded],
// including calls that already wait. The zero time, which is the default, means no deadline. The deadline has no
// effect on Send. SetWriteDeadline returns [ErrSocketClosed] if the socket is closed.
func (s *TcpSocket) SetWriteDeadline(t time.Time) error {
	x := s.cold()
	s.wmu.Lock()
	closed := s.wflags&wClosed != 0
	if !closed {
		x.writeBy.set(t)
	}
	s.wmu.Unlock()
	return s.setDeadlineError(closed)
}

func (s *TcpSocket) setDeadlineError(closed bool) error {
	if closed {
		return s.opError(opSet, ErrSocketClosed)
	}
	return nil
}

// waitOn waits on c until done returns true, or until ctx ends: then it returns the error of ctx. It checks ctx
// first, so that an ended context counts even if done would return true. The caller holds c.L, also while done is
// called.
func waitOn(ctx context.Context, c *sched.Cond, done func() bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if done() {
		return nil
	}
	if ctx.Done() != nil {
		stop := sched.AfterDone(ctx, func() {
			c.L.Lock()
			c.Broadcast()
			c.L.Unlock()
		})
		defer stop()
	}
	for {
		c.Wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		if done() {
			return nil
		}
	}
}

// WaitForReadyRead waits until bytes or the end of the stream can be read, and then returns nil. If ctx ends, or has
// ended before the call, it returns the error of ctx. Otherwise it returns [os.ErrDeadlineExceeded] if the read
// deadline has passed, [ErrSocketClosed] after Close, or why the connection ended.
//
// Unlike Qt, it returns at once if something can already be read.
func (s *TcpSocket) WaitForReadyRead(ctx context.Context) error {
	x := s.cold()
	var err, readErr error
	s.rmu.Lock()
	if s.rflags&(rInHandler|rRefilled) == rInHandler|rRefilled && inHandler() {
		s.rflags &^= rRefilled // a handler that waits may receive once more: see mayAsk
	}
	ctxErr := waitOn(ctx, &x.readers, func() bool {
		switch {
		case s.rflags&rClosed != 0:
			err = ErrSocketClosed
		case x.readBy.expired:
			err = os.ErrDeadlineExceeded
		case s.in != nil:
		case s.input != inputOpen:
			err = afterEnd(s.inputErr())
		default:
			// readable only says that recv may find something: try it.
			readErr = s.fill(s.rflags&rInHandler == 0)
			return s.in != nil || s.input != inputOpen
		}
		return true
	})
	resume := s.mustResume()
	s.rmu.Unlock()
	s.afterRead(resume, readErr)
	if ctxErr != nil {
		return ctxErr
	}
	if err == nil && readErr != nil && s.BytesAvailable() == 0 {
		err = afterEnd(s.Err())
	}
	return s.opError(opRead, err)
}

// WaitForBytesWritten waits until the system has taken everything that Send has queued, and then returns nil. If ctx
// ends, or has ended before the call, it returns the error of ctx. If the write deadline has passed, it returns
// [os.ErrDeadlineExceeded]. If the connection has ended with an error or by Abort, it returns that error or
// [ErrSocketClosed], even if nothing was queued: what the peer has received is not known.
func (s *TcpSocket) WaitForBytesWritten(ctx context.Context) error {
	x := s.cold()
	var err error
	s.wmu.Lock()
	ctxErr := waitOn(ctx, &x.writers, func() bool {
		switch {
		case s.queued > 0 && x.writeBy.expired:
			err = os.ErrDeadlineExceeded
		case s.queued > 0:
			return false
		case x.writeErr != nil:
			err = x.writeErr
		case x.err != nil:
			if err = x.err; err != os.ErrDeadlineExceeded { // a deadline has cut off the queue: say so
				err = afterEnd(err)
			}
		case s.wflags&wAbort != 0:
			err = ErrSocketClosed
		}
		return true
	})
	s.wmu.Unlock()
	if ctxErr != nil {
		return ctxErr
	}
	return s.opError(opWrite, err)
}

// WaitForDisconnected waits until the connection has ended, that is, until [StateUnconnected], and until its server no
// longer counts it. Then it returns nil. If ctx ends, or has ended before the call, it returns the error of ctx. The
// peer's end of stream alone does not end the connection. To notice a reset, or an end of stream that ends the
// connection, WaitForDisconnected reads ahead into the read buffer. On a socket with handlers, whose loop reads, it
// does so only after a reset.
func (s *TcpSocket) WaitForDisconnected(ctx context.Context) error {
	x := s.cold()
	for {
		var readErr error
		ended := false
		s.rmu.Lock()
		err := waitOn(ctx, &x.readers, func() bool {
			if s.State() == StateUnconnected {
				ended = s.ready.has(endFinished) // if not, finishEnd wakes this call
				return ended
			}
			mask := peerClosed | readable
			if s.handlers.Load() != nil {
				mask = failed // the loop reads; this call saves only what came before a reset
			}
			if s.input == inputOpen && s.rflags&rClosed == 0 && s.ready.has(mask) {
				readErr = s.fill(true)
			}
			if readErr == nil || readErr == ErrWouldBlock {
				readErr = s.resetErr()
			}
			return readErr != nil
		})
		resume := s.mustResume()
		s.rmu.Unlock()
		if ended || err != nil {
			return err
		}
		s.afterRead(resume, readErr)
	}
}
