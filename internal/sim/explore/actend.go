//go:build sim

package explore

import (
	"slices"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// shutdown calls Shutdown. In a handler that waits only for the connections.
func (a *actor) shutdown(n int) {
	if a.ui {
		return // it would wait for handlers that cannot run meanwhile
	}
	s, ctx := a.w.server, a.context(n)
	check := a.w.lasting(s, a.w.heardLate)
	if s.Shutdown(ctx) == nil {
		if hasEnded(ctx) {
			sched.Fail("Shutdown with an ended context returned nil")
		}
		check("Shutdown", a.link != nil)
	}
}

func (a *actor) closeAsync() {
	called := false
	s := a.w.server
	check := a.w.lasting(s, a.w.heardLate)
	c := &callback{h: a.w.handlersOfServer(s)}
	defer c.made()
	s.CloseAsync(func(*tcpserver.TcpServer, error) {
		defer a.w.enterServer(s, "callback of CloseAsync")()
		defer c.ended()
		if called {
			sched.Fail("the callback of CloseAsync is called twice")
		}
		called = true
		check("CloseAsync", false)
	})
}

// wait calls Wait. In a handler that does not wait for handlers.
func (a *actor) wait(n int) {
	if a.ui {
		return
	}
	ctx := a.context(n)
	heard := a.w.heardLate
	if tcpserver.Wait(ctx) != nil {
		return
	}
	if hasEnded(ctx) {
		sched.Fail("Wait with an ended context returned nil")
	}
	var checks []func(string, bool)
	for _, h := range a.w.served {
		if h.unreferenced {
			continue
		}
		checks = append(checks, a.w.lasting(h.s, heard))
		if h.callbacks > 0 && a.link == nil {
			sched.Fail("Wait returned before %d callbacks", h.callbacks)
		}
	}
	for _, check := range checks {
		check("Wait", a.link != nil)
	}
}

// lasting notes what a server has at present, and returns a function that fails unless that has ended: the connections
// and, unless the call was made in a handler, also the handlers. Handlers that were set after the end of a connection
// count if heard of these calls had returned before.
func (w *world) lasting(s *tcpserver.TcpServer, heard int) (check func(call string, inHandler bool)) {
	h, taken := w.handlersOfServer(s), slices.Clone(w.taken)
	periods := h.periods
	return func(call string, inHandler bool) {
		if !inHandler && h.returned < periods {
			sched.Fail("%s returned after %d periods and %d calls of ClosedHandler", call, periods, h.returned)
		}
		for _, l := range taken {
			if l.socket.Server() != s {
				continue
			}
			i := tcpserver.Inspect(l.socket)
			called := l.over && l.inside == "" || !i.HasHandlers && l.inside == "" || l.heardLate > heard || inHandler
			if i.State != tcpserver.StateUnconnected || !called {
				sched.Fail("%v: %s returned before its end", l, call)
			}
		}
	}
}

// A callback is one of ListenAsync or CloseAsync. Wait waits for it.
type callback struct {
	h       *serverHandlers
	counted bool
	over    bool
}

// made is called when the call that has made it returns.
func (c *callback) made() {
	if !c.over {
		c.counted = true
		c.h.callbacks++
	}
}

// ended is called when it returns.
func (c *callback) ended() {
	c.over = true
	if c.counted {
		c.h.callbacks--
	}
}
