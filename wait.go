package tcpserver

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// extra is what most sockets never need. It is made when it is first needed, and stays.
type coldState struct {
	readers sync.Cond // on rmu: something may be readable, or reading has ended
	writers sync.Cond // on wmu: bytes were sent, or writing has ended

	readBy   deadline // guarded by rmu
	local    sys.Addr // guarded by rmu
	pausedBy uint64   // the goroutine of the handler that is running, if that has paused reading; guarded by rmu

	writeBy    deadline // guarded by wmu
	err        error    // why the connection ended; guarded by wmu
	writeErr   error    // what the system said to the last send; guarded by wmu
	flushes    uint32   // how often sending from the queue was tried; guarded by wmu
	closeTimer *time.Timer

	readMax  atomic.Int32 // SetReadBufferSize; 0: the server's
	writeMax atomic.Int32
	idle     atomic.Int64 // SetIdleTimeout, nanoseconds; idleInherited: the server's
}

const idleInherited = -1

// more returns the extra of the socket.
func (s *TcpSocket) cold() *coldState {
	if x := s.coldState.Load(); x != nil {
		return x
	}
	x := &coldState{readers: sync.Cond{L: &s.rmu}, writers: sync.Cond{L: &s.wmu}}
	x.readBy.cond, x.writeBy.cond = &x.readers, &x.writers
	x.idle.Store(idleInherited)
	if s.coldState.CompareAndSwap(nil, x) {
		return x
	}
	return s.coldState.Load()
}

// wakeReaders is called, with no lock held, after a change that those who wait to read look for. Passing the lock
// makes sure that nobody is between the look and the wait.
func (s *TcpSocket) wakeReaders() {
	if x := s.coldState.Load(); x != nil {
		s.rmu.Lock()
		x.readers.Broadcast()
		s.rmu.Unlock()
	}
}

func (s *TcpSocket) wakeWriters() {
	if x := s.coldState.Load(); x != nil {
		s.wmu.Lock()
		x.writers.Broadcast()
		s.wmu.Unlock()
	}
}

// A deadline is a point in time after which a direction fails until it is moved. It is guarded by the lock of that
// direction, cond.L.
type deadline struct {
	cond    *sync.Cond // of those who wait
	at      time.Time  // zero: none
	expired bool
	timer   *time.Timer
}

// set moves the deadline to t; the zero time removes it.
func (d *deadline) set(t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = time.Time{}
	left := time.Until(t)
	if !t.IsZero() {
		// From now on the monotonic clock counts: the other one may be set.
		d.at = time.Now().Add(left)
	}
	d.expired = !t.IsZero() && left <= 0
	switch {
	case t.IsZero() || d.expired:
	case d.timer == nil:
		d.timer = time.AfterFunc(left, d.fire)
	default:
		d.timer.Reset(left)
	}
	d.cond.Broadcast()
}

// fire is what the timer calls. The deadline may have been moved since it went off.
func (d *deadline) fire() {
	d.cond.L.Lock()
	d.expired = !d.at.IsZero() && !d.at.After(time.Now())
	d.cond.Broadcast()
	d.cond.L.Unlock()
}

// SetDeadline sets the read and the write deadline.
func (s *TcpSocket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read, TryRead and WaitForReadyRead begin to fail with os.ErrDeadlineExceeded, also those
// that wait already. The zero time is no deadline, which is the default. It does not concern handlers. The error is
// ErrSocketClosed on a socket that is closed.
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

// SetWriteDeadline sets when Write and WaitForBytesWritten begin to fail with os.ErrDeadlineExceeded, also those that
// wait already. The zero time is no deadline, which is the default. It does not concern Send. The error is
// ErrSocketClosed on a socket that is closed.
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

// waitOn waits on c until done returns true or ctx ends, whose error it returns then. The context is looked at first:
// one that has ended wins over what there is to be had. c.L is held; done is called with it held.
func waitOn(ctx context.Context, c *sync.Cond, done func() bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if done() {
		return nil
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
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

// WaitForReadyRead waits until something, or the end of the stream, can be read now. It returns the context's own
// error when that ends first, os.ErrDeadlineExceeded after the read deadline, ErrSocketClosed after Close, and
// otherwise why the connection ended.
//
// Unlike Qt, it returns at once when something is there already.
func (s *TcpSocket) WaitForReadyRead(ctx context.Context) error {
	x := s.cold()
	var err, readErr error
	s.rmu.Lock()
	s.rflags &^= rRefilled // a handler that waits has its share anew
	ctxErr := waitOn(ctx, &x.readers, func() bool {
		switch {
		case s.rflags&rClosed != 0:
			err = ErrSocketClosed
		case x.readBy.expired:
			err = os.ErrDeadlineExceeded
		case s.in != nil:
		case s.input != inputOpen:
			err = afterEnd(s.Err())
		default:
			// Readable may be no more than a guess: see what there is.
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

// WaitForBytesWritten waits until the system has taken all that Send has queued. It returns the context's own error
// when that ends first, os.ErrDeadlineExceeded after the write deadline, and why the connection ended when the queue
// was dropped with it: ErrSocketClosed after Abort.
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
			if err = x.err; err != os.ErrDeadlineExceeded { // which has cut off the queue
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

// WaitForDisconnected waits until the connection has ended: StateUnconnected. It returns the context's own error
// when that ends first. An end of stream from the peer alone does not end the connection; to notice one that ends
// it, or a reset, it reads ahead into the read buffer; on a socket with handlers, which reads by itself, only after a
// reset.
func (s *TcpSocket) WaitForDisconnected(ctx context.Context) error {
	x := s.cold()
	for {
		var readErr error
		gone := false
		s.rmu.Lock()
		err := waitOn(ctx, &x.readers, func() bool {
			if s.State() == StateUnconnected {
				gone = true
				return true
			}
			look := peerClosed | readable
			if s.handlers.Load() != nil {
				look = failed // the loop reads; but what came before a reset is not lost
			}
			if s.input == inputOpen && s.rflags&rClosed == 0 && s.ready.has(look) {
				readErr = s.fill(true)
			}
			if readErr == nil || readErr == ErrWouldBlock {
				readErr = s.resetErr()
			}
			return readErr != nil
		})
		resume := s.mustResume()
		s.rmu.Unlock()
		if gone || err != nil {
			return err
		}
		s.afterRead(resume, readErr)
	}
}
