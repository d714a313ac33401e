package tcpserver

import (
	"log/slog"
	"runtime/debug"

	"github.com/gammazero/deque"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A strand keeps handlers apart and in order (the term is Boost.Asio's): those of one socket or server run one at a
// time. It is a set of what is due and a flag that says that somebody runs it, or was asked to.
//
//	idle ──something is due: notify, wakeStrand──► running ──nothing is due any more: finishStrand, nextCall──► idle
//	                                                  │ ▲
//	                                                  └─┘ after maxRounds or maxServerCalls others go first: schedule
//
// There are two of them because they cost differently. A socket's is four bits of its readiness, so that an event, what
// is due and the right to run handlers are one atomic operation, and an idle socket has no memory for it. A server's
// has queues of callbacks and drops, and is guarded by its lock.
//
// Both recover in the same way from a handler that does not return. On a goroutine of this package a panic is
// recovered; on the thread of an Executor it belongs to the application and goes on. After runtime.Goexit, and where a
// panic goes on, deferred functions are the last that run on this goroutine: they schedule the strand anew. So only
// what is about to be called is taken off the strand.

// notify schedules the socket's handlers for what is due. It is called without a lock.
func (s *TcpSocket) notify(due readiness) {
	if s.mark(due) {
		s.schedule()
	}
}

// mark marks what is due. If it returns true, the caller must call schedule, without a lock.
func (s *TcpSocket) mark(due readiness) (idle bool) {
	return s.ready.set(due|strandRunning)&strandRunning == 0
}

// notifyEvent is notify for what has become of bytes to send. If the strand has come to the end meanwhile, it does
// nothing: the program may have ended what its Executor calls.
func (s *TcpSocket) notifyEvent(due readiness) {
	if was, ok := s.ready.setDue(0, due); ok && was&strandRunning == 0 {
		s.schedule()
	}
}

// schedule asks the executor or the loop to run the handlers. strandRunning is set.
func (s *TcpSocket) schedule() {
	if q := s.config.dispatch; q != nil {
		q.post(s)
		return
	}
	s.ready.set(handlersDue)
	s.loop.post(s)
}

// How much runHandlers does before other sockets come first.
const (
	maxRounds = 4
	maxReads  = 4 // of at most 64 KiB
)

// runHandlers calls the handlers that are due, until nothing is or others come first. BytesWritten and ReadyRead
// alternate, so that neither a peer that always sends nor one that always receives starves the other handler.
// Disconnected comes last: what is to be announced is announced before it.
func (s *TcpSocket) runHandlers(sc *scratch) {
	for rounds := 0; rounds < maxRounds && (rounds == 0 || !sc.timeUp()); rounds++ {
		due := s.ready.load()
		switch {
		case due&strandDue == 0:
		case due&endTold != 0:
			s.ready.clear(strandDue)
		case due&strandWritten != 0 && due&(strandRead|readNext) != strandRead|readNext:
			s.ready.clear(strandWritten)
			s.ready.set(readNext)
			s.callBytesWritten()
		case due&strandRead != 0:
			s.ready.clear(strandRead | readNext)
			s.deliverInput(sc)
		default:
			if h, ok := s.takeEnd(); ok {
				s.callDisconnected(h)
			}
		}
		if s.finishStrand() {
			return
		}
	}
	s.schedule()
}

// finishStrand ends the run of the handlers and returns true, unless something is due again.
func (s *TcpSocket) finishStrand() bool {
	for {
		bits := s.ready.load()
		if bits&strandDue != 0 {
			return false
		}
		if s.ready.swap(bits, bits&^strandRunning) {
			return true
		}
	}
}

// A serverStrand has what is due for the handlers and callbacks of a server. It is guarded by TcpServer.mu.
type serverStrand struct {
	running     bool                // the handlers are running, or were asked to
	calling     bool                // a handler or callback is running
	connections int                 // for which NewConnectionHandler is to be called
	failure     acceptFailure       // for which AcceptErrorHandler is to be called
	calls       deque.Deque[func()] // callbacks
	drops       deque.Deque[Drop]   // for which DropHandler is to be called; at most maxDrops
	closed      []func()            // ClosedHandler and the callbacks of CloseAsync; they come last
	round       strandRound
	logger      *slog.Logger
	loop        *loop // of the last listener; nil until there is one

	executed *dispatcher // made for the first Executor
	current  *dispatcher // executed, or nil if the handlers run on the loops
}

// An acceptFailure is what AcceptErrorHandler gets. If ln is nil, there is none.
type acceptFailure struct {
	ln  *listener
	err error
}

// A strandRound is how much of each kind is called before what arrives meanwhile. Callbacks and connections that always
// lead to others must not starve the rest.
type strandRound struct{ calls, drops, connections, closed int }

// maxServerCalls is how many handlers of a server are called before other sources come first.
const maxServerCalls = 64

// dispatchTo makes exec run the handlers from now on or, if it is nil, the loops. That includes what is due already,
// because the previous executor may not run anything any more. mu is held.
func (s *TcpServer) dispatchTo(exec Executor, logger *slog.Logger) *dispatcher {
	strand := &s.strand
	strand.logger = logger
	strand.current = nil
	if exec != nil {
		if strand.executed == nil {
			strand.executed = new(dispatcher)
		}
		strand.executed.setExecutor(exec)
		strand.current = strand.executed
	} else if strand.executed != nil && strand.executed.withdraw(s) {
		s.scheduleStrand()
	}
	return strand.current
}

// adoptFields makes the present values of Executor and Logger effective for a callback. While the server listens, or
// has callbacks already, the copied values stay in effect.
func (s *TcpServer) adoptFields() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil && !s.strand.running {
		s.dispatchTo(s.Executor, s.Logger)
	}
}

// later schedules f as a callback.
func (s *TcpServer) later(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strand.calls.PushBack(f)
	s.wakeStrand()
}

// wakeStrand schedules the handlers unless they are scheduled already. mu is held.
func (s *TcpServer) wakeStrand() {
	if !s.strand.running {
		s.strand.running = true
		s.scheduleStrand()
	}
}

// scheduleStrand asks the executor or a loop to run the handlers. If there is neither, they run on a goroutine of their
// own. mu is held.
func (s *TcpServer) scheduleStrand() {
	switch {
	case s.strand.current != nil:
		s.strand.current.post(s)
	case s.strand.loop != nil:
		s.strand.loop.post(serverSource{s: s})
	default:
		sched.Go(func() { runDetached(serverSource{s: s}) })
	}
}

// A serverSource is what a loop runs for a server. The listener is a source of its own, because periods overlap.
type serverSource struct {
	postOnly
	s *TcpServer
}

func (t serverSource) onPost(sc *scratch) { t.s.runHandlers(sc) }

// announce runs the handlers that are due, on the loop that has just accepted or dropped a connection, or failed to.
// With an Executor it schedules them.
func (s *TcpServer) announce(sc *scratch) {
	s.mu.Lock()
	strand := &s.strand
	if strand.running || strand.connections == 0 && strand.drops.Len() == 0 && strand.failure.ln == nil {
		s.mu.Unlock()
		return
	}
	strand.running = true
	if strand.current != nil {
		strand.current.post(s)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.runHandlers(sc)
}

// runHandlers calls the handlers and callbacks that are due, until nothing is, others come first, or a Listen makes
// them run elsewhere.
func (s *TcpServer) runHandlers(sc *scratch) {
	for rounds := 0; rounds < maxServerCalls && (rounds == 0 || !sc.timeUp()); rounds++ {
		s.mu.Lock()
		if sc.executed() != (s.strand.current != nil) {
			s.mu.Unlock()
			break
		}
		f := s.nextCall()
		s.strand.running, s.strand.calling = f != nil, f != nil
		s.mu.Unlock()
		if f == nil {
			return
		}
		s.call(sc, f)
	}
	s.interruptStrand()
}

// interruptStrand schedules the rest of what is due, if there is any: after the last callback of CloseAsync the program
// may have ended what its Executor calls.
func (s *TcpServer) interruptStrand() {
	s.mu.Lock()
	defer s.mu.Unlock()
	strand := &s.strand
	strand.calling = false
	if strand.isEmpty() {
		strand.running, strand.round = false, strandRound{}
		return
	}
	s.scheduleStrand()
}

// isEmpty reports whether nothing is due.
func (s *serverStrand) isEmpty() bool {
	return s.failure.ln == nil && s.calls.Len() == 0 && s.drops.Len() == 0 && s.connections == 0 && len(s.closed) == 0
}

// nextCall takes what comes next off the strand, or returns nil if nothing is due. Drops and connections belong to the
// present listener: stopListening drops them. mu is held.
func (s *TcpServer) nextCall() func(*TcpServer) {
	strand := &s.strand
	if strand.round == (strandRound{}) {
		strand.round = strandRound{strand.calls.Len(), strand.drops.Len(), strand.connections, len(strand.closed)}
	}
	round := &strand.round
	switch {
	case strand.failure.ln != nil:
		failure := strand.failure
		strand.failure = acceptFailure{}
		return func(s *TcpServer) { failure.ln.acceptError(s, failure.err) }
	case round.calls > 0:
		round.calls--
		f := strand.calls.PopFront()
		return func(*TcpServer) { f() }
	case round.drops > 0:
		round.drops--
		f, drop := s.cur.dropHandler, strand.drops.PopFront()
		return func(s *TcpServer) { f(s, drop) }
	case round.connections > 0:
		round.connections--
		strand.connections--
		return s.cur.newConnection
	case round.closed > 0:
		round.closed--
		f := strand.closed[0]
		strand.closed = strand.closed[1:]
		return func(*TcpServer) { f() }
	}
	return nil
}

// call runs a handler or callback. It logs a panic, and recovers it unless the goroutine is an executor's.
func (s *TcpServer) call(sc *scratch, f func(*TcpServer)) {
	finished := false
	defer func() {
		if finished {
			return
		}
		s.mu.Lock()
		log := s.strand.logger
		s.mu.Unlock()
		var v any
		if !sc.executed() {
			v = recover()
		}
		logError(log, "handler failed", "panic", v, "stack", string(debug.Stack()))
		if v == nil {
			s.interruptStrand()
		}
	}()
	f(s)
	finished = true
}
