package tcpserver

import (
	"log/slog"
	"runtime/debug"

	"github.com/gammazero/deque"
)

// notify asks for a turn in which the handlers are told. It is called with no lock held.
func (s *TcpSocket) notify(due readiness) {
	if s.ready.set(due|strandRunning)&strandRunning == 0 {
		s.schedule()
	}
}

// schedule has the turn given, on the executor or on the loop. laneRunning is set.
func (s *TcpSocket) schedule() {
	if q := s.config.dispatch; q != nil {
		q.post(s)
		return
	}
	s.ready.set(handlersDue)
	s.loop.post(s)
}

// How much one turn may do before the others of the loop have theirs.
const (
	maxRounds = 4
	maxReads  = 4 // of at most 64 KiB
)

// turn tells the handlers what there is to tell. It ends the lane's run, or has it go on later. BytesWritten and
// ReadyRead take turns, so that neither a peer that sends without end nor one that takes without end has the other
// wait. The end comes last: what is to be announced is announced before it. Only what is told now is taken off the
// lane, because a handler may end this goroutine.
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
			s.ready.clear(strandEnd)
			s.callDisconnected()
		}
		if s.finishStrand() {
			return
		}
	}
	s.schedule()
}

// leaveLane ends the lane's run, unless something is due again.
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

// A serverLane is what a server's handlers and callbacks are to be told, and whether somebody is at it. It is guarded
// by TcpServer.mu.
type serverStrand struct {
	running     bool                // a turn has been asked for, or is being given
	calling     bool                // in the turn something is being called
	connections int                 // queued, and NewConnectionHandler has not been called for them
	failure     acceptFailure       // AcceptErrorHandler has not been called for it
	calls       deque.Deque[func()] // callbacks
	drops       deque.Deque[Drop]   // DropHandler has not been called for them; at most maxDrops
	closed      []func()            // ClosedHandler and the callbacks of CloseAsync; last
	round       strandRound
	logger      *slog.Logger
	loop        *loop // of the last listener; nil until there is one

	executed *dispatcher // made for the first Executor
	current  *dispatcher // executed, or nil: on the loops
}

// An acceptFailure is what AcceptErrorHandler is to be told.
type acceptFailure struct {
	ln  *listener // nil: nothing
	err error
}

// A laneRound is how much of each is called before what has come meanwhile: callbacks and connections that lead to
// others without end must not keep the rest waiting.
type strandRound struct{ calls, drops, connections, closed int }

// laneRounds is how many handlers of a server are called before others have their turn.
const maxServerCalls = 64

// dispatchTo has the handlers called by exec from now on, or on the loops. What is due already comes along: the
// previous executor may no longer run anything. mu is held.
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

// adoptFields is called by the methods that call back. While the server listens, or calls back already, its copy of
// the fields counts.
func (s *TcpServer) adoptFields() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil && !s.strand.running {
		s.dispatchTo(s.Executor, s.Logger)
	}
}

// later has f called where the handlers are.
func (s *TcpServer) later(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strand.calls.PushBack(f)
	s.wakeStrand()
}

// wakeLane asks for a turn of the server unless one is on its way. mu is held.
func (s *TcpServer) wakeStrand() {
	if !s.strand.running {
		s.strand.running = true
		s.scheduleStrand()
	}
}

// scheduleLane asks for a turn of the server. mu is held.
func (s *TcpServer) scheduleStrand() {
	switch {
	case s.strand.current != nil:
		s.strand.current.post(s)
	case s.strand.loop != nil:
		s.strand.loop.post(serverSource{s: s})
	default:
		go runDetached(serverSource{s: s})
	}
}

// serverTurn makes a turn of the server's handlers something that a loop can give.
type serverSource struct {
	postOnly
	s *TcpServer
}

func (t serverSource) onPost(sc *scratch) { t.s.runHandlers(sc) }

// announce gives the handlers their turn, on the loop that has just accepted a connection or failed to.
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

// turn calls the handlers and callbacks that are due, until a Listen has them called elsewhere.
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

// interruptLane ends a turn and asks for the next.
func (s *TcpServer) interruptStrand() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strand.calling = false
	s.scheduleStrand()
}

// nextCall takes what is due off the lane; nil: nothing. Drops and connections are those of the present listener: they
// are forgotten when listening ends. mu is held.
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

// call runs a handler or callback. A panic is logged, and goes no further unless the thread is an executor's, which is
// the application's own. The lane's run goes on in another turn if this one's goroutine is lost.
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
