//go:build sim

package explore

import (
	"context"
	"net"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// An acceptCall is a call that waits for a connection. It must not take one of a later period of listening.
type acceptCall struct {
	w        *world
	name     string
	s        *tcpserver.TcpServer
	listener int // of the period, or 0 if the server does not listen
	begun    time.Time
}

func (w *world) beginAccept(name string, s *tcpserver.TcpServer) *acceptCall {
	c := &acceptCall{w, name, s, w.k.Listener(w.port), time.Now()}
	if !s.IsListening() {
		c.listener = 0
	}
	return c
}

// isOutlived reports whether there is another listener, which has come after the call has begun to wait.
func (c *acceptCall) isOutlived() bool {
	k, port := c.w.k, c.w.port
	begins := time.Millisecond // at the latest
	if c.w.p.Stalls {
		begins = 300 * time.Millisecond
	}
	return c.listener > 0 && k.Listener(port) > c.listener && k.ListenerSince(port).Sub(c.begun) > begins
}

// wait calls f, which must not wait if there is a connection, or if the period has ended.
func (c *acceptCall) wait(f func() error) error {
	could := func() bool { return c.s.HasPendingConnections() || c.isOutlived() }
	var err error
	c.w.waiting(c.name, could, func() { err = f() })
	c.check(err)
	return err
}

// check fails if the call was successful and should not have been.
func (c *acceptCall) check(err error) {
	if err == nil && c.isOutlived() {
		sched.Fail("%s has outlived a Close", c.name)
	}
}

func (a *actor) accept(n int) *link {
	s, ctx := a.w.server, a.context(n)
	var socket *tcpserver.TcpSocket
	err := a.w.beginAccept("AcceptSocket", s).wait(func() (err error) {
		socket, err = s.AcceptSocket(ctx)
		return err
	})
	switch {
	case n == 0 && err != context.Canceled:
		sched.Fail("AcceptSocket with an ended context returned %v", err)
	case (socket == nil) == (err == nil):
		sched.Fail("AcceptSocket returned %v and %v", socket, err)
	case err == nil:
		return a.w.adopt(socket)
	}
	return nil
}

func (a *actor) acceptNet(n int) {
	s := a.w.server
	s.SetDeadline(time.Now().Add(ms(n)))
	var c net.Conn
	err := a.w.beginAccept("Accept", s).wait(func() (err error) {
		c, err = s.Accept()
		return err
	})
	if err == nil {
		a.w.adopt(c.(*tcpserver.TcpSocket))
	}
	s.SetDeadline(time.Time{})
}

func (a *actor) waitNew(n int) {
	s, ctx := a.w.server, a.context(n)
	a.w.beginAccept("WaitForNewConnection", s).wait(func() error {
		err := s.WaitForNewConnection(ctx)
		if err == nil && hasEnded(ctx) || n == 0 && err != context.Canceled {
			sched.Fail("WaitForNewConnection with an ended context returned %v", err)
		}
		return err
	})
}

// connections takes up to most+1 connections.
func (a *actor) connections(most int) {
	s, ctx := a.w.server, sched.NewContext(ms(100))
	c, n := a.w.beginAccept("Connections", s), 0
	for socket := range s.Connections(ctx) {
		c.check(nil)
		a.w.adopt(socket)
		if n > most {
			sched.Fail("Connections goes on after its context")
		}
		if n++; n > most {
			ctx.Cancel()
		}
	}
}

func (a *actor) acceptAsync(n int) {
	called, s := false, a.w.server
	c := a.w.beginAccept("AcceptAsync", s)
	s.AcceptAsync(a.context(n), func(_ *tcpserver.TcpServer, socket *tcpserver.TcpSocket, err error) {
		defer a.w.enterServer(s, "callback of AcceptAsync")()
		if called || (socket == nil) == (err == nil) {
			sched.Fail("AcceptAsync: called before %v, socket %v, error %v", called, socket, err)
		}
		called = true
		if c.check(err); err == nil {
			a.w.adopt(socket)
		}
	})
}
