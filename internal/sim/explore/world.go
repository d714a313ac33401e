//go:build sim

package explore

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// A world is a run of a program.
type world struct {
	p      *Program
	k      *sim.Kernel
	random sched.Random // of faults
	faulty bool         // a system call has failed in a way that users may notice
	poller *tcpserver.Poller
	server *tcpserver.TcpServer // the present one
	all    []*tcpserver.TcpServer
	served []*serverHandlers // of all
	port   uint16
	ui     *screen

	links  []*link
	taken  []*link
	busy   int      // scripts that have not ended
	blocks []*block // calls that wait

	paused       bool
	pausing      int  // calls of PauseAccepting and ResumeAccepting
	pauses       int  // such calls that have ever begun
	pauseVague   bool // whether accepting is paused is not known
	aborting     int  // calls of CloseConnections
	pollerClosed bool
	closedExact  map[*tcpserver.TcpServer]bool // closed where the handlers run, and no Listen since
	listening    int                           // calls of Listen and its like
	begun        int                           // such calls that have ever begun
	tried        attempts                      // to accept
	heardLate    int                           // calls that have set handlers after the end of a connection
	over         bool                          // the end of the run has begun
}

// A block is a call that waits. It must not be waiting when could returns true and nothing else moves.
type block struct {
	what  string
	could func() bool
}

// waiting encloses a call that may wait.
func (w *world) waiting(what string, could func() bool, call func()) {
	b := &block{what, could}
	w.blocks = append(w.blocks, b)
	defer func() {
		for i, o := range w.blocks {
			if o == b {
				w.blocks = append(w.blocks[:i], w.blocks[i+1:]...)
				return
			}
		}
	}()
	call()
}

// Run runs a program. It must be called in a bubble of testing/synctest.
func Run(p *Program, trace bool) sched.Outcome {
	return sched.Simulate(p.config(trace), func() { newWorld(p).run() })
}

func (p *Program) config(trace bool) sched.Config {
	return sched.Config{Seed: p.Seed, Strategy: p.Schedule, Stalls: p.Stalls, MaxSteps: 10_000_000, Trace: trace}
}

func newWorld(p *Program) *world {
	w := &world{p: p, closedExact: map[*tcpserver.TcpServer]bool{}, random: sched.NewRandom(p.Seed ^ 0x5EED)}
	s := p.System
	c := sim.Config{
		Style: s.Style, SendBuffer: s.SendBuffer, ReceiveBuffer: s.ReceiveBuffer, Segments: s.Segments,
		Files: s.Files, AbortInBacklog: s.Abort, ResetDropsData: s.Drop, ResetIsTaken: s.Taken,
	}
	if s.FaultEvery > 0 || s.FaultAt > 0 {
		c.Fault = w.fault
	}
	w.k = sim.Boot(c)
	w.faulty = s.Files > 0
	return w
}

// faults are what each system call may return.
var faults = map[sim.Call][]syscall.Errno{
	sim.CallSocket: {syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM},
	sim.CallBind:   {syscall.EADDRINUSE, syscall.ENOBUFS, syscall.ENOMEM},
	sim.CallListen: {syscall.EADDRINUSE, syscall.ENOBUFS},
	sim.CallAccept: {
		syscall.EINTR, syscall.EAGAIN, syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
		syscall.ENOMEM, syscall.ENETDOWN,
	},
	sim.CallRecv: {
		syscall.EINTR, syscall.EAGAIN, sim.Short, syscall.ECONNRESET, syscall.ETIMEDOUT, syscall.ENOBUFS,
		syscall.ENOMEM,
	},
	sim.CallSend: {
		syscall.EINTR, syscall.EAGAIN, sim.Short, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOBUFS, syscall.ENOMEM,
	},
	sim.CallShutdown: {syscall.ENOTCONN, syscall.ENOBUFS},
	sim.CallOption:   {syscall.ENOBUFS, syscall.ENOMEM},
	sim.CallName:     {syscall.ENOBUFS},
	sim.CallDup:      {syscall.EMFILE},
	sim.CallWatch:    {syscall.ENOMEM, syscall.ENOSPC},
	sim.CallSelector: {syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM},
	sim.CallWait:     {syscall.EINTR},
	sim.CallUnread:   {syscall.ENOBUFS},
}

// injects reports whether system calls fail although they need not. A recv then may find nothing where there is
// something.
func (w *world) injects() bool { return w.p.System.FaultEvery > 0 || w.p.System.FaultAt > 0 }

func (w *world) fault(n int, call sim.Call) (e syscall.Errno) {
	s := w.p.System
	switch {
	case w.over:
	case s.FaultAt > 0 && n == s.FaultAt:
		e = s.Fault
	case s.FaultEvery > 0 && w.random.Intn(s.FaultEvery) == 0 && len(faults[call]) > 0:
		e = faults[call][w.random.Intn(len(faults[call]))]
	}
	switch e {
	case 0, syscall.EINTR, syscall.EAGAIN, sim.Short: // no user notices these
	default:
		w.faulty = true
	}
	return e
}

// run is the first task.
func (w *world) run() {
	w.ui = newScreen(w)
	if w.p.Server.OwnPoller || w.p.Server.Loops > 1 {
		w.poller, _ = tcpserver.NewPoller(w.p.Server.Loops)
	}
	w.addServer()
	w.listen()
	for _, s := range w.p.Clients {
		w.script(func() { w.client(s) })
	}
	for i, s := range w.p.Users {
		a := &actor{w: w, writer: byte(2 + i)}
		w.script(func() { a.do(s) })
	}
	if e := w.p.Server.Executor; len(w.p.UI) > 0 && e != NoExecutor && e != Inline {
		w.script(func() { w.ui.script(w.p.UI) })
	}
	// While calls or timeouts wait for some seconds, look at what does not move, and let the time pass.
	for range 8 {
		sched.Settle(500 * time.Millisecond)
		w.checkStill()
		if w.busy == 0 && !w.awaitsTimeout() {
			break
		}
		sched.Sleep(time.Second)
	}
	w.end()
}

func (w *world) script(f func()) {
	w.busy++
	sched.Go(func() {
		defer func() { w.busy-- }()
		f()
	})
}

// addServer makes a server with the program's configuration the present one.
func (w *world) addServer() {
	c := w.p.Server
	s := &tcpserver.TcpServer{
		Executor: w.ui.executor(), Poller: w.poller, Backlog: c.Backlog, AllowHalfOpen: c.HalfOpen, IdleTimeout: c.Idle,
		CloseTimeout: c.Close, ReadBufferSize: c.ReadBuffer, WriteBufferSize: c.WriteBuffer, Logger: discard,
	}
	if c.OverflowDrop {
		s.Overflow = tcpserver.OverflowDrop
	}
	if c.Filter {
		s.Filter = func(remote netip.AddrPort) bool { return !w.isRefused(remote.Port()) }
	}
	h := &serverHandlers{w: w, s: s}
	s.NewConnectionHandler, s.DropHandler = h.newConnection, h.drop
	s.AcceptErrorHandler, s.ClosedHandler = h.acceptError, h.closed
	if c.MaxPending > 0 {
		s.SetMaxPendingConnections(c.MaxPending)
	}
	s.SetMaxConnections(c.MaxConnections)
	h.limits.init(&c)
	w.server = s
	w.all = append(w.all, s)
	w.served = append(w.served, h)
}

// listen listens on the port of the first successful Listen.
func (w *world) listen() {
	s := w.server
	defer w.beginListen(s)()
	if err := s.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.port)); err != nil {
		w.expectError("Listen", err)
		return
	}
	w.listens(s)
}

func (w *world) listens(s *tcpserver.TcpServer) {
	w.handlersOfServer(s).periods++
	if port := s.Port(); port > 0 && w.port == 0 {
		w.port = uint16(port)
	}
}

// beginListen notes that a call may end what a Close has begun.
func (w *world) beginListen(s *tcpserver.TcpServer) (end func()) {
	w.listening++
	w.begun++
	delete(w.closedExact, s)
	return func() { w.listening-- }
}

// expectError fails if an error of listening has no reason.
func (w *world) expectError(call string, err error) {
	var op *net.OpError
	if !asOpError(err, &op) {
		sched.Fail("%s returned %v, which is no net.OpError", call, err)
	}
}

// linkOf returns the link of a socket.
func (w *world) linkOf(s *tcpserver.TcpSocket) *link {
	port := s.RemoteAddr().(*net.TCPAddr).Port
	return w.links[port-20000]
}

// adopt is called for each connection that the server hands out.
func (w *world) adopt(s *tcpserver.TcpSocket) *link {
	l := w.linkOf(s)
	if l.socket != nil {
		sched.Fail("connection %d was handed out twice", l.id)
	}
	if w.isRefused(l.conn.Local.Port()) {
		sched.Fail("connection %d was handed out, and Filter refuses it", l.id)
	}
	l.socket = s
	l.output.init(w.p.Server.WriteBuffer)
	h := w.handlersOfServer(s.Server())
	if h.lastTaken > l.conn.Order {
		sched.Fail("connection %d was accepted earlier than one that was handed out before it", l.id)
	}
	h.lastTaken = l.conn.Order
	w.taken = append(w.taken, l)
	if n := len(w.p.Reacts); n > 0 {
		l.react = w.p.Reacts[l.id%n]
	}
	if l.id%3 < w.p.Server.Handlers {
		w.hear(l)
	}
	return l
}

// hear sets handlers.
func (w *world) hear(l *link) {
	if l.handlers == nil {
		l.handlers = w.handlersOf(l)
	}
	was := l.heardLate
	l.heardLate = math.MaxInt
	l.socket.SetHandlers(l.handlers)
	if l.heardLate = was; l.socket.State() == tcpserver.StateUnconnected {
		w.heardLate++
		l.heardLate = w.heardLate
	}
}
