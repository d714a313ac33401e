//go:build sim

package explore

import (
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// A generator chooses a program.
type generator struct {
	r     sched.Random
	large bool // one message is still to have thousands of bytes

	userActs, socketActs, readActs, rareActs []Act // that the program may have
}

func (g *generator) n(n int) int           { return g.r.Intn(n) }
func (g *generator) oneIn(n int) bool      { return g.n(n) == 0 }
func (g *generator) of(choices ...int) int { return choices[g.n(len(choices))] }
func (g *generator) act(choices []Act) Act { return choices[g.n(len(choices))] }

// Generate returns the program of a seed.
func Generate(seed uint64) *Program {
	g := &generator{r: sched.NewRandom(seed)}
	p := &Program{Seed: g.r.Next()}
	switch g.n(4) {
	case 0:
		p.Schedule = sched.Strategy{Depth: g.n(5), Length: g.of(300, 1000, 3000)}
	case 1:
		p.Schedule = sched.Strategy{Depth: -1}
	default:
		p.Schedule = sched.Strategy{Depth: -1, Switch: g.of(2, 4, 8, 16, 64)}
	}
	p.Stalls = g.oneIn(4)
	g.system(&p.System)
	s := p.System
	g.large = s.SendBuffer == 0 && s.ReceiveBuffer == 0 && (s.Segments == 0 || s.Segments > 10)
	g.server(&p.Server)
	g.userActs, g.socketActs = g.some(userActs), g.some(socketActs)
	g.readActs, g.rareActs = g.some(readActs), g.some(rareActs)
	for range 1 + g.n(g.of(1, 2, 4, 6)) {
		p.Clients = append(p.Clients, g.client())
	}
	for range g.n(g.of(2, 3, 5)) {
		p.Users = append(p.Users, g.user())
	}
	if e := p.Server.Executor; e != NoExecutor && e != Inline && g.oneIn(2) {
		p.UI = g.user()
	}
	if g.oneIn(6) {
		p.System.SendBuffer, p.System.ReceiveBuffer = 64, 64
		p.Users = append(p.Users, g.crowd())
	}
	for range 1 + g.n(3) {
		p.Reacts = append(p.Reacts, g.reaction())
	}
	return p
}

// some returns all acts or a few of them, so that there are programs in which two rare acts often meet.
func (g *generator) some(acts []Act) (few []Act) {
	if g.oneIn(2) {
		return acts
	}
	for range 1 + g.n(6) {
		few = append(few, g.act(acts))
	}
	return few
}

func (g *generator) system(s *System) {
	s.Style = sim.Style(g.of(0, 0, 1, 2))
	s.SendBuffer = g.of(0, 64, 300, 2000)
	s.ReceiveBuffer = g.of(0, 64, 300, 2000)
	s.Segments = g.of(0, 1, 7, 50)
	s.Abort = g.oneIn(3)
	s.Drop = g.oneIn(3)
	s.Taken = s.Style == sim.AFD && !s.Drop && g.oneIn(2) // Wine runs on systems that keep the data
	if g.oneIn(8) {
		s.Files = 6 + g.n(8)
	}
	if g.oneIn(6) {
		s.FaultEvery = g.of(10, 30, 100)
	}
}

func (g *generator) server(s *Server) {
	s.Loops = 1 + g.n(3)
	s.OwnPoller = g.oneIn(3)
	if g.oneIn(3) {
		s.Executor = ExecutorKind(1 + g.n(int(executors)-1))
	}
	s.Take = g.of(-1, -1, 0, 1, 2)
	s.Handlers = g.of(0, 1, 3, 3, 3)
	s.MaxPending = g.of(0, 0, 1, 2)
	s.MaxConnections = g.of(0, 0, 0, 2)
	s.Backlog = g.of(0, 0, 1, 3)
	s.OverflowDrop = g.oneIn(6)
	s.Filter = g.oneIn(8)
	s.HalfOpen = g.oneIn(4)
	if g.oneIn(5) {
		s.Idle = time.Duration(g.of(100, 300, 1000)) * time.Millisecond
	}
	s.Close = time.Duration(g.of(0, 0, -1, 50)) * time.Millisecond
	if g.oneIn(6) {
		s.Slow = time.Duration(g.of(1, 15, 100)) * time.Millisecond
	}
	s.ReadBuffer = g.of(0, 0, 30, 200)
	s.WriteBuffer = g.of(0, 0, 50, 500)
}

func (g *generator) client() Script {
	s := Script{{Do: Connect}}
	if g.oneIn(5) {
		s = Script{{Do: CSleep, N: g.n(50)}, {Do: Connect}}
	}
	for range g.n(6) {
		switch g.n(8) {
		case 0, 1, 2, 3:
			n := g.size()
			if g.large {
				n, g.large = 8_000+g.n(4_000), false
			}
			s = append(s, Op{Do: CSend, N: n})
		case 4:
			s = append(s, Op{Do: CRecv, N: g.size()})
		case 5:
			s = append(s, Op{Do: CSleep, N: g.of(0, 1, 20, 200, 1200)})
		case 6:
			s = append(s, Op{Do: CHalf})
		case 7:
			s = append(s, Op{Do: Connect})
		}
	}
	ends := []Script{{{Do: CHalf}, {Do: CDrain}}, {{Do: CDrain}}, {{Do: CClose}}, {{Do: CReset}}, {{Do: CVanish}}, {}}
	return append(s, ends[g.of(0, 0, 0, 1, 2, 3, 4, 5)]...)
}

// size returns how many bytes to send or to take.
func (g *generator) size() int { return 1 + g.n(g.of(1, 4, 30, 100, 300, 1500)) }

var userActs = []Act{
	Next, Next, Next, Accept, Accept, AcceptNet, WaitNew, Connections, AcceptAsync, NextAsync, Serve, Serve,
	Pause, Resume, Resume, MaxPending, MaxConnections, Close, CloseAsync, Shutdown, Listen, Bind, ListenBound,
	ListenAsync, HandOver, CloseConnections, Look, Look, Wait, RefUnref, Files, Sleep, Sleep, ClosePoller, CountAsync,
}

var socketActs = []Act{
	SRead, STryRead, STryRead, SReadLine, SReadLines, SReadAll, SReadAll, SPeek, SPeek, SDiscard, SLook, SLook, SSend,
	SSend, SSend, SWrite, SWrite, SWaitRead, SWaitWritten, SWaitEnd, SClose, SAbort, SCloseWrite, SCloseRead, SPause,
	SResume, SResume, SHandlers, SNoHandlers, SReadDeadline, SWriteDeadline, SIdle, SReadSize, SWriteSize, SHalfOpen,
	SLinger, SRaw, SRawRead, SRawWrite, SOptions, Sleep,
}

var readActs = []Act{
	SReadAll, SReadAll, SReadAll, SReadLine, SReadLines, STryRead, SPeek, SDiscard, SRead,
}

var rareActs = []Act{
	Sleep, Sleep, SWorker, SWorker, SPanic, SGoexit, SWrite, SPause, Close, Next, CloseConnections, Shutdown, Wait,
}

func (g *generator) user() (s Script) {
	mostly := g.n(8)
	for range 1 + g.n(8) {
		acts := g.socketActs
		if g.oneIn(2) {
			acts = g.userActs
		}
		o := g.op(acts)
		if !g.oneIn(3) {
			o.T = mostly
		}
		if o.Do == SPeek && g.oneIn(2) {
			s = append(s, Op{Do: SDiscard, N: g.size(), T: o.T})
		}
		s = append(s, o)
		if (o.Do == Close || o.Do == CloseAsync) && g.oneIn(2) {
			s = append(s, Op{Do: Listen})
		}
	}
	return s
}

// crowd returns what sends more to a connection than the system takes at once, and perhaps closes it.
func (g *generator) crowd() Script {
	t := g.n(3)
	s := Script{{Do: Sleep, N: g.of(0, 1)}}
	for range 2 + g.n(5) {
		o := Op{Do: g.act([]Act{SSend, SSend, SWrite, SWrite, SWriteDeadline}), N: 100 + g.n(400), T: t}
		if o.Do == SWriteDeadline {
			o.N = g.of(5, 100, 3000)
		}
		s = append(s, o)
	}
	if g.oneIn(2) {
		s = append(s, Op{Do: SClose, T: t})
	}
	return s
}

func (g *generator) op(acts []Act) Op {
	o := Op{Do: g.act(acts), T: g.n(8)}
	switch o.Do {
	case Sleep:
		o.N = g.of(0, 1, 15, 100, 700)
	case Accept, AcceptNet, WaitNew, Wait, Shutdown, SWaitRead, SWaitWritten, SWaitEnd, AcceptAsync, SReadDeadline,
		SWriteDeadline:
		o.N = g.of(0, 5, 100, 3000)
	case SIdle:
		o.N = g.of(0, 100, 300, 1000, 3000)
	case MaxPending, MaxConnections, Connections:
		o.N = g.n(4)
	case Files:
		o.N = g.of(4, 8, 100)
	case SPeek:
		o.N = g.of(g.size(), g.size(), 1<<20)
	default:
		o.N = g.size()
	}
	return o
}

func (g *generator) reaction() (r Reaction) {
	for range 1 + g.n(3) {
		r.Ready = append(r.Ready, g.handler())
	}
	if g.oneIn(2) {
		r.Written = g.handler()
		if g.oneIn(2) {
			r.Written = Script{}
		}
	}
	if g.oneIn(3) {
		r.Closed = g.handler()
	}
	if g.oneIn(3) {
		r.End = g.handler()
	}
	return r
}

// handler returns what a handler does: mostly it reads and answers.
func (g *generator) handler() (s Script) {
	for range g.n(3) {
		switch g.n(8) {
		case 0, 1, 2, 3:
			s = append(s, g.op(g.readActs))
		case 4, 5:
			s = append(s, Op{Do: SSend, N: g.size()})
		case 6:
			s = append(s, g.op(g.socketActs))
		case 7:
			s = append(s, Op{Do: g.act(g.rareActs), N: g.of(1, 15, 40, 100), T: g.n(8)})
		}
	}
	return s
}
