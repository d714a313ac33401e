//go:build sim

package explore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
	"github.com/pullaccept/tcpserver/msgserver"
)

// A msgWorld is a run of a MsgProgram. The system, its faults and the scripts are those of a world.
type msgWorld struct {
	*world
	p      *MsgProgram
	s      msgServer
	tcp    *tcpserver.TcpServer // of the present round; nil if Run makes it
	last   *tcpserver.TcpServer // the last one that Serve was called with
	other  *tcpserver.TcpServer // the one whose connections are added
	ctx    *sched.Context
	links  []*msgLink
	order  []*msgLink // the clients, in the order of their connections
	random sched.Random

	// The present round.
	serving  bool
	returned sched.Gate // opened when Serve returns
	worker   int        // the task that called Serve
	endDue   time.Time  // when the context of the round ends by itself; zero if it does not
	ended    bool       // something has begun to end the round
	closed   bool       // the TcpServer was closed for that
	endTime  time.Time  // when
	begun    time.Time  // when Serve was called

	// Callbacks on the worker.
	inside    string
	owed      string    // the callback that has failed, and OnError must follow
	processed *msgLink  // the last one that ProcessClientData was called for
	latest    *msgLink  // the one that the last callback of a ThreadServer was about
	needAfter bool      // AfterEvent must follow
	unupdated bool      // Update of a ServerLoop must follow
	idleSince time.Time // the end of the last callback
	updating  bool      // the last callback was Update, but for AfterEvent and OnError
	updated   time.Time // the end of the last Update, and of what followed it
	updates   int
	slept     time.Duration // how long callbacks have slept
	sleeps    int
	works     []*work // queued and not run
	worked    int     // functions that were ever queued
	writers   byte    // the last writer that was given out
	budget    int     // how many more bytes are sent

	refusedBefore int // how many connections were refused when Serve returned last
}

// A work is a function that was passed to Work.
type work struct {
	task   int // that has passed it
	number int
}

// A msgServer is a server of package msgserver.
type msgServer interface {
	Run(ctx context.Context, host string, port int) error
	Serve(ctx context.Context, server *tcpserver.TcpServer) error
	Work(f func())
	send(socket *tcpserver.TcpSocket, data []byte)
	stop(socket *tcpserver.TcpSocket)
}

// RunMsg runs a program. It must be called in a bubble of testing/synctest.
func RunMsg(p *MsgProgram, trace bool) sched.Outcome {
	c := sched.Config{Seed: p.Seed, Strategy: p.Schedule, Stalls: p.Stalls, MaxSteps: 3_000_000, Trace: trace}
	return sched.Simulate(c, func() { newMsgWorld(p).run() })
}

func newMsgWorld(p *MsgProgram) *msgWorld {
	w := &msgWorld{world: newWorld(&Program{Seed: p.Seed, System: p.System}), p: p, worker: -1, writers: 30}
	w.random = sched.NewRandom(p.Seed ^ 0xACCE55)
	w.k.WindowStep, w.k.HideUnacked = p.Peer.WindowStep, p.Peer.HideUnacked
	w.port = msgPort
	w.budget = 60_000
	if w.isBulky() {
		w.budget = 2 << 20
	}
	if p.Server.Loop {
		w.s = w.newLoop()
	} else {
		w.s = w.newThread()
	}
	return w
}

// isBulky reports whether much is sent.
func (w *msgWorld) isBulky() bool { return w.p.System.Segments == 0 && w.p.System.ReceiveBuffer != 64 }

// The ports of the server, and of the one whose connections are added.
const (
	msgPort   = 7000
	otherPort = 7001
)

// run is the first task.
func (w *msgWorld) run() {
	if n := w.p.Server.Loops; n > 0 {
		w.poller, _ = tcpserver.NewPoller(n)
	}
	w.other = w.newTCP()
	w.other.Executor = nil
	w.other.Listen("tcp", fmt.Sprint("127.0.0.1:", otherPort))
	for _, s := range w.p.Clients {
		w.script(func() { w.msgClient(s) })
	}
	for i, s := range w.p.Users {
		a := &msgActor{w: w, writer: byte(2 + i)}
		w.script(func() { a.do(s) })
	}
	for i, r := range w.p.Rounds {
		w.round(r, i == len(w.p.Rounds)-1)
	}
	w.finish()
}

// newTCP returns a TcpServer with the program's configuration.
func (w *msgWorld) newTCP() *tcpserver.TcpServer {
	c := w.p.Server
	s := &tcpserver.TcpServer{
		Poller: w.poller, CloseTimeout: c.Close, IdleTimeout: c.Idle, AllowHalfOpen: c.HalfOpen,
		ReadBufferSize: c.ReadBuffer, WriteBufferSize: c.WriteBuffer, Logger: discard,
	}
	if c.WorkExecutor {
		s.Executor = w.s.Work
	}
	if c.MaxPending > 0 {
		s.SetMaxPendingConnections(c.MaxPending)
	}
	w.all = append(w.all, s)
	return s
}

// round calls Serve, ends it, and looks at what it leaves behind. The last round ends when all scripts have ended.
func (w *msgWorld) round(r Round, last bool) {
	w.ctx = sched.NewContext(-1)
	w.endDue = time.Time{}
	if after := ms(r.After); r.End == Deadline && !last {
		w.endDue = time.Now().Add(after)
		w.ctx = sched.NewContext(after)
	}
	w.ended, w.closed, w.serving = false, false, true
	w.tcp = nil
	sched.Go(func() { w.serve() })
	switch {
	case last:
		w.watchStill()
	case r.End != Deadline:
		sched.Sleep(ms(r.After))
		w.still()
	}
	w.endRound(r.End)
	for w.serving {
		w.returned.Wait("Serve to return")
	}
}

// watchStill looks at what does not move, until all scripts have ended or for about a minute.
func (w *msgWorld) watchStill() {
	for range 60 {
		w.still()
		if w.busy == 0 && !w.anyMoves() {
			return
		}
		sched.Sleep(time.Second)
	}
}

// still waits until nothing moves.
func (w *msgWorld) still() {
	d := 200 * time.Microsecond
	if w.p.Stalls {
		d = 31 * time.Millisecond
	}
	sched.Settle(d)
	w.checkStill()
}

// endRound ends the round in one of the ways.
func (w *msgWorld) endRound(how RoundEnd) {
	w.noteEnd()
	if how == CloseServer && w.tcp != nil {
		w.closed = true
		w.tcp.Close()
	} else {
		w.ctx.Cancel()
	}
}

// noteEnd notes that the round is about to be ended.
func (w *msgWorld) noteEnd() {
	if !w.ended {
		w.ended, w.endTime, w.slept = true, time.Now(), 0
	}
}

// isEnding reports whether something may have ended the round.
func (w *msgWorld) isEnding() bool {
	return w.ended || !w.serving || !w.endDue.IsZero() && !time.Now().Before(w.endDue)
}

// serve calls Serve.
func (w *msgWorld) serve() {
	w.worker, w.unupdated = sched.ID(), false
	w.begun, w.updated, w.idleSince, w.updates = time.Now(), time.Now(), time.Now(), 0
	var err error
	if w.p.Server.Run && !w.over {
		err = w.s.Run(w.ctx, "127.0.0.1", msgPort)
	} else {
		if w.last == nil || !w.p.Server.Reuse {
			w.last = w.newTCP()
		}
		w.tcp = w.last
		if err = w.tcp.Listen("tcp", fmt.Sprint("127.0.0.1:", msgPort)); err == nil {
			err = w.s.Serve(w.ctx, w.tcp)
		}
	}
	w.checkServed(err)
	w.worker, w.serving = -1, false
	w.returned.Open()
}

// checkServed looks at what Serve has left.
func (w *msgWorld) checkServed(err error) {
	sched.Note("Serve returns %v", err)
	switch {
	case w.faulty:
	case err == nil, !w.isEnding():
		sched.Fail("Serve returned %v", err)
	case err != w.ctx.Err() && err != tcpserver.ErrServerClosed:
		sched.Fail("Serve returned %v, the error of the context is %v", err, w.ctx.Err())
	case err == tcpserver.ErrServerClosed && !w.closed:
		sched.Fail("Serve returned %v, and nobody has closed the server", err)
	case w.owed != "":
		sched.Fail("OnError was not called when %s failed", w.owed)
	}
	w.noteMissed()
	if w.tcp != nil && w.tcp.IsListening() {
		sched.Fail("the server listens after Serve")
	}
	for _, l := range w.links {
		if l != nil {
			w.checkLeft(l)
		}
	}
	if len(w.order) > 0 {
		sched.Fail("%v: a client is left after Serve", w.order[0])
	}
	w.checkEndTime()
}

// checkLeft fails if a connection is left after Serve.
func (w *msgWorld) checkLeft(l *msgLink) {
	if l.socket == nil {
		return
	}
	if i := tcpserver.Inspect(l.socket); i.State != tcpserver.StateUnconnected {
		sched.Fail("%v: its connection is left after Serve", l)
	}
	switch {
	case l.state == linkClient || l.state == linkConnecting:
		sched.Fail("%v: it is still a client after Serve", l)
	case l.handled < l.decoded && !w.p.Server.Loop:
		sched.Fail("%v: a decoded message is not handled after Serve", l)
	}
	if limit, some := w.closeLimit(); some && l.conn.Closed.Sub(w.endBegun()) >= limit {
		l.forced = true
	}
}

// closeLimit returns for how long Serve waits for its connections to end.
func (w *msgWorld) closeLimit() (d time.Duration, some bool) {
	d = w.p.Server.Close
	if d == 0 || w.p.Server.Run && !w.over {
		return 5 * time.Second, true
	}
	return d, d > 0
}

// endBegun returns when something has begun to end the round.
func (w *msgWorld) endBegun() time.Time {
	if w.ended {
		return w.endTime
	}
	return w.endDue
}

// checkEndTime fails if Serve has taken too long to end.
func (w *msgWorld) checkEndTime() {
	limit, some := w.closeLimit()
	if !some {
		limit = 30*time.Second + w.p.Server.lag() // 2 MiB at 100 kB/s take 21 s
	}
	if took := time.Since(w.endBegun()); !w.faulty && took > limit+w.slept+20*w.slack() {
		sched.Fail("Serve took %v to end, with a limit of %v", took, limit)
	}
}

// finish ends everything, and checks what is left.
func (w *msgWorld) finish() {
	w.over = true
	w.world.over = true
	w.clearAdded()
	for _, s := range w.all {
		s.Close()
	}
	sched.Settle(time.Hour)
	for _, l := range w.links {
		if l != nil {
			w.checkFinal(l)
			l.rude = true
			l.conn.Reset()
		}
	}
	sched.Settle(time.Hour)
	if n := w.k.OpenFiles(); n > 0 {
		sched.Fail("%d descriptors are left", n)
	}
	if left := tcpserver.Leftovers(); left != "" {
		sched.Fail("%s", left)
	}
	if tasks := sched.Waiting(); len(tasks) > 0 {
		sched.Fail("tasks are left: %v\n%s", tasks, sched.Describe())
	}
}

// clearAdded ends the clients that were added after the last round, and runs the functions that were queued, in a last
// round whose context has ended.
func (w *msgWorld) clearAdded() {
	w.ctx = sched.NewContext(-1)
	w.ended, w.closed = false, false
	w.noteEnd()
	w.ctx.Cancel()
	w.serving = true
	w.serve()
}

// linkOf returns the link of a socket.
func (w *msgWorld) linkOf(s *tcpserver.TcpSocket) *msgLink {
	return w.links[s.RemoteAddr().(*net.TCPAddr).Port-20000]
}

// target returns a client that the program knows, or nil.
func (w *msgWorld) target(n int) *msgLink {
	var known []*msgLink
	for _, l := range w.links {
		if l != nil && l.socket != nil {
			known = append(known, l)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return known[n%len(known)]
}

// clientError returns the client that an error concerns, and its cause. The client is nil if it concerns none.
func (w *msgWorld) clientError(err error) (*msgLink, error) {
	var e *msgserver.ClientError
	if errors.As(err, &e) {
		if !strings.Contains(e.Error(), e.Socket.RemoteAddr().String()) {
			sched.Fail("%q does not name its client", e)
		}
		return w.linkOf(e.Socket), e.Err
	}
	return nil, err
}

// now dial is what connects a client.
func (w *msgWorld) dial(port uint16) *msgLink {
	c, err := sim.Dial(port)
	if err != nil {
		return nil
	}
	l := &msgLink{link: link{id: c.ID, conn: c}, toAdd: port == otherPort}
	for len(w.links) <= c.ID {
		w.links = append(w.links, nil)
	}
	w.links[c.ID] = l
	return l
}
