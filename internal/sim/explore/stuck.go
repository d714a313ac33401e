//go:build sim

package explore

import (
	"fmt"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// longSleep is how long a handler sleeps, at least, if nothing else may be stuck meanwhile. After 10 to 20 ms the
// watchdog relieves the first handler that blocks, and each further one after 2 ms.
const longSleep = 100 * time.Millisecond

// aside is added to half of a long sleep, so that it ends at a moment at which nothing else happens.
const aside = 13 * time.Microsecond

func (a *actor) sleep(d time.Duration) {
	if a.link == nil {
		sched.Sleep(d)
		return
	}
	a.w.sleepInHandler(fmt.Sprintf("handler of connection %d", a.link.id), d)
}

// sleepInHandler sleeps. Meanwhile everything that does not concern the handler must go on.
func (w *world) sleepInHandler(name string, d time.Duration) {
	if d < longSleep || w.p.Stalls || w.faulty {
		sched.Sleep(d)
		return
	}
	sched.Sleep(d/2 + aside)
	before := w.stuck()
	sched.Sleep(d / 2)
	for what := range w.stuck() {
		if before[what] && !w.faulty {
			sched.Fail("%s sleeps for %v, and for half of it: %s", name, d, what)
		}
	}
}

// stuck returns what waits and need not. What is said of it changes if something happens.
func (w *world) stuck() map[string]bool {
	all := map[string]bool{}
	note := func(format string, args ...any) { all[fmt.Sprintf(format, args...)] = true }
	for _, l := range w.taken {
		i := tcpserver.Inspect(l.socket)
		switch {
		case i.State != tcpserver.StateUnconnected && i.Queued > 0 && l.conn.RoomToSend() >= w.third() && !l.vanished:
			sent := l.socket.BytesSent()
			note("%d bytes of connection %d are queued, and the system has room (%d)", i.Queued, l.id, sent)
		case w.p.Server.Executor == NoExecutor && i.HasHandlers && i.Running && l.inside == "":
			note("handlers of connection %d are due (%d calls, %d bytes)", l.id, l.entries, l.conn.Arrived())
		}
	}
	for _, h := range w.served {
		if w.p.Server.Executor == NoExecutor && h.inside == "" && h.isDue() {
			note("handlers of a server are due (%d calls)", h.entries)
		}
	}
	for _, b := range w.blocks {
		if b.could() {
			note("%s waits, and need not (%p, %s)", b.what, b, w.progress())
		}
	}
	if s := w.server; s.IsAccepting() && w.k.Waiting(w.port) > 0 {
		note("connections wait to be accepted (%s)", w.progress())
	}
	return all
}

// isDue reports whether NewConnectionHandler or ClosedHandler must be called, if none of the server's handlers runs.
func (h *serverHandlers) isDue() bool {
	if h.s.IsListening() {
		return h.w.p.Server.Take < 0 && h.s.HasPendingConnections()
	}
	for _, l := range h.w.taken {
		i := tcpserver.Inspect(l.socket)
		if l.socket.Server() == h.s && (i.State != tcpserver.StateUnconnected || i.Running || l.inside != "") {
			return false
		}
	}
	return h.closes < h.periods
}

// progress returns a text that changes with everything that is received, sent or accepted.
func (w *world) progress() string {
	bytes := 0
	for _, l := range w.taken {
		bytes += l.pos + l.conn.Arrived() + int(l.socket.BytesSent()+l.socket.BytesRead())
	}
	return fmt.Sprintf("%d bytes, %d connections, %d accepted", bytes, len(w.taken), w.server.Stats().Accepted)
}
