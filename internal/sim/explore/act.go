//go:build sim

package explore

import (
	"context"
	"fmt"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// An actor does steps: a goroutine of the program, or a handler.
type actor struct {
	w      *world
	link   *link // of a handler
	writer byte
	ui     bool // on the thread of the executor
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func (a *actor) do(s Script) {
	for _, op := range s {
		a.step(op)
	}
}

func (a *actor) step(op Op) {
	if sched.IsOver() || a.w.over && beginsListening[op.Do] {
		return
	}
	sched.Note("%v %d %d", op.Do, op.N, op.T)
	if f := allSteps.server[op.Do]; f != nil {
		f(a, op)
		return
	}
	l := a.link
	if l == nil && len(a.w.taken) == 0 {
		sched.Sleep(ms(1)) // for a connection
	}
	if l == nil && len(a.w.taken) > 0 {
		l = a.w.taken[op.T%len(a.w.taken)]
	}
	if f := allSteps.socket[op.Do]; f != nil && l != nil {
		f(a, l, op)
	}
}

// beginsListening has the acts that nothing would end any more at the end of the run.
var beginsListening = map[Act]bool{Listen: true, ListenAsync: true, ListenBound: true, HandOver: true}

// context returns a context that ends after n ms. It has ended already if n is 0.
func (a *actor) context(n int) context.Context {
	if n > 0 {
		return sched.NewContext(ms(n))
	}
	c := sched.NewContext(-1)
	c.Cancel()
	return c
}

// hasEnded is Err without a point at which another task may run.
func hasEnded(c context.Context) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

// steps are looked up by function, because they refer to one another.
type steps struct {
	server map[Act]func(a *actor, op Op)
	socket map[Act]func(a *actor, l *link, op Op)
}

var allSteps *steps

func init() { allSteps = &steps{serverSteps, socketSteps} }

var serverSteps = map[Act]func(a *actor, op Op){
	Next: func(a *actor, _ Op) {
		if s := a.w.server.NextPendingConnection(); s != nil {
			a.w.adopt(s)
		}
	},
	Accept: func(a *actor, op Op) { a.accept(op.N) },
	Serve: func(a *actor, op Op) {
		if l := a.accept(op.N); l != nil {
			a.w.script(func() { a.w.serve(l, op) })
		}
	},
	AcceptNet:   func(a *actor, op Op) { a.acceptNet(op.N) },
	WaitNew:     func(a *actor, op Op) { a.waitNew(op.N) },
	Connections: func(a *actor, op Op) { a.connections(op.N) },
	AcceptAsync: func(a *actor, op Op) { a.acceptAsync(op.N) },
	NextAsync: func(a *actor, _ Op) {
		a.w.server.NextPendingConnectionAsync(func(s *tcpserver.TcpServer, c *tcpserver.TcpSocket) {
			defer a.w.enterServer(s, "callback of NextPendingConnectionAsync")()
			if c != nil {
				a.w.adopt(c)
			}
		})
	},
	Pause:          func(a *actor, _ Op) { a.w.pause(true, a.w.server.PauseAccepting) },
	Resume:         func(a *actor, _ Op) { a.w.pause(false, a.w.server.ResumeAccepting) },
	MaxPending:     func(a *actor, op Op) { a.w.setMaxPending(op.N) },
	MaxConnections: func(a *actor, op Op) { a.w.setMaxConnections(op.N) },
	Close: func(a *actor, _ Op) {
		s := a.w.server
		begun := a.w.begun
		s.Close()
		if a.w.listening == 0 && a.w.begun == begun && a.w.exact(a, nil) {
			a.w.closedExact[s] = true
		}
	},
	CountAsync:  func(a *actor, _ Op) { a.countAsync() },
	CloseAsync:  func(a *actor, _ Op) { a.closeAsync() },
	Shutdown:    func(a *actor, op Op) { a.shutdown(op.N) },
	Listen:      func(a *actor, _ Op) { a.w.listen() },
	ListenAsync: func(a *actor, _ Op) { a.listenAsync() },
	Bind: func(a *actor, _ Op) {
		if err := a.w.server.Bind("tcp", fmt.Sprintf("127.0.0.1:%d", a.w.port)); err != nil {
			a.w.expectError("Bind", err)
		}
	},
	ListenBound: func(a *actor, _ Op) {
		s := a.w.server
		defer a.w.beginListen(s)()
		if err := s.ListenBound(); err != nil {
			a.w.expectError("ListenBound", err)
			return
		}
		a.w.listens(s)
	},
	HandOver:         func(a *actor, _ Op) { a.w.handOver() },
	CloseConnections: func(a *actor, _ Op) { a.w.closeConnections() },
	Look:             func(a *actor, _ Op) { a.w.look() },
	Wait:             func(a *actor, op Op) { a.wait(op.N) },
	RefUnref: func(a *actor, op Op) {
		if op.N%2 == 0 {
			a.w.server.Ref()
		} else {
			a.w.handlersOfServer(a.w.server).unreferenced = true
			a.w.server.Unref()
		}
	},
	Files: func(a *actor, op Op) {
		a.w.faulty = true
		a.w.k.SetFiles(a.w.k.OpenFiles() + op.N - 4)
	},
	Sleep: func(a *actor, op Op) { a.sleep(ms(op.N)) },
	ClosePoller: func(a *actor, op Op) {
		if a.w.poller == nil || op.N%4 != 0 {
			return
		}
		for _, l := range a.w.links {
			if l != nil {
				l.abort()
			}
		}
		a.w.pollerClosed = true
		a.w.poller.Close()
	},
}

func (a *actor) listenAsync() {
	called := false
	end := a.w.beginListen(a.w.server)
	c := &callback{h: a.w.handlersOfServer(a.w.server)}
	defer c.made()
	a.w.server.ListenAsync("tcp", fmt.Sprintf("127.0.0.1:%d", a.w.port), func(s *tcpserver.TcpServer, err error) {
		defer a.w.enterServer(s, "callback of ListenAsync")()
		defer c.ended()
		defer end()
		if called {
			sched.Fail("the callback of ListenAsync is called twice")
		}
		called = true
		if err == nil {
			a.w.listens(s)
		}
	})
}

// exact reports whether nothing but the last handler may follow a Close that a has called: no other handler of l can
// run at the same time.
func (w *world) exact(a *actor, l *link) bool {
	if w.p.Server.Executor != NoExecutor && w.p.Server.Executor != Inline {
		return a.ui || a.link != nil
	}
	return l != nil && a.link == l
}

// handOver hands the listener over to another server and closes this one.
func (w *world) handOver() {
	old := w.server
	d, err := tcpserver.Duplicate(old)
	if err != nil {
		return
	}
	w.addServer()
	next := w.server
	defer w.beginListen(next)()
	err = tcpserver.Adopt(next, d)
	sim.Close(int(d))
	if err != nil {
		w.expectError("ListenFile", err)
	} else {
		w.listens(next)
	}
	old.Close()
}

func (w *world) closeConnections() {
	w.aborting++
	w.server.CloseConnections()
	w.aborting--
	for _, l := range w.taken {
		l.abort()
	}
}

// look calls what returns a property.
func (w *world) look() {
	s := w.server
	s.Addr()
	s.Err()
	s.IsAccepting()
	s.IsBound()
	w.checkLimits(w.handlersOfServer(s))
	if n := s.ConnectionCount(); n < 0 {
		sched.Fail("ConnectionCount is %d", n)
	}
}
