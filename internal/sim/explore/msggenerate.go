//go:build sim

package explore

import (
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// A msgGenerator chooses a MsgProgram.
type msgGenerator struct {
	generator
	p    *MsgProgram
	bulk bool // much is sent
}

// GenerateMsg returns the MsgProgram of a seed.
func GenerateMsg(seed uint64) *MsgProgram {
	g := &msgGenerator{generator: generator{r: sched.NewRandom(seed)}}
	p := &MsgProgram{Seed: g.r.Next()}
	g.p = p
	switch g.n(4) {
	case 0:
		p.Schedule = sched.Strategy{Depth: g.n(5), Length: g.of(300, 1000, 3000)}
	case 1:
		p.Schedule = sched.Strategy{Depth: -1}
	default:
		p.Schedule = sched.Strategy{Depth: -1, Switch: g.of(2, 4, 8, 16, 64)}
	}
	p.Stalls = g.oneIn(6)
	g.bulk = g.oneIn(20)
	g.msgSystem()
	g.msgServer()
	for range 1 + g.n(g.of(1, 2, 4, 6)) {
		p.Clients = append(p.Clients, g.msgClient())
	}
	for range g.n(g.of(1, 2, 4)) {
		p.Users = append(p.Users, g.msgUser())
	}
	for range 1 + g.n(4) {
		p.Said = append(p.Said, g.callback(4))
	}
	g.msgActs()
	for range g.n(g.of(1, 1, 3)) {
		p.Rounds = append(p.Rounds, Round{RoundEnd(g.n(int(roundEnds))), g.of(0, 0, 1, 3, 10, 100, 600)})
	}
	p.Rounds = append(p.Rounds, Round{End: RoundEnd(g.n(int(roundEnds)))})
	switch {
	case g.oneIn(8):
		g.overload()
	case g.oneIn(12):
		g.unwatched()
	}
	return p
}

// unwatched makes a program that sends again to a client who no longer reads, or stops it, just when a ThreadServer
// sees that the client has taken everything and need not be watched any longer: five milliseconds after the first time.
func (g *msgGenerator) unwatched() {
	p := g.p
	p.System.SendBuffer, p.System.ReceiveBuffer, p.System.FaultEvery = 64, 64, 0
	p.Peer.WindowStep = min(p.Peer.WindowStep, 64)
	p.Stalls, p.Acts = false, MsgActs{}
	p.Server.Lag, p.Server.MaxSend, p.Server.RefuseEvery, p.Server.Idle = 40*time.Millisecond, 0, 0, 0
	p.Clients, p.Users, p.Rounds = nil, nil, p.Rounds[len(p.Rounds)-1:]
	p.Server.Loop, p.Server.WorkExecutor, p.Server.PerThread = false, false, 0
	p.Schedule = sched.Strategy{Depth: -1, Switch: g.of(4, 16)}
	n := 200 + g.n(300)
	for i := range 2 + g.n(4) {
		p.Clients = append(p.Clients, Script{{Do: Connect}, {Do: CRecv, N: n}})
		next := Op{Do: g.act([]Act{MSend, MSend, MStopOther}), N: 500, T: i}
		p.Users = append(p.Users, Script{{Do: Sleep, N: 1}, {Do: MSend, N: n, T: i}, {Do: Sleep, N: 5}, next})
	}
}

// overload makes a program in which messages wait because much is queued for their client, who reads at once or only
// after everything was sent. Another goroutine may stop the client meanwhile.
func (g *msgGenerator) overload() {
	p := g.p
	p.System.SendBuffer, p.Server.MaxSend, p.Server.Lag, p.Server.RefuseEvery = g.of(64, 300), g.of(300, 2000), 0, 0
	p.Said = []Script{{{Do: MReply, N: p.Server.MaxSend/g.of(2, 4) + g.n(p.Server.MaxSend/2)}}}
	p.Acts = MsgActs{}
	p.Clients, p.Users = nil, nil
	for range 1 + g.n(3) {
		s := Script{{Do: Connect}}
		if g.oneIn(2) {
			s = append(s, Op{Do: MReader, N: 0})
		}
		for range 1 + g.n(4) {
			s = append(s, Op{Do: MSay, N: g.messageSize()}, Op{Do: CSleep, N: g.of(0, 0, 1)})
		}
		if g.oneIn(2) {
			s = append(s, Op{Do: MBurst, N: g.of(20, 100)})
		}
		p.Clients = append(p.Clients, append(s, Op{Do: CSleep, N: 200}, Op{Do: CDrain}))
	}
	if g.oneIn(2) {
		p.Users = append(p.Users, Script{{Do: Sleep, N: g.of(1, 5, 30)}, {Do: MStopOther, T: g.n(3)}})
	}
}

func (g *msgGenerator) msgSystem() {
	s := &g.p.System
	s.Style = sim.Style(g.of(0, 0, 1, 2))
	s.SendBuffer = g.of(0, 64, 300, 2000)
	s.ReceiveBuffer = g.of(0, 64, 300, 2000)
	s.Segments = g.of(0, 1, 7, 50)
	s.Abort = g.oneIn(3)
	s.Drop = g.oneIn(4)
	s.Taken = s.Style == sim.AFD && !s.Drop && g.oneIn(2)
	if g.oneIn(12) {
		s.FaultEvery = g.of(10, 30, 100)
	}
	g.p.Peer.HideUnacked = g.oneIn(5)
	if g.oneIn(3) {
		g.p.Peer.WindowStep = g.of(2, 2, 4) * 16
	}
	if g.bulk {
		s.SendBuffer, s.ReceiveBuffer, s.Segments = g.of(0, 2000), 0, 0
		g.p.Peer.WindowStep = g.of(0, 1<<10, 32<<10, 64<<10)
	}
	if size := s.ReceiveBuffer; size > 0 {
		g.p.Peer.WindowStep = min(g.p.Peer.WindowStep, size)
	}
}

func (g *msgGenerator) msgServer() {
	s := &g.p.Server
	ms := func(choices ...int) time.Duration { return time.Duration(g.of(choices...)) * time.Millisecond }
	s.Loop, s.Run, s.Whole = g.oneIn(2), g.oneIn(6), g.oneIn(2)
	s.Reuse = g.oneIn(2)
	s.Decoder = Decoder(g.n(int(decoders)))
	s.DecoderMax = g.of(0, 0, 0, 20)
	s.NoUpdate, s.NoAfterEvent = g.oneIn(3), g.oneIn(3)
	s.MaxBuffer = g.of(0, 24, 40, 100, 1000)
	s.Buffer = g.of(0, 0, 1, 8)
	s.Header = g.of(0, 0, 2, 5)
	s.MaxSend = g.of(0, 0, 300, 2000, 20_000)
	if s.MaxSend > 0 && s.MaxSend <= 2000 && !g.oneIn(4) {
		g.p.System.SendBuffer = g.of(64, 300) // so that messages wait
	}
	s.Threads, s.PerThread = 1+g.n(3), g.of(0, 0, 0, 1, 2)
	s.Lag = ms(0, 40, 150, 2000)
	s.Update = ms(0, 5, 60, 3000)
	s.Close = ms(0, 0, -1, 1, 50, 500)
	if g.p.Stalls { // so that there are times when nothing moves
		s.Lag, s.Update = ms(0, 400, 2000), ms(0, 200, 3000)
	}
	if g.oneIn(10) {
		s.Idle = ms(5, 30, 200)
	}
	s.Loops = g.n(3)
	s.WorkExecutor = g.oneIn(10) && !s.Run
	s.HalfOpen = g.oneIn(4)
	s.ReadBuffer = g.of(0, 0, 0, 30, 200)
	s.WriteBuffer = g.of(0, 0, 50, 500)
	s.MaxPending = g.of(0, 0, 0, 1)
	s.RefuseEvery = g.of(0, 0, 0, 2, 3)
}

// messageSize returns the size of a message with everything that belongs to it. Some are as long as may be.
func (g *msgGenerator) messageSize() int {
	limit := g.p.Server.MaxBuffer
	if limit == 0 || g.oneIn(2) {
		return 1 + g.n(g.of(8, 20, 60))
	}
	return g.of(limit-1, limit, limit, 1+g.n(limit))
}

// replySize returns the size of a reply: small, or more than buffers hold. Few are more than may be queued.
func (g *msgGenerator) replySize() int {
	n := 1 + g.n(g.of(10, 100, 100, 700, 3000))
	if g.bulk {
		n = 1 + g.n(g.of(1000, 60_000, 300_000))
	}
	if most := g.p.Server.MaxSend; most > 0 && n > most && !g.oneIn(8) {
		n = most/2 + 1 + g.n(most/2)
	}
	return n
}

func (g *msgGenerator) msgClient() (s Script) {
	if g.oneIn(4) {
		s = append(s, Op{Do: CSleep, N: g.of(0, 1, 5, 50)})
	}
	connect := Connect
	if !g.p.Server.Loop && g.oneIn(5) {
		connect = MToAdd
	}
	s = append(s, Op{Do: connect})
	if !g.oneIn(3) {
		s = append(s, Op{Do: MReader, N: g.of(0, 0, 100_000, 100_000, 1_000_000)})
	}
	for range g.n(g.of(3, 6, 12)) {
		switch g.n(14) {
		default:
			s = append(s, Op{Do: MSay, N: g.messageSize(), T: g.n(4)})
		case 0:
			s = append(s, Op{Do: CSleep, N: g.of(0, 1, 5, 30, 200)})
		case 1:
			s = append(s, Op{Do: CRecv, N: g.replySize()})
		case 2:
			if g.oneIn(6) {
				s = append(s, Op{Do: g.act([]Act{MBad, MFinal, MCrash}), N: g.messageSize(), T: g.n(4)})
			}
		case 4:
			if g.oneIn(4) {
				s = append(s, Op{Do: MBurst, N: g.of(5, 20, 100, 200), T: g.n(4)})
			}
		case 3:
			if limit := g.p.Server.MaxBuffer; limit > 0 && g.oneIn(4) {
				s = append(s, Op{Do: MSay, N: limit + 1 + g.n(limit), T: g.n(4)})
			}
		}
	}
	if g.oneIn(4) {
		s = append(s, Op{Do: MPart, N: 1 + g.n(20)})
	}
	ends := []Script{
		{{Do: CHalf}, {Do: CDrain}}, {{Do: CDrain}}, {{Do: CHalf}}, {{Do: CClose}}, {{Do: CReset}}, {{Do: CVanish}}, {},
	}
	return append(s, ends[g.of(0, 0, 0, 0, 1, 2, 3, 4, 5, 6)]...)
}

var userMsgActs = []Act{
	Sleep, Sleep, MWork, MWork, MSend, MSend, MSend, MStopOther, MGo, MAdd, MAdd, MAgain, MAbort, MCloseSocket,
}

func (g *msgGenerator) msgUser() (s Script) {
	for range 1 + g.n(8) {
		s = append(s, g.msgOp(g.act(userMsgActs)))
	}
	return s
}

func (g *msgGenerator) msgOp(act Act) Op {
	o := Op{Do: act, N: g.replySize(), T: g.n(8)}
	if act == Sleep {
		o.N = g.of(0, 1, 5, 30, 200)
	}
	return o
}

var (
	usualMsgActs = []Act{MReply, MReply, MReply, MReply, MSend, MWork, MClients, Sleep}
	rareMsgActs  = []Act{MStop, MStop, MStopOther, MPanic, MFail, MGo, MAbort, MCloseSocket, MEnd, MAgain}
)

// callback returns what a callback does: up to n steps.
func (g *msgGenerator) callback(n int) (s Script) {
	for range g.n(n) {
		acts := usualMsgActs
		if g.oneIn(8) {
			acts = rareMsgActs
		}
		o := g.msgOp(g.act(acts))
		if o.Do == Sleep {
			o.N = g.of(0, 1, 15, 40)
		}
		s = append(s, o)
	}
	return s
}

func (g *msgGenerator) msgActs() {
	a := &g.p.Acts
	for _, s := range []*Script{&a.Connected, &a.Disconnected, &a.Update, &a.After, &a.Failed} {
		if g.oneIn(3) {
			*s = g.callback(3)
		}
	}
	if g.oneIn(4) {
		a.Decode = Script{g.msgOp(g.act([]Act{Sleep, MReply, MStop, MSend}))}
		a.Decode[0].N = g.of(1, 5, 20)
	}
}
