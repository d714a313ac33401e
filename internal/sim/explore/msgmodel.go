//go:build sim

package explore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// A message is one that a client has sent, or begun to send.
type message struct {
	kind  Act // MSay, MBad, MFinal, MCrash
	text  string
	start int // of its first byte in the stream, without spaces before it
	end   int // of the byte after its last one
	said  int // the script that it makes the server run
}

// A msgLink is what the model knows of one client. The client and its frames are those of a link.
type msgLink struct {
	link
	stream   []byte // what the client has sent, or is about to send
	messages []*message
	hasPart  bool // a message begins that never ends
	part     int  // where

	// What the client does.
	steady  bool // it reads at a decent rate, or faster, from the beginning
	drained bool // it reads until the end
	ending  bool // it has begun to end its stream, or to break the connection
	rude    bool // it breaks the connection, or is no longer there
	toAdd   bool // its connection is to be added by AddSocket
	added   bool // it was

	// What the server has done, as far as callbacks know.
	state    linkState
	pos      int // up to which position the stream was decoded
	decoded  int // messages
	handled  int // messages
	decoding bool
	done     bool // nothing more is decoded
	failure  error
	failed   bool // OnError has returned
	end      error
	foreign  bool // other goroutines than the worker send, too
	missed   bool // Serve has returned, and it was no client

	// When nothing moved last.
	promised int  // how many messages had been received
	wasOver  bool // more was queued than the mark
	sentThen int  // how much the system had taken

	// What the program has done.
	stopping bool // StopClient or CloseConnection has begun
	stopped  bool // it has returned
	stopTime time.Time
	aborting bool // the program has used the socket itself
	overflow bool // more may have been queued than MaxSend
	slow     bool // it was dropped as slow
	forced   bool // Serve could not wait for it any longer
	inflight int  // bytes that calls are sending now
	pending  int  // bytes that a ServerLoop has collected

	queuedSince time.Time // since when something is queued, or later
	lastTaken   int       // how much it had taken when that was looked at last
	lastMoved   time.Time // and since when
}

// A linkState is the state of a client, as callbacks tell it.
type linkState uint8

const (
	linkNew        linkState = iota
	linkConnecting           // ClientConnected runs
	linkRefused
	linkClient
	linkOver // ClientDisconnected was called
)

// limit returns the size of the longest message.
func (s *MsgServer) limit() int {
	if s.MaxBuffer > 0 {
		return s.MaxBuffer
	}
	return 64 << 10
}

// mark returns how many bytes may be queued for a client before its messages wait.
func (s *MsgServer) mark() int { return min(256<<10, s.maxSend()/2) }

func (s *MsgServer) maxSend() int {
	if s.MaxSend > 0 {
		return s.MaxSend
	}
	return 64 << 20
}

func (s *MsgServer) lag() time.Duration {
	if s.Lag > 0 {
		return s.Lag
	}
	return 500 * time.Millisecond
}

// isTooLong reports whether a message does not fit into the buffer.
func (s *MsgServer) isTooLong(m *message) bool { return m.end-m.start > s.limit() }

// isBad reports whether a message ends its client with an error.
func (s *MsgServer) isBad(m *message) bool {
	return s.isTooLong(m) || m.kind == MBad || m.kind == MCrash || s.decoderRefuses(m)
}

// decoderRefuses reports whether the decoder of package msgserver has a limit of its own, and the message exceeds it.
func (s *MsgServer) decoderRefuses(m *message) bool {
	return s.DecoderMax > 0 && s.Decoder != Words && len(m.text) > s.DecoderMax
}

// encode appends a message of about n bytes to the stream.
func (l *msgLink) encode(s *MsgServer, kind Act, n, said int) *message {
	extra := map[Decoder]int{Prefix16: 2, Prefix16Little: 2, Prefix32: 4}[s.Decoder]
	around := max(extra, 1)
	if s.Decoder == LineDecoder && said%2 == 1 {
		around = 2 // "\r\n"
	}
	body := fmt.Appendf(nil, "%d:%d:", l.id, len(l.messages))
	for i := len(body) + around; i < n; i++ {
		body = append(body, 'a'+byte(i)%26)
	}
	text := string(body)
	m := &message{kind: kind, text: text, said: said}
	if s.Decoder == Words {
		l.stream = append(l.stream, strings.Repeat(" ", said%3)...)
	}
	m.start = len(l.stream)
	switch s.Decoder {
	case LineDecoder:
		l.stream = append(l.stream, text+"\r\n"[2-around:]...)
	case Prefix16:
		l.stream = append(binary.BigEndian.AppendUint16(l.stream, uint16(len(text))), text...)
	case Prefix16Little:
		l.stream = append(binary.LittleEndian.AppendUint16(l.stream, uint16(len(text))), text...)
	case Prefix32:
		l.stream = append(binary.BigEndian.AppendUint32(l.stream, uint32(len(text))), text...)
	case Words:
		l.stream = append(l.stream, text+" "...)
	}
	m.end = len(l.stream)
	l.messages = append(l.messages, m)
	return m
}

// due returns how many messages must have been handled once n bytes have arrived, and whether the client must have
// failed after them.
func (l *msgLink) due(s *MsgServer, n int) (messages int, failed bool) {
	for i, m := range l.messages {
		switch {
		case s.isTooLong(m) && n > m.start+s.limit():
			return i, true
		case m.end > n:
			return i, false
		case s.isBad(m):
			return i, true
		case m.kind == MFinal && !s.Loop:
			return i + 1, false
		}
	}
	return len(l.messages), l.hasPart && n > l.part+s.limit()
}

// beginDecode is called with what the server shows to the decoder.
func (l *msgLink) beginDecode(s *MsgServer, buf []byte) {
	switch {
	case l.state != linkClient && l.state != linkConnecting:
		sched.Fail("%v: decoding in state %d", l, l.state)
	case l.decoding:
		sched.Fail("%v: it is decoded twice at a time", l)
	case l.done:
		sched.Fail("%v: decoding goes on after its end", l)
	case len(buf) == 0 || len(buf) > s.limit():
		sched.Fail("%v: the decoder is shown %d bytes", l, len(buf))
	case !s.Loop && len(buf) < s.Header:
		sched.Fail("%v: the decoder is shown %d bytes, fewer than a header", l, len(buf))
	case l.pos+len(buf) > len(l.stream) || !bytes.Equal(buf, l.stream[l.pos:l.pos+len(buf)]):
		sched.Fail("%v: the decoder is shown at %d what was not sent: %q", l, l.pos, buf)
	}
	l.decoding = true
}

// decodes notes that a message was decoded from the first n bytes that were shown, and returns it.
func (l *msgLink) decodes(text string, n int) *message {
	if l.decoded >= len(l.messages) {
		sched.Fail("%v: a message that was not sent: %q", l, text)
	}
	m := l.messages[l.decoded]
	if m.text != text || l.pos+n != m.end {
		sched.Fail("%v: message %d is %q and ends at %d, not %q and at %d", l, l.decoded, text, l.pos+n, m.text, m.end)
	}
	l.pos += n
	l.decoded++
	return m
}

// handles notes that a message is handled.
func (l *msgLink) handles(text string) *message {
	switch {
	case l.state != linkClient:
		sched.Fail("%v: a message in state %d", l, l.state)
	case l.handled >= l.decoded:
		sched.Fail("%v: message %d is handled before it was decoded", l, l.handled)
	case l.messages[l.handled].text != text:
		sched.Fail("%v: message %d is %q, not %q", l, l.handled, text, l.messages[l.handled].text)
	}
	l.handled++
	return l.messages[l.handled-1]
}

// isOpen reports whether what is sent to the client now must arrive, unless the connection breaks. own says that a
// callback sends that concerns the client, so that it comes before the end of the client's stream.
func (l *msgLink) isOpen(w *msgWorld, own bool) bool {
	switch {
	case l.stopping, l.failed, l.aborting, l.state == linkNew, l.state == linkOver, l.state != linkClient && !own:
		return false
	case own:
		return true
	}
	return !l.ending && !l.done && !w.isEnding()
}

// isGone reports whether what is sent to the client now must not arrive. onWorker says that the worker sends it.
func (l *msgLink) isGone(onWorker bool) bool {
	return l.stopped || l.failed && onWorker || l.state == linkOver
}

// acceptedBytes returns how many bytes were accepted for sending. If sure is false, it may be more.
func (l *msgLink) acceptedBytes() (n int, sure bool) {
	for _, frames := range l.frames {
		for _, f := range frames {
			switch f.state {
			case accepted:
				n += f.length
			case offered:
				return 0, false
			}
		}
	}
	return n, true
}

// doubt notes that what was accepted for sending may be lost.
func (l *msgLink) doubt() {
	for _, frames := range l.frames {
		for _, f := range frames {
			if f.state == accepted {
				f.state = offered
			}
		}
	}
}

// taken returns how much the client has taken, as the server sees it, and when it has taken the last of it.
func (l *msgLink) taken(w *msgWorld) (n int, at time.Time) {
	sent, sentAt, received, receivedAt := l.conn.Taken()
	if w.p.Peer.HideUnacked {
		return sent, sentAt
	}
	return received, receivedAt
}

// hasAll reports whether the client's system has received everything that the server's has taken.
func (l *msgLink) hasAll() bool {
	sent, _, received, _ := l.conn.Taken()
	return sent == received
}

// waits returns for how long the client has taken nothing, with something queued.
func (l *msgLink) waits(w *msgWorld) time.Duration {
	_, at := l.taken(w)
	if at.Before(l.queuedSince) {
		at = l.queuedSince
	}
	return time.Since(at)
}

// patience returns for how long the client may take nothing at most.
func (l *msgLink) patience(w *msgWorld) time.Duration {
	n, _ := l.taken(w)
	window := min(n, 4<<20)
	if !w.p.Peer.HideUnacked {
		window = max(window, w.k.ReceiveBuffer)
	}
	credit := min(n, 256<<10+window/8)
	return w.p.Server.lag() + time.Duration(credit)*time.Second/(64<<10) + time.Second
}

func (l *msgLink) String() string {
	eof, reset := l.conn.EndArrived()
	var b strings.Builder
	fmt.Fprintf(&b, "client %d: state %d, failure %v, ", l.id, l.state, l.failure)
	fmt.Fprintf(&b, "%d messages in %d bytes, ", len(l.messages), len(l.stream))
	fmt.Fprintf(&b, "arrived %d (eof %v, reset %v), held %d, ", l.conn.Arrived(), eof, reset, l.conn.Held())
	fmt.Fprintf(&b, "decoded %d to %d, handled %d", l.decoded, l.pos, l.handled)
	for _, flag := range []struct {
		name string
		on   bool
	}{{"steady", l.steady}, {"ending", l.ending}, {"rude", l.rude}, {"vanished", l.vanished}, {"done", l.done},
		{"stopping", l.stopping}, {"stopped", l.stopped}, {"aborting", l.aborting}, {"overflow", l.overflow},
		{"added", l.added}, {"clean", l.clean}, {"decoding", l.decoding}} {
		if flag.on {
			b.WriteString(", " + flag.name)
		}
	}
	if l.socket != nil {
		fmt.Fprintf(&b, ", %+v", tcpserver.Inspect(l.socket))
	}
	return b.String()
}
