//go:build sim

package explore

import (
	"slices"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/msgserver"
)

// A msgActor does steps: a callback, or a goroutine of the program.
type msgActor struct {
	w       *msgWorld
	link    *msgLink // that a callback concerns
	writer  byte     // 1 on the worker
	decoder bool     // the callback is ReadClientMessage
	err     error    // that the callback returns
}

func (a *msgActor) do(s Script) {
	for _, op := range s {
		if a.err != nil || sched.IsOver() {
			return
		}
		sched.Note("%v %d %d", op.Do, op.N, op.T)
		a.step(op)
	}
}

// onWorker reports whether the actor is a callback on the goroutine of Serve.
func (a *msgActor) onWorker() bool { return a.writer == 1 }

// mayCall reports whether the actor may call the methods of the server. Those of a ServerLoop are for callbacks.
func (a *msgActor) mayCall() bool { return !a.w.p.Server.Loop || a.onWorker() }

func (a *msgActor) step(op Op) {
	w := a.w
	switch op.Do {
	case Sleep:
		a.sleep(ms(op.N))
	case MReply:
		a.send(a.link, op.N)
	case MSend:
		a.send(w.target(op.T), op.N)
	case MStop:
		a.stop(a.link)
	case MStopOther:
		a.stop(w.target(op.T))
	case MAbort:
		a.useSocket(w.target(op.T), func(s *tcpserver.TcpSocket) { s.Abort() })
	case MCloseSocket:
		a.useSocket(w.target(op.T), func(s *tcpserver.TcpSocket) { s.Close() })
	case MPanic:
		if a.onWorker() && !(w.p.Server.Loop && w.inside == "OnError") { // which is printed
			w.owe()
			panic(errPanic)
		}
	case MFail:
		a.err = errFailed
	case MWork:
		a.work(op)
	case MGo:
		a.spawn(op)
	case MClients:
		a.clients(op)
	case MAdd:
		a.add()
	case MAgain:
		a.again()
	case MEnd:
		w.endRound(RoundEnd(op.T % int(roundEnds)))
	}
}

// sleep sleeps, but callbacks not too often.
func (a *msgActor) sleep(d time.Duration) {
	if a.onWorker() || a.decoder {
		if a.w.sleeps++; a.w.sleeps > 20 {
			return
		}
		defer func() { a.w.slept += d }() // behind the sleep, as noteEnd begins to count anew
	}
	sched.Sleep(d)
}

// send sends frames to a client.
func (a *msgActor) send(l *msgLink, n int) {
	w := a.w
	if l == nil || l.socket == nil || !a.mayCall() || n > w.budget || a.decoder && l != a.link {
		return
	}
	var frames []*frame
	var data []byte
	for left := n; left > 0 && len(l.frames[a.writer]) < maxFrames; left -= 60_000 {
		f, p := l.newFrame(a.writer, min(left, 60_000))
		frames = append(frames, f)
		data = append(data, p...)
	}
	w.budget -= len(data)
	if len(data) == 0 {
		return
	}
	own := a.onWorker() && (a.link == l || w.p.Server.Loop)
	l.foreign = l.foreign || !a.onWorker()
	gone, open := l.isGone(a.onWorker()), l.isOpen(w, own)
	w.beginSend(l, len(data))
	w.s.send(l.socket, data)
	l.inflight -= len(data)
	for i := range data {
		data[i] = 0xEE // it is not used any more
	}
	state := offered
	switch {
	case gone:
		state = refused
	case open && l.isOpen(w, own):
		state = accepted
	}
	for _, f := range frames {
		f.state = state
	}
}

// beginSend notes that n bytes are sent to a client.
func (w *msgWorld) beginSend(l *msgLink, n int) {
	i := tcpserver.Inspect(l.socket)
	queued := i.Queued + l.inflight + l.pending
	if queued == 0 && i.State == tcpserver.StateConnected && !l.stopping && !l.failed && !w.isEnding() && l.hasAll() {
		l.queuedSince = time.Now()
	}
	l.overflow = l.overflow || queued+n > w.p.Server.maxSend()
	l.inflight += n
	if w.p.Server.Loop {
		l.pending += n
	}
}

// watchQueue notes that from now on the client's progress is watched, if it was not before: a client that has failed,
// or that has not taken everything, may be.
func (l *msgLink) watchQueue() {
	l.lastMoved = time.Now()
	i := tcpserver.Inspect(l.socket)
	if i.Queued == 0 && i.State == tcpserver.StateConnected && !l.failed && l.hasAll() {
		l.queuedSince = time.Now()
	}
}

func (a *msgActor) stop(l *msgLink) {
	if l == nil || l.socket == nil || !a.mayCall() {
		return
	}
	if !l.stopping {
		l.stopTime = time.Now()
		l.watchQueue()
	}
	l.stopping = true
	a.w.s.stop(l.socket)
	l.stopped = true
}

// useSocket calls a method that ends the connection of a client, past the server.
func (a *msgActor) useSocket(l *msgLink, call func(*tcpserver.TcpSocket)) {
	if l == nil {
		return
	}
	l.aborting = true
	l.watchQueue()
	if l.pending > 0 {
		l.doubt() // what a ServerLoop has collected is not the socket's yet
	}
	call(l.socket)
}

// work passes a function to Work.
func (a *msgActor) work(op Op) {
	w := a.w
	if w.worked++; w.worked > 60 {
		return
	}
	this := &work{sched.ID(), w.worked}
	w.works = append(w.works, this)
	w.s.Work(func() {
		defer w.enter("Work", nil)()
		i := slices.Index(w.works, this)
		if i < 0 {
			sched.Fail("a function passed to Work is called twice")
		}
		if first := slices.IndexFunc(w.works, func(o *work) bool { return o.task == this.task }); first < i {
			sched.Fail("function %d passed to Work is called before function %d", this.number, w.works[first].number)
		}
		w.works = slices.Delete(w.works, i, i+1)
		w.worksDone(op)
	})
}

// worksDone is what a function that was passed to Work does.
func (w *msgWorld) worksDone(op Op) {
	b := &msgActor{w: w, writer: 1}
	switch op.T {
	case 0:
		w.owe()
		panic(errPanic)
	case 1:
		b.stop(w.target(op.N))
	case 2:
		b.work(Op{Do: MWork, N: op.N, T: 5})
	default:
		b.send(w.target(op.T), op.N)
	}
}

// spawn starts a goroutine that sends to a client, or has the worker send.
func (a *msgActor) spawn(op Op) {
	w := a.w
	if w.writers >= 120 {
		return
	}
	w.writers++
	b := &msgActor{w: w, writer: w.writers}
	w.script(func() {
		sched.Sleep(time.Duration(op.N%7) * time.Millisecond)
		if w.p.Server.Loop {
			b.work(op)
		} else {
			b.send(w.target(op.T), op.N)
		}
	})
}

// clients looks at the clients of a ServerLoop, and perhaps stops them.
func (a *msgActor) clients(op Op) {
	s, ok := a.w.s.(*loopServer)
	if !ok || !a.onWorker() {
		return
	}
	var all []*msgLink
	for l := range s.Clients() {
		all = append(all, l)
	}
	if !slices.Equal(all, a.w.order) {
		sched.Fail("Clients returns %v, not %v", all, a.w.order)
	}
	if op.T > 0 {
		return
	}
	for l := range s.Clients() {
		if l.state != linkClient {
			sched.Fail("%v: Clients returns it in state %d", l, l.state)
		}
		a.stop(l)
	}
}

// add adds a connection that another server has accepted.
func (a *msgActor) add() {
	s, ok := a.w.s.(*threadServer)
	if !ok {
		return
	}
	if socket := a.w.other.NextPendingConnection(); socket != nil {
		a.w.linkOf(socket).added = true
		s.AddSocket(socket)
	}
	if l := a.link; l != nil && a.onWorker() && l.state == linkClient {
		s.AddSocket(l.socket) // it is a client, so this does nothing
	}
}

// again calls Serve while it may be running.
func (a *msgActor) again() {
	w := a.w
	if w.inside == "" || !a.onWorker() {
		return
	}
	if err := w.s.Serve(w.ctx, w.other); err != msgserver.ErrRunning {
		sched.Fail("a second Serve returned %v", err)
	}
}
