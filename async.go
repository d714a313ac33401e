package tcpserver

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gammazero/deque"
)

// An Executor brings handlers to the thread that owns the application's user interface. fyne.Do, miqt's
// mainthread.Start, walk's MainWindow.Synchronize and Wails' application.InvokeAsync fit as they are.
//
// It may block until f has run, run f at once, run things in another order than they came, or, once the application
// has quit, never run f: there is at most one call outstanding for a server and all its sockets, it is made on a
// goroutine of its own with no lock held, and the order is kept on this side of it.
type Executor func(f func())

// A Queue is an Executor for programs with a loop of their own: Gio, Ebitengine, raylib, a console's main, a test.
// The zero value is ready. Its methods may be called from any goroutine.
//
//	var queue tcpserver.Queue
//	server.Executor = queue.Post
type Queue struct {
	// Wake is called when there is something to run: window.Invalidate, say. It is called once until RunPending or Run
	// comes for it, on the goroutine that called Post, or RunPending or Run if these leave something behind. nil:
	// nothing. It is set before the first Post.
	Wake func()

	mu     sync.Mutex // guards the block below
	queued deque.Deque[func()]
	told   bool          // that there is something to run; nobody has come for it since
	filled chan struct{} // of capacity 1: tells those who wait in Run; nil until somebody runs
}

// Post queues f. A server has at most one f in the queue.
func (q *Queue) Post(f func()) {
	q.mu.Lock()
	q.queued.PushBack(f)
	q.mu.Unlock()
	q.tell()
}

// tell announces what is queued, unless that has been done and nobody has come for it yet.
func (q *Queue) tell() {
	q.mu.Lock()
	news := q.queued.Len() > 0 && !q.told
	if news {
		q.told = true
		if q.filled != nil {
			select {
			case q.filled <- struct{}{}:
			default:
			}
		}
	}
	q.mu.Unlock()
	if news && q.Wake != nil {
		q.Wake()
	}
}

// RunPending runs on the caller's goroutine what was queued when it was called, and returns how many that were. If
// something is queued when it returns, Wake has been called for it.
func (q *Queue) RunPending() int {
	q.mu.Lock()
	q.told = false
	n := q.queued.Len()
	q.mu.Unlock()
	defer q.tell() // also if what runs panics
	for i := range n {
		q.mu.Lock()
		if q.queued.Len() == 0 { // somebody else runs the queue too
			q.mu.Unlock()
			return i
		}
		f := q.queued.PopFront()
		q.mu.Unlock()
		f()
	}
	return n
}

// Run runs what is queued, on the caller's goroutine, until ctx ends, whose error it returns.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	if q.filled == nil {
		q.filled = make(chan struct{}, 1)
	}
	filled := q.filled
	q.mu.Unlock()
	// Who ends may have been the one that was told of what is queued: another may be waiting for that.
	defer func() {
		q.mu.Lock()
		q.told = false
		q.mu.Unlock()
		q.tell()
	}()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if q.RunPending() > 0 {
			continue
		}
		select {
		case <-filled:
		case <-ctx.Done():
		}
	}
}

// A turnTaker is what handlers belong to: a socket or a server. turn calls those that are due, one after another.
type handlerOwner interface{ runHandlers(d *scratch) }

// A dispatcher takes the turns of a server and its sockets to an Executor, of which it assumes nothing.
type dispatcher struct {
	mu      sync.Mutex // guards the block below
	exec    Executor
	waiting deque.Deque[handlerOwner] // each object once at most
	out     bool                      // a call of exec is outstanding
	begun   bool                      // it has come to run
	call    uint64                    // which one it is: an earlier one that comes late does nothing
}

// drainTime is how long one call of the executor may take if there is more to do: a user interface must stay alive.
const drainTime = 4 * time.Millisecond

// use has the turns taken to exec from now on. What the previous one has not begun is asked of this one: the
// application that owned it may have quit.
func (q *dispatcher) setExecutor(exec Executor) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.exec = exec
	if q.out && !q.begun {
		q.ask()
	}
}

// post asks for a turn.
func (q *dispatcher) post(t handlerOwner) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting.PushBack(t)
	if !q.out {
		q.ask()
	}
}

// withdraw takes back a turn that has been asked for. False: there is none, or it has begun.
func (q *dispatcher) withdraw(t handlerOwner) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.waiting.Index(func(w handlerOwner) bool { return w == t })
	if i < 0 {
		return false
	}
	q.waiting.Remove(i)
	return true
}

// ask calls exec. mu is held.
func (q *dispatcher) ask() {
	q.call++
	q.out, q.begun = true, false
	call := q.call
	go q.exec(func() { q.drain(call) })
}

// drain runs on the executor.
func (q *dispatcher) drain(call uint64) {
	q.mu.Lock()
	if call != q.call || q.begun {
		q.mu.Unlock()
		return
	}
	q.begun = true
	q.mu.Unlock()
	sc := &scratch{until: time.Now().Add(drainTime)}
	// Deferred, because the application may survive a panic of its own.
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.out = q.waiting.Len() > 0; q.out {
			q.ask()
		}
	}()
	for {
		q.mu.Lock()
		if q.waiting.Len() == 0 {
			q.mu.Unlock()
			break
		}
		t := q.waiting.PopFront()
		q.mu.Unlock()
		t.runHandlers(sc)
		if sc.timeUp() {
			break
		}
	}
	sc.release()
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
		s.strand.loop.post(serverSource{s})
	default:
		go runDetached(serverSource{s})
	}
}

// serverTurn makes a turn of the server's handlers something that a loop can give.
type serverSource struct{ s *TcpServer }

func (t serverSource) onReady(sc *scratch, _ events) { t.s.runHandlers(sc) }
func (t serverSource) onTick(uint32) uint32          { return 0 }
func (t serverSource) onLate(sc *scratch)            { sc.release() }
func (t serverSource) onPollerClose()                {}

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

// ListenAsync is Listen, in the background: looking up a host name keeps nobody. The callback gets its error. Close
// ends a look-up that is under way; the error is ErrServerClosed then.
//
// The callbacks of this and the other Async methods run where the handlers do: on the Executor or, without one, on a
// goroutine of the poller, or on one of their own while the poller does not run. Each is called exactly once, unless
// the executor no longer runs anything.
func (s *TcpServer) ListenAsync(network, address string, callback func(server *TcpServer, err error)) {
	s.adoptFields()
	ln := s.newListener(network)
	s.mu.Lock()
	if s.life == nil {
		s.life, s.endLife = context.WithCancel(context.Background())
	}
	ctx := s.life
	var err error
	call := s.countCallback(func() { callback(s, err) })
	s.mu.Unlock()
	go func() {
		err = s.listen(ctx, ln, address)
		s.later(call)
	}()
}

// NextPendingConnectionAsync takes the connection that has waited longest when the callback is called, and passes it
// on; nil means that none is pending.
func (s *TcpServer) NextPendingConnectionAsync(callback func(server *TcpServer, socket *TcpSocket)) {
	s.adoptFields()
	s.later(func() { callback(s, s.NextPendingConnection()) })
}

// AcceptAsync waits for a connection and takes it when the callback is called. The callback gets the connection or
// one of the errors of WaitForNewConnection.
func (s *TcpServer) AcceptAsync(ctx context.Context, callback func(server *TcpServer, socket *TcpSocket, err error)) {
	s.adoptFields()
	s.acceptAsync(ctx, s.period(), callback)
}

func (s *TcpServer) acceptAsync(ctx context.Context, ln *listener, callback func(*TcpServer, *TcpSocket, error)) {
	go func() {
		s.mu.Lock()
		err := s.awaitPending(ctx, ln)
		s.mu.Unlock()
		s.later(func() {
			var socket *TcpSocket
			if err == nil {
				if socket, err = s.tryAccept(ctx, ln); socket == nil && err == nil {
					s.acceptAsync(ctx, ln, callback) // another was quicker
					return
				}
			}
			callback(s, socket, err)
		})
	}()
}

// tryAccept is acceptIn without waiting: nil means that none is pending.
func (s *TcpServer) tryAccept(ctx context.Context, ln *listener) (*TcpSocket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusal(ln); err != nil {
		return nil, err
	}
	return s.takePending(), nil
}

// ConnectionCountAsync passes on ConnectionCount. The error is nil.
func (s *TcpServer) ConnectionCountAsync(callback func(server *TcpServer, count int, err error)) {
	s.adoptFields()
	s.later(func() { callback(s, s.ConnectionCount(), nil) })
}
