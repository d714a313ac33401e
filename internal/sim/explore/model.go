//go:build sim

package explore

import (
	"fmt"
	"slices"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// A link is what the model knows of one connection.
type link struct {
	id   int
	conn *sim.Conn

	// What the client has sent, and what the program has taken of it.
	sent     int    // bytes; the byte at position i is letter(id, i)
	pos      int    // everything before it was taken
	ahead    []span // what was taken behind pos, by calls that overlap
	reading  int    // calls that read now
	readings int    // calls that have begun to read
	half     bool   // the client sends nothing more
	excused  bool   // there is a reason for a reset, or for an error
	readBy   deadlines

	// What the program has sent, and what the client has received of it.
	frames   map[byte][]*frame // by writer
	parser   parser
	output   output
	writeBy  deadlines
	cut      bool // a Write was cut off: nothing whole may follow
	clean    bool // the client has met the end of the stream
	drains   bool // the client reads to the end
	vanished bool
	broken   bool // the client knows that the connection is broken

	// What the program knows.
	socket    *tcpserver.TcpSocket // nil until it was taken
	react     Reaction
	handlers  *tcpserver.SocketHandlers
	calls     int    // of ReadyRead
	seen      int    // up to which position ReadyRead was called
	took      int    // how many bytes the present call of ReadyRead has taken itself
	own       int    // and how often it has read
	sizings   int    // calls of SetReadBufferSize that have begun, and that have ended
	removals  int    // of the handlers
	looks     int    // calls outside the handlers that may have moved bytes to the buffer
	looking   int    // those that run
	left      bool   // the last call of ReadyRead has taken something
	inside    string // the handler that runs
	task      int    // that runs it
	entries   int    // calls of handlers
	view      *view  // that the handler has; nil if none
	closed    bool   // by the program
	closing   bool   // a call of Close or Abort has begun
	aborted   bool   // a call that does not send what is queued has begun
	flush     flush
	idle      idleLimit
	checked   bool  // its end was held against the model
	exact     bool  // it was closed where the handlers run: only Disconnected follows
	late      int   // handlers that began after the program has closed it
	told      bool  // ReadClosed was called
	again     bool  // and may be called again, because the handlers were removed and set since
	over      bool  // Disconnected was called
	err       error // its error
	panicked  bool
	paused    bool // reading, for sure
	lateRead  int  // calls of ReadyRead since
	pausing   int  // calls of PauseReading and ResumeReading
	resumed   time.Time
	heardLate int  // which such call has set handlers after the end; MaxInt during one
	worker    bool // a goroutine reads for the handlers
	vague     bool // which bytes were taken is not known any more

	deaf       bool // CloseRead was called: there is no ReadClosed
	halfOpened bool // half-open was switched
}

// A span is a part of a stream.
type span struct{ from, to int }

// letter returns byte i of what client id sends: lines of 11 bytes on average.
func letter(id, i int) byte {
	x := uint64(id)<<32 | uint64(i)
	x *= 0x9E3779B97F4A7C15
	x ^= x >> 29
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 32
	if x%11 == 0 {
		return '\n'
	}
	return byte('a' + x>>8%26)
}

// beginRead and endRead enclose a call that reads. data is what it has taken.
func (l *link) beginRead() (number int) {
	l.reading++
	l.readings++
	return l.readings
}

// mark returns what readings is as long as no call begins to read, or -1 if one reads now.
func (l *link) mark() int {
	if l.reading > 0 {
		return -1
	}
	return l.readings
}

func (l *link) endRead(call string, number int, data []byte) {
	overlapped := l.reading > 1 || l.readings != number
	l.reading--
	if l.inside != "" && l.task == sched.ID() {
		l.took += len(data)
		l.own++
	}
	if len(data) > 0 {
		l.take(call, data, overlapped)
	}
}

// take notes that data was taken, and fails unless it is what comes next.
func (l *link) take(call string, data []byte, overlapped bool) {
	if l.vague {
		return
	}
	if !overlapped && len(l.ahead) == 0 {
		if !l.matches(l.pos, data) {
			sched.Fail("%s of connection %d: bytes at %d are not what was sent: %q", call, l.id, l.pos, data)
		}
		l.advance(span{l.pos, l.pos + len(data)})
		return
	}
	var found []span
	for from := l.pos; from+len(data) <= l.sent; from++ {
		s := span{from, from + len(data)}
		if l.matches(from, data) && !slices.ContainsFunc(l.ahead, s.overlaps) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		sched.Fail("%s of connection %d: bytes that were not sent, or twice: %q", call, l.id, data)
	case 1:
		l.advance(found[0])
	default:
		l.vague = true // too short to tell which bytes they are
	}
}

func (s span) overlaps(o span) bool { return s.from < o.to && o.from < s.to }

func (l *link) matches(from int, data []byte) bool {
	if from+len(data) > l.sent {
		return false
	}
	for i, b := range data {
		if b != letter(l.id, from+i) {
			return false
		}
	}
	return true
}

func (l *link) advance(s span) {
	l.ahead = append(l.ahead, s)
	for {
		i := slices.IndexFunc(l.ahead, func(o span) bool { return o.from == l.pos })
		if i < 0 {
			return
		}
		l.pos = l.ahead[i].to
		l.ahead = slices.Delete(l.ahead, i, i+1)
		l.seen = max(l.seen, l.pos)
	}
}

// A frame is one Send or Write: a header of 4 bytes and a body.
type frame struct {
	writer byte
	number int
	length int // with the header
	got    int // bytes that the client has received
	state  frameState
}

type frameState uint8

const (
	offered  frameState = iota // the call has not returned
	accepted                   // it has taken all
	refused                    // it has taken nothing
	broken                     // it may have taken something, and the connection has ended
	severed                    // it has taken a part, and the connection has ended
)

const (
	header    = 4
	maxFrames = 250 // of one writer: their numbers are bytes
)

// newFrame returns a frame of about n bytes, and what it consists of.
func (l *link) newFrame(writer byte, n int) (*frame, []byte) {
	n = max(n, header)
	f := &frame{writer: writer, number: len(l.frames[writer]), length: n}
	if l.frames == nil {
		l.frames = map[byte][]*frame{}
	}
	l.frames[writer] = append(l.frames[writer], f)
	p := make([]byte, n)
	for i := range p {
		p[i] = f.letter(i)
	}
	return f, p
}

// letter returns byte i of a frame.
func (f *frame) letter(i int) byte {
	switch i {
	case 0:
		return 0x80 | f.writer
	case 1:
		return byte(f.number)
	case 2:
		return byte(f.length >> 8)
	case 3:
		return byte(f.length)
	}
	return letter(int(f.writer)<<8|f.number, i)
}

// A parser reads what a client receives.
type parser struct {
	head [2]byte
	have int
	now  *frame
	last map[byte]int // number of the last frame of each writer
}

// receive checks what the client has received.
func (l *link) receive(data []byte) {
	p := &l.parser
	for _, b := range data {
		if p.now == nil {
			p.head[p.have] = b
			if p.have++; p.have == len(p.head) {
				p.now = l.begin(p.head[0], int(p.head[1]))
				p.now.got, p.have = len(p.head), 0
			}
			continue
		}
		f := p.now
		if b != f.letter(f.got) {
			sched.Fail("connection %d: byte %d of frame %d of writer %d is wrong", l.id, f.got, f.number, f.writer)
		}
		if f.got++; f.got == f.length {
			p.now = nil
		}
	}
}

// begin finds the frame whose first two bytes have come.
func (l *link) begin(first byte, number int) *frame {
	p := &l.parser
	writer := first &^ 0x80
	if first&0x80 == 0 || number >= len(l.frames[writer]) {
		sched.Fail("connection %d: the client has received what nobody sent: %x %x", l.id, first, number)
	}
	if p.last == nil {
		p.last = map[byte]int{}
	}
	f := l.frames[writer][number]
	if last, some := p.last[writer]; some && number <= last {
		sched.Fail("connection %d: frame %d of writer %d after %d", l.id, number, writer, last)
	}
	p.last[writer] = number
	if f.state == refused {
		sched.Fail("connection %d: frame %d of writer %d was refused and has arrived", l.id, number, writer)
	}
	return f
}

// ended notes that the client has met a clean end of the stream.
func (l *link) ended() {
	if l.parser.now != nil || l.parser.have > 0 {
		sched.Fail("connection %d: a clean end in the middle of a frame", l.id)
	}
	l.clean = true
}

// checkSent is called at the end of the run. After a clean end nothing that was accepted may be missing.
func (l *link) checkSent() {
	if !l.clean {
		return
	}
	for writer, frames := range l.frames {
		for _, f := range frames {
			switch {
			case f.state == accepted && f.got < f.length:
				sched.Fail("connection %d: a clean end, and frame %d of writer %d is missing", l.id, f.number, writer)
			case f.state == severed:
				sched.Fail("connection %d: a clean end, and frame %d of writer %d was cut off", l.id, f.number, writer)
			case f.state == refused && f.got > 0:
				sched.Fail("connection %d: refused frame %d of writer %d has arrived", l.id, f.number, writer)
			}
		}
	}
}

// checkWritten is called at the end of the run. Write reports what the system took of it, whatever became of it.
func (l *link) checkWritten() {
	if sent, _, _, _ := l.conn.Taken(); l.output.offered == 0 && sent != l.output.written {
		sched.Fail("connection %d: Write has reported %d bytes, the system took %d", l.id, l.output.written, sent)
	}
}

// checkTaken is called at the end of the run. Calls that overlap have left no hole.
func (l *link) checkTaken() {
	if len(l.ahead) > 0 && !l.vague {
		sched.Fail("connection %d: bytes at %d were skipped: %v", l.id, l.pos, l.ahead)
	}
}

func (l *link) String() string {
	eof, reset := l.conn.EndArrived()
	s := fmt.Sprintf("connection %d: sent %d, arrived %d (eof %v, reset %v), held %d, taken to %d, announced to %d",
		l.id, l.sent, l.conn.Arrived(), eof, reset, l.conn.Held(), l.pos, l.seen)
	if l.socket != nil {
		s += fmt.Sprintf(", %+v", tcpserver.Inspect(l.socket))
	}
	return s
}
