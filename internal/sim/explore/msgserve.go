//go:build sim

package explore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/msgserver"
)

var (
	errRefused = errors.New("refused")
	errFailed  = errors.New("failed")
	errBad     = errors.New("bad message")
)

// A threadServer is a ThreadServer of the model.
type threadServer struct {
	msgserver.ThreadServer[*msgLink, string]
}

func (s *threadServer) send(socket *tcpserver.TcpSocket, data []byte) { s.SendData(socket, data) }
func (s *threadServer) stop(socket *tcpserver.TcpSocket)              { s.StopClient(socket) }

// A loopServer is a ServerLoop of the model.
type loopServer struct {
	msgserver.ServerLoop[*msgLink]
	w *msgWorld
}

func (s *loopServer) send(socket *tcpserver.TcpSocket, data []byte) { s.ClientWrite(socket, data) }

func (s *loopServer) stop(socket *tcpserver.TcpSocket) {
	l := s.w.linkOf(socket)
	admitted := l.state == linkClient
	known := admitted || !l.stopped && (l.state == linkConnecting || l.state == linkRefused && !l.failed)
	if s.CloseConnection(socket) != known {
		sched.Fail("%v: CloseConnection returned %v", l, !known)
	}
	if admitted && l.state != linkOver {
		sched.Fail("%v: CloseConnection returned before ClientDisconnected", l)
	}
}

func (w *msgWorld) newThread() *threadServer {
	c, decode := w.p.Server, w.p.Server.decoder()
	s := new(threadServer)
	s.ErrorOutput = io.Discard
	s.ClientConnected = w.connected
	s.ReadClientMessage = func(l *msgLink, buf []byte) (string, int, error) { return w.decode(l, buf, decode) }
	s.ClientMessage = w.said
	s.ClientDisconnected = func(l *msgLink, err error) { w.disconnected(l, err) }
	s.OnError = func(err error, stack []byte) {
		if failure := new(tcpserver.PanicError); errors.As(err, &failure) != (len(stack) > 0) {
			sched.Fail("OnError gets %v and a stack of %d bytes", err, len(stack))
		}
		w.failed(err)
	}
	if !c.NoUpdate {
		s.Update = w.update
	}
	if !c.NoAfterEvent {
		s.AfterEvent = w.afterEvent
	}
	s.Threads, s.MaxSocketsPerThread = c.Threads, c.PerThread
	s.InitialBufferSize, s.MaxBufferSize = c.Buffer, c.MaxBuffer
	s.MessageHeaderSize, s.ConnectLag, s.UpdateTime, s.MaxSendBuffer = c.Header, c.Lag, c.Update, c.MaxSend
	return s
}

func (w *msgWorld) newLoop() *loopServer {
	c, decode := w.p.Server, w.p.Server.decoder()
	s := &loopServer{w: w}
	s.NewData = w.connected
	s.ProcessClientData = func(l *msgLink, buf []byte) (int, error) { return w.process(l, buf, decode) }
	s.ClientDisconnected = func(l *msgLink) { w.disconnected(l, nil) }
	s.OnError = w.failed
	if !c.NoUpdate {
		s.Update = w.update
	}
	s.BufferSize, s.MaxBufferSize, s.UpdateTime = c.Buffer, c.MaxBuffer, c.Update
	s.ConnectLag, s.MaxSendBuffer = c.Lag, c.MaxSend
	return s
}

// A decodeFunc is a decoder of package msgserver.
type decodeFunc func(l *msgLink, buf []byte) (text string, n int, err error)

func (s *MsgServer) decoder() decodeFunc {
	texts := func(f func(*msgLink, []byte) ([]byte, int, error)) decodeFunc {
		return func(l *msgLink, buf []byte) (string, int, error) {
			text, n, err := f(l, buf)
			return string(text), n, err
		}
	}
	switch s.Decoder {
	case Prefix16:
		return texts(msgserver.LengthPrefix16[*msgLink](binary.BigEndian, s.DecoderMax))
	case Prefix16Little:
		return texts(msgserver.LengthPrefix16[*msgLink](binary.LittleEndian, s.DecoderMax))
	case Prefix32:
		return texts(msgserver.LengthPrefix32[*msgLink](binary.BigEndian, s.DecoderMax))
	case Words:
		return texts(msgserver.Split[*msgLink](bufio.ScanWords))
	}
	return msgserver.Lines[*msgLink](s.DecoderMax)
}

// enter begins a callback. All but ReadClientMessage run on one goroutine, one at a time.
func (w *msgWorld) enter(name string, l *msgLink) (leave func()) {
	id := -1
	if l != nil {
		id = l.id
	}
	sched.Note("%s of %d", name, id)
	// What CloseConnection and ClientWrite of a ServerLoop cause is called inside the callback that calls them.
	nested := w.p.Server.Loop && (name == "ClientDisconnected" || name == "OnError")
	follows := name == "AfterEvent" || name == "OnError"
	switch {
	case sched.ID() != w.worker:
		sched.Fail("%s is called on another goroutine than that of Serve", name)
	case w.inside != "" && !nested:
		sched.Fail("%s is called inside %s", name, w.inside)
	case w.needAfter && !follows:
		sched.Fail("%s is called without AfterEvent before", name)
	case w.owed != "" && name != "OnError":
		sched.Fail("%s is called, and OnError was not when %s failed", name, w.owed)
	}
	w.checkStarved(name, l)
	w.updating = name == "Update" || w.updating && (name == "AfterEvent" || name == "OnError")
	outer := w.inside
	w.inside = name
	if outer == "" {
		w.noteFlush(name, l)
	}
	return func() {
		w.inside, w.idleSince = outer, time.Now()
		if w.updating {
			w.updated = time.Now() // the next one comes after a pause
		}
		if name != "OnError" { // which may be about Update
			w.unupdated = w.p.Server.Loop && !w.p.Server.NoUpdate && name != "Update"
		}
		switch c := w.p.Server; {
		case c.Loop || c.NoAfterEvent:
		case name == "AfterEvent":
			w.needAfter = false
		case name != "OnError" || l != nil: // OnError may be about AfterEvent
			w.needAfter = true
		}
	}
}

// noteFlush notes that a ServerLoop has sent what it had collected: that is, before it calls back for something else.
func (w *msgWorld) noteFlush(name string, l *msgLink) {
	if l != nil && l == w.processed && name != "ClientConnected" {
		return
	}
	w.processed = l
	for _, l := range w.order {
		l.pending = 0
	}
}

// connected is ClientConnected and NewData.
func (w *msgWorld) connected(socket *tcpserver.TcpSocket) (*msgLink, error) {
	l := w.linkOf(socket)
	defer w.enter("ClientConnected", l)()
	if l.state != linkNew {
		sched.Fail("%v: ClientConnected is called twice", l)
	}
	if c := w.p.Server; !c.Loop && c.PerThread > 0 && len(w.order) >= c.Threads*c.PerThread {
		sched.Fail("%d clients, and one more", len(w.order))
	}
	l.socket, l.state = socket, linkConnecting
	l.watchQueue()
	accepted := false
	defer func() { // the script may panic
		l.state = linkRefused
		if accepted && !(w.p.Server.Loop && l.stopped) {
			l.state = linkClient
			w.order = append(w.order, l)
		}
	}()
	a := &msgActor{w: w, link: l, writer: 1}
	a.do(w.p.Acts.Connected)
	if a.err != nil {
		w.owe()
		return nil, a.err
	}
	if every := w.p.Server.RefuseEvery; every > 0 && l.id%every == 0 {
		w.owe()
		return nil, errRefused
	}
	accepted = true
	return l, nil
}

// decode is ReadClientMessage.
func (w *msgWorld) decode(l *msgLink, buf []byte, decode decodeFunc) (string, int, error) {
	l.beginDecode(&w.p.Server, buf)
	w.checkReading(l)
	defer func() { l.decoding = false }()
	sched.Note("decode %d bytes of %d", len(buf), l.id)
	text, n, err := decode(l, buf)
	before := string(buf)
	(&msgActor{w: w, link: l, writer: 29, decoder: true}).do(w.p.Acts.Decode)
	if before != string(buf) {
		sched.Fail("%v: the decoder's buffer has changed while it ran", l)
	}
	m, err := l.decodeResult(text, n, err)
	if m == nil || err != nil {
		l.done = l.done || err != nil && n == 0
		return text, n, err
	}
	l.done = m.kind != MSay
	switch m.kind {
	case MBad:
		l.decoded--
		return "", 0, errBad
	case MCrash:
		l.decoded--
		panic(errPanic)
	case MFinal:
		err = bufio.ErrFinalToken
	}
	return text, n, err
}

// decodeResult notes what a decoder has returned. The message is nil if there is none.
func (l *msgLink) decodeResult(text string, n int, err error) (*message, error) {
	switch {
	case err != nil && n > 0: // bytes between messages
		for _, b := range l.stream[l.pos : l.pos+n] {
			if b != ' ' {
				sched.Fail("%v: %d bytes were skipped", l, n)
			}
		}
		l.pos += n
		return nil, err
	case err != nil || n == 0:
		return nil, err
	}
	return l.decodes(text, n), nil
}

// process is ProcessClientData.
func (w *msgWorld) process(l *msgLink, buf []byte, decode decodeFunc) (used int, err error) {
	defer w.enter("ProcessClientData", l)()
	w.checkMark(l)
	if i, s := tcpserver.Inspect(l.socket), &w.p.Server; int(l.socket.BytesRead())-l.pos > 3*(s.limit()+i.Limit) {
		sched.Fail("%v: %d bytes wait to be processed", l, int(l.socket.BytesRead())-l.pos)
	}
	l.beginDecode(&w.p.Server, buf)
	defer func() { l.decoding = false }()
	for used < len(buf) {
		text, n, err := decode(l, buf[used:])
		m, err := l.decodeResult(text, n, err)
		used += n
		switch {
		case m == nil && n > 0: // spaces
			continue
		case m == nil || err != nil:
			return used, err
		case m.kind == MBad:
			return used, errBad
		case m.kind == MCrash:
			w.owe()
			panic(errPanic)
		}
		l.handles(text)
		if err := w.react(l, m); err != nil || !w.p.Server.Whole || l.state == linkOver {
			return used, err
		}
	}
	return used, nil
}

// said is ClientMessage.
func (w *msgWorld) said(l *msgLink, text string) {
	defer w.enter("ClientMessage", l)()
	w.checkMark(l)
	m := l.handles(text)
	ended := l.socket != nil && l.socket.State() == tcpserver.StateUnconnected // what is left is decoded at once
	if waiting := l.decoded - l.handled; waiting > 64 && !ended && !w.isEnding() {
		sched.Fail("%v: %d messages wait to be handled", l, waiting)
	}
	w.react(l, m)
}

// checkMark fails if a message is handled that should wait until less is queued.
func (w *msgWorld) checkMark(l *msgLink) {
	i := tcpserver.Inspect(l.socket)
	if i.Queued > w.p.Server.mark() && !l.foreign && !w.isEnding() {
		sched.Fail("%v: a message is handled while %d bytes are queued", l, i.Queued)
	}
}

// react does what a message makes the server do.
func (w *msgWorld) react(l *msgLink, m *message) error {
	a := &msgActor{w: w, link: l, writer: 1}
	if n := len(w.p.Said); n > 0 {
		a.do(w.p.Said[m.said%n])
	}
	return a.err
}

// disconnected is ClientDisconnected.
func (w *msgWorld) disconnected(l *msgLink, err error) {
	defer w.enter("ClientDisconnected", l)()
	if l.state != linkClient {
		sched.Fail("%v: ClientDisconnected in state %d", l, l.state)
	}
	l.state, l.end = linkOver, err
	w.order = slices.DeleteFunc(w.order, func(o *msgLink) bool { return o == l })
	if !w.p.Server.Loop {
		if s := l.socket.State(); s != tcpserver.StateUnconnected {
			sched.Fail("%v: ClientDisconnected in state %v", l, s)
		}
		w.checkCause(l, err)
	}
	w.checkOrderly(l)
	w.checkPromised(l)
	(&msgActor{w: w, link: l, writer: 1}).do(w.p.Acts.Disconnected)
}

// checkOrderly fails if a client that has ended its stream was disconnected before its messages were handled.
func (w *msgWorld) checkOrderly(l *msgLink) {
	eof, reset := l.conn.EndArrived()
	if !eof || reset || l.failure != nil || l.stopping || l.aborting || w.isEnding() || w.faulty || l.end != nil ||
		w.p.Server.Idle > 0 {
		return
	}
	if want, failed := l.due(&w.p.Server, len(l.stream)); l.handled < want || failed {
		sched.Fail("%v: it has ended in order, and %d messages were due (failure: %v)", l, want, failed)
	}
}

// checkCause fails if there is no reason for the error of ClientDisconnected.
func (w *msgWorld) checkCause(l *msgLink, err error) {
	_, reset := l.conn.EndArrived()
	switch {
	case l.failure != nil && err != l.failure && err != msgserver.ErrSlowClient:
		sched.Fail("%v: disconnected with %v", l, err)
	case w.faulty:
	case err == nil && l.failure == nil && !w.mayEndInOrder(l):
		sched.Fail("%v: disconnected without a reason, and its socket has ended with %v", l, l.socket.Err())
	case err == nil || err == l.failure:
	case err == msgserver.ErrSlowClient:
		l.slow = true
		w.checkSlow(l)
	case err == tcpserver.ErrReset:
		if !reset && !l.rude {
			sched.Fail("%v: disconnected with %v, and nobody has reset it", l, err)
		}
	case err == tcpserver.ErrIdleTimeout:
		if w.p.Server.Idle == 0 {
			sched.Fail("%v: disconnected with %v", l, err)
		}
	case err == os.ErrDeadlineExceeded:
		if !w.isEnding() && !l.aborting {
			sched.Fail("%v: disconnected with %v", l, err)
		}
	default:
		sched.Fail("%v: disconnected with %v", l, err)
	}
}

// mayEndInOrder reports whether somebody has ended a client's connection in order, or the program its socket.
func (w *msgWorld) mayEndInOrder(l *msgLink) bool {
	eof, _ := l.conn.EndArrived()
	return l.socket.Err() == nil && (eof || l.done || l.stopping || l.aborting || w.isEnding())
}

// checkSlow fails if there is no reason to drop a client as slow.
func (w *msgWorld) checkSlow(l *msgLink) {
	waits := l.waits(w)
	switch {
	case l.overflow || w.faulty:
	case l.steady:
		sched.Fail("%v: a steady reader is dropped as slow", l)
	case waits < w.p.Server.lag():
		sched.Fail("%v: dropped as slow after %v", l, waits)
	}
}

// failed is OnError.
func (w *msgWorld) failed(err error) {
	l, cause := w.clientError(err)
	defer w.enter("OnError", l)()
	failure := new(tcpserver.PanicError)
	panicked := errors.As(cause, &failure) && failure.Value == errPanic
	w.owed = ""
	if l == nil {
		if !panicked {
			sched.Fail("OnError: %v", err)
		}
		(&msgActor{w: w, writer: 1}).do(w.p.Acts.Failed)
		return
	}
	sched.Note("client %d fails: %v", l.id, cause)
	w.checkFailure(l, cause, panicked)
	if l.failure == nil {
		l.failure = cause
	}
	defer func() { l.failed = true }()
	(&msgActor{w: w, link: l, writer: 1}).do(w.p.Acts.Failed)
}

// checkFailure fails if there is no reason for the error of a client.
func (w *msgWorld) checkFailure(l *msgLink, cause error, panicked bool) {
	s := &w.p.Server
	var next *message // the first one that was not handled
	if l.handled < len(l.messages) {
		next = l.messages[l.handled]
	}
	switch {
	case panicked || cause == errFailed || cause == errRefused:
	case cause == msgserver.ErrSlowClient && s.Loop:
		l.slow = true
		w.checkSlow(l)
	case cause == errBad:
		if next == nil || next.kind != MBad {
			sched.Fail("%v: fails with %v", l, cause)
		}
	case cause == msgserver.ErrBufferFull:
		if !(next != nil && s.isTooLong(next)) && !(next == nil && l.hasPart && len(l.stream)-l.part > s.limit()) {
			sched.Fail("%v: fails with %v", l, cause)
		}
	case s.DecoderMax == 0 || next != nil && !s.decoderRefuses(next) || next == nil && !l.hasPart:
		sched.Fail("%v: fails with %v", l, cause)
	}
}

// update is Update.
func (w *msgWorld) update() {
	defer w.enter("Update", nil)()
	w.updates++
	w.checkEarly()
	(&msgActor{w: w, writer: 1}).do(w.p.Acts.Update)
}

// afterEvent is AfterEvent.
func (w *msgWorld) afterEvent() {
	defer w.enter("AfterEvent", nil)()
	(&msgActor{w: w, writer: 1}).do(w.p.Acts.After)
}
