//go:build sim

package explore

import (
	"io"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// client is what a client does.
func (w *world) client(s Script) {
	var l *link
	for _, op := range s {
		switch {
		case op.Do == CSleep:
			sched.Sleep(time.Duration(op.N) * time.Millisecond)
		case op.Do == Connect:
			l = w.connect()
		case l != nil:
			w.clientStep(l, op)
		}
	}
}

// connect connects, or returns nil if nobody listens.
func (w *world) connect() *link {
	c, err := sim.Dial(w.port)
	if err != nil {
		return nil
	}
	l := &link{id: c.ID, conn: c}
	for len(w.links) <= c.ID {
		w.links = append(w.links, nil)
	}
	w.links[c.ID] = l
	return l
}

func (w *world) clientStep(l *link, op Op) {
	switch op.Do {
	case CSend:
		w.clientSend(l, op.N)
	case CRecv:
		w.clientRecv(l, op.N)
	case CDrain:
		l.drains = true
		w.clientRecv(l, 1<<30)
	case CHalf:
		if l.conn != nil {
			l.half = true
			l.conn.CloseWrite()
		}
	case CClose:
		l.excused = true // what the server sends meets a closed end
		l.conn.Close()
	case CReset:
		l.excused = true
		l.conn.Reset()
	case CVanish:
		l.vanished = true
		l.conn.Vanish()
	}
}

func (w *world) clientSend(l *link, n int) {
	if l.half {
		return
	}
	p := make([]byte, n)
	for i := range p {
		p[i] = letter(l.id, l.sent+i)
	}
	l.sent += n // before the call: the server may be faster
	if _, err := l.conn.Send(p); err != nil {
		l.half, l.broken = true, true // nothing more can be sent, and the end of the stream is none
	}
}

// clientRecv receives n bytes, or until the end.
func (w *world) clientRecv(l *link, n int) {
	buf := make([]byte, 1024)
	for n > 0 {
		m, err := l.conn.Recv(buf[:min(n, len(buf))])
		l.receive(buf[:m])
		n -= m
		switch err {
		case nil:
			continue
		case io.EOF:
			if !l.broken {
				l.ended()
			}
		case syscall.ECONNRESET:
			l.broken = true
			w.checkReset(l)
		}
		return
	}
}
