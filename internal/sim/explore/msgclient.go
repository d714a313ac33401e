//go:build sim

package explore

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// msgClient is what a client does.
func (w *msgWorld) msgClient(s Script) {
	var l *msgLink
	for _, op := range s {
		switch {
		case op.Do == CSleep:
			sched.Sleep(ms(op.N))
		case op.Do == Connect:
			l = w.dialPatiently(msgPort)
		case op.Do == MToAdd:
			l = w.dialPatiently(otherPort)
		case l != nil:
			w.msgClientStep(l, op)
		}
	}
}

// dialPatiently connects. If nobody listens, it tries again for some time.
func (w *msgWorld) dialPatiently(port uint16) (l *msgLink) {
	for range 3 {
		if l = w.dial(port); l != nil {
			return l
		}
		sched.Sleep(ms(20))
	}
	return nil
}

func (w *msgWorld) msgClientStep(l *msgLink, op Op) {
	switch op.Do {
	case MSay, MBad, MFinal, MCrash:
		w.say(l, op, 1)
	case MBurst:
		w.say(l, Op{Do: MSay, T: op.T}, op.N)
	case MPart:
		w.sayPart(l, op.N)
	case MReader:
		l.steady, l.drained = true, true
		sched.Go(func() { w.readOn(l, op.N) })
	case CRecv:
		if !l.drained {
			w.receiveSome(l, op.N)
		}
	case CDrain:
		if !l.drained {
			l.drained = true
			w.readOn(l, 0)
		}
	case CHalf:
		l.ending = true
		l.conn.CloseWrite()
	case CClose:
		l.ending, l.rude = true, true
		l.conn.Close()
	case CReset:
		l.ending, l.rude = true, true
		l.conn.Reset()
	case CVanish:
		l.ending, l.rude, l.vanished, l.steady = true, true, true, false
		l.conn.Vanish()
	}
}

// say sends some messages at once.
func (w *msgWorld) say(l *msgLink, op Op, count int) {
	s := &w.p.Server
	if l.ending || l.broken || l.hasPart {
		return
	}
	from := len(l.stream)
	for range min(count, 250-len(l.messages)) {
		l.encode(s, op.Do, max(op.N, s.Header), op.T)
	}
	w.transmit(l, from)
}

// sayPart sends a part of a message that does not end.
func (w *msgWorld) sayPart(l *msgLink, n int) {
	if l.ending || l.broken || l.hasPart {
		return
	}
	from := len(l.stream)
	l.hasPart, l.part = true, from
	p := make([]byte, n)
	for i := range p {
		p[i] = 'x'
	}
	switch w.p.Server.Decoder {
	case Prefix16:
		p = append(binary.BigEndian.AppendUint16(nil, uint16(n+1)), p...)
	case Prefix16Little:
		p = append(binary.LittleEndian.AppendUint16(nil, uint16(n+1)), p...)
	case Prefix32:
		p = append(binary.BigEndian.AppendUint32(nil, uint32(n+1)), p...)
	}
	l.stream = append(l.stream, p[:n]...)
	w.transmit(l, from)
}

// transmit sends the stream from a position on.
func (w *msgWorld) transmit(l *msgLink, from int) {
	if _, err := l.conn.Send(l.stream[from:]); err != nil {
		l.broken = true
	}
}

// receiveSome receives n bytes.
func (w *msgWorld) receiveSome(l *msgLink, n int) {
	buf := make([]byte, 1024)
	for n > 0 {
		m, err := l.conn.Recv(buf[:min(n, len(buf))])
		n -= m
		if w.received(l, buf[:m], err) {
			return
		}
	}
}

// readOn reads until the end, at a rate in bytes per second; 0 means as fast as possible.
func (w *msgWorld) readOn(l *msgLink, rate int) {
	const tick = 5 * time.Millisecond
	buf := make([]byte, 4096)
	start, read := time.Now(), 0
	for {
		n := len(buf)
		if rate > 0 {
			due := int(time.Since(start)*time.Duration(rate)/time.Second) - read
			if due <= 0 {
				sched.Sleep(tick)
				continue
			}
			if due > 10*rate/int(time.Second/tick) { // nothing had come: do not make up for that
				start, read = time.Now(), 0
				continue
			}
			n = min(n, due)
		}
		m, err := l.conn.Recv(buf[:n])
		read += m
		if w.received(l, buf[:m], err) {
			return
		}
	}
}

// received notes what a client has received. It returns true at the end.
func (w *msgWorld) received(l *msgLink, data []byte, err error) bool {
	l.receive(data)
	if err == nil {
		return false
	}
	// A reset that comes behind the end of the stream is the answer to what the client has sent too late.
	reset := l.broken || err != io.EOF
	if l.conn.EndReceived() && !l.rude && !(reset && w.p.System.Drop) {
		l.ended()
	}
	l.broken = l.broken || reset
	return true
}
