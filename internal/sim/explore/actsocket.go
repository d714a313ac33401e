//go:build sim

package explore

import (
	"bytes"
	"runtime"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// serve is a goroutine for a connection, in the blocking style: it reads to the end and answers.
func (w *world) serve(l *link, op Op) {
	a := &actor{w: w, writer: 14}
	for a.read(l, op.N) {
		if op.T%2 == 0 {
			a.write(l, 1+op.N/2)
		}
	}
	a.close(l)
}

func (a *actor) close(l *link) {
	a.w.closeSocket(a, l, func() bool {
		l.flush.begin()
		defer l.flush.end()
		return l.socket.Close() == nil
	})
}

// closeSocket closes a socket. While another call closes it, too, that one decides from when on no handler is called.
func (w *world) closeSocket(a *actor, l *link, call func() bool) {
	alone := !l.closing && w.aborting == 0
	l.closing = true
	l.output.dropped = l.output.dropped || l.output.writing > 0
	if call() && alone {
		l.closed = true
		l.exact = l.exact || w.exact(a, l)
	}
}

// nonBlocking calls a method that reads and does not wait.
func nonBlocking(name string, call func(s *tcpserver.TcpSocket, n int) []byte) func(*actor, *link, Op) {
	return func(_ *actor, l *link, op Op) {
		number := l.beginRead()
		l.endRead(name, number, call(l.socket, op.N))
	}
}

var socketSteps = map[Act]func(a *actor, l *link, op Op){
	SRead: func(a *actor, l *link, op Op) {
		if a.link != nil && !a.w.isReadable(l) || a.ui {
			return // it may wait for good
		}
		if a.link != nil && tcpserver.Inspect(l.socket).Buffered == 0 {
			l.setReadDeadline(time.Now().Add(ms(20)))
			defer l.setReadDeadline(time.Time{})
		}
		a.read(l, op.N)
	},
	STryRead:  func(a *actor, l *link, op Op) { a.tryRead(l, op.N) },
	SReadLine: nonBlocking("ReadLine", func(s *tcpserver.TcpSocket, _ int) []byte { return readLine(s) }),
	SReadLines: func(_ *actor, l *link, _ Op) {
		for l.socket.CanReadLine() {
			number := l.beginRead()
			l.endRead("ReadLine", number, readLine(l.socket))
		}
	},
	SReadAll: nonBlocking("ReadAll", func(s *tcpserver.TcpSocket, _ int) []byte { return s.ReadAll() }),
	SPeek:    func(a *actor, l *link, op Op) { a.peek(l, op) },
	SDiscard: func(a *actor, l *link, op Op) { a.discard(l, op.N) },
	SLook: func(a *actor, l *link, op Op) {
		defer a.look(l)()
		s := l.socket
		if n := s.BytesAvailable(); n < 0 {
			sched.Fail("%v: BytesAvailable is %d", l, n)
		}
		s.CanReadLine()
		s.Peek(op.N)
		s.State()
		s.Err()
		s.LocalAddr()
		s.BytesRead()
	},
	SSend:     func(a *actor, l *link, op Op) { a.send(l, op.N) },
	SWrite:    func(a *actor, l *link, op Op) { a.timedWrite(l, op) },
	SWaitRead: func(a *actor, l *link, op Op) { a.waitRead(a.context(op.N), l) },
	SWaitWritten: func(a *actor, l *link, op Op) {
		could := func() bool { return l.socket.BytesToWrite() == 0 }
		ctx := a.context(op.N)
		a.w.waiting("WaitForBytesWritten", could, func() {
			if err := l.socket.WaitForBytesWritten(ctx); err == nil && hasEnded(ctx) {
				sched.Fail("WaitForBytesWritten with an ended context returned nil")
			}
		})
	},
	SWaitEnd: func(a *actor, l *link, op Op) {
		could := func() bool { return l.socket.State() == tcpserver.StateUnconnected }
		a.w.waiting("WaitForDisconnected", could, func() { l.socket.WaitForDisconnected(a.context(op.N)) })
	},
	SClose: func(a *actor, l *link, _ Op) { a.close(l) },
	SAbort: func(a *actor, l *link, _ Op) {
		l.abort()
		a.w.closeSocket(a, l, func() bool { return l.socket.Abort() == nil })
	},
	SCloseWrite: func(_ *actor, l *link, _ Op) { l.closeWrite() },
	SCloseRead: func(_ *actor, l *link, _ Op) {
		l.excused, l.deaf = true, true // what the client still sends may be answered with a reset
		l.socket.CloseRead()
	},
	SPause:         func(a *actor, l *link, _ Op) { a.pauseReading(l) },
	SResume:        func(_ *actor, l *link, _ Op) { l.resumeReading() },
	SHandlers:      func(a *actor, l *link, _ Op) { a.w.hear(l) },
	SNoHandlers:    func(_ *actor, l *link, _ Op) { l.removeHandlers() },
	SReadDeadline:  func(_ *actor, l *link, op Op) { l.setReadDeadline(time.Now().Add(ms(op.N))) },
	SWriteDeadline: func(_ *actor, l *link, op Op) { l.setWriteDeadline(time.Now().Add(ms(op.N))) },
	SIdle:          func(_ *actor, l *link, op Op) { l.setIdleTimeout(ms(op.N)) },
	SReadSize: func(_ *actor, l *link, op Op) {
		l.sizings++
		l.socket.SetReadBufferSize(op.N)
		l.sizings++
	},
	SWriteSize: func(_ *actor, l *link, op Op) { l.setWriteSize(op.N) },
	SHalfOpen: func(_ *actor, l *link, op Op) {
		l.halfOpened = true
		l.socket.SetAllowHalfOpen(op.N%2 == 0)
	},
	SLinger: func(_ *actor, l *link, op Op) {
		seconds := op.N%3 - 1
		l.excused = l.excused || seconds == 0
		l.socket.SetLinger(seconds)
	},
	SRaw:      func(_ *actor, l *link, _ Op) { raw(l) },
	SRawRead:  func(a *actor, l *link, _ Op) { a.rawRead(l) },
	SRawWrite: func(a *actor, l *link, _ Op) { a.rawWrite(l) },
	SOptions:  func(a *actor, l *link, op Op) { a.setOptions(l, op.N) },
	SWorker:   func(a *actor, l *link, op Op) { a.w.work(l, op) },
	SPanic: func(_ *actor, l *link, _ Op) {
		l.panicked = true
		l.abort()
		panic(errPanic)
	},
	SGoexit: func(a *actor, l *link, _ Op) {
		if e := a.w.p.Server.Executor; e == NoExecutor || e == Inline {
			l.panicked = true
			l.abort()
			runtime.Goexit()
		}
	},
}

func readLine(s *tcpserver.TcpSocket) []byte {
	line, ok := s.ReadLine()
	if ok != (len(line) > 0) || ok && bytes.IndexByte(line, '\n') != len(line)-1 {
		sched.Fail("ReadLine returned %q, %v", line, ok)
	}
	return line
}

// peek looks at what has come, waits while the view must stay as it is, and perhaps takes a part.
func (a *actor) peek(l *link, op Op) {
	alone := l.reading == 0 && !l.vague
	number := l.beginRead()
	v := &view{l, l.socket.Peek(op.N), "", number}
	v.text = string(v.data)
	a.sleep(ms(15 * op.T))
	alone = alone && l.readings == number && len(l.ahead) == 0
	l.endRead("Peek", number, nil)
	if !alone {
		return
	}
	if !l.matches(l.pos, v.data) {
		sched.Fail("%v: Peek shows %q, which is not what comes next", l, v.text)
	}
	v.check()
	switch {
	case a.link == l:
		l.view = v
	case len(v.data) > 0:
		a.discard(l, 1+(op.N+31*op.T)%len(v.data))
	}
}

// A view is what Peek has returned. It stays as it is until the next call that reads or, in a handler, until that
// returns.
type view struct {
	l       *link
	data    []byte
	text    string // what it has shown at first
	reading int    // the number of the call
}

func (v *view) check() {
	if v != nil && v.l.readings == v.reading && string(v.data) != v.text {
		sched.Fail("%v: Peek shows %q, then %q", v.l, v.text, v.data)
	}
}

// discard takes bytes without looking at them. It is not used beside another call that reads.
func (a *actor) discard(l *link, n int) {
	if l.reading > 0 || len(l.ahead) > 0 {
		return
	}
	number := l.beginRead()
	n = l.socket.Discard(n)
	if l.readings != number {
		sched.Note("overlapped Discard of %d", n)
		l.reading--
		l.discardAny(n)
		return
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = letter(l.id, l.pos+i)
	}
	l.endRead("Discard", number, data)
}

// work reads in a goroutine, while the handlers do not, as a program does that applies back-pressure.
func (w *world) work(l *link, op Op) {
	if l.worker {
		return
	}
	l.worker = true
	(&actor{w: w}).pauseReading(l)
	w.script(func() {
		defer func() { l.worker = false }()
		a := &actor{w: w, writer: 15}
		sched.Sleep(ms(op.N))
		number := l.beginRead()
		l.endRead("ReadAll of a worker", number, l.socket.ReadAll())
		a.send(l, op.N)
		l.resumeReading()
	})
}

// pauseReading pauses reading. One call of ReadyRead may still begin, unless it is a handler of l that pauses.
func (a *actor) pauseReading(l *link) {
	l.pausing++
	l.socket.PauseReading()
	l.paused, l.lateRead = l.pausing == 1, 0
	if a.link == l {
		l.lateRead = 1
	}
	l.pausing--
}

// removeHandlers removes the handlers, but not for ever: each time they are set again, what is unread is announced
// again.
func (l *link) removeHandlers() {
	if l.removals++; l.removals <= 20 {
		l.again = true
		l.socket.SetHandlers(nil)
	}
}

func (l *link) resumeReading() {
	l.pausing++
	l.paused = false
	l.socket.ResumeReading()
	l.paused, l.resumed = false, time.Now()
	l.pausing--
}

// discardAny notes that n bytes were taken by a Discard that another call has overlapped: which ones is not known.
func (l *link) discardAny(n int) {
	l.vague = l.vague || n > 0

}
