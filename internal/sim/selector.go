//go:build sim

package sim

import (
	"slices"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// Bits of an Event.
const (
	Read uint8 = 1 << iota
	Write
	Hangup
	Error
	_
	AfterEnd // given to Rearm with Read, and reported by that poll
)

// An Event is a report of a Selector.
type Event struct {
	Key  uint64
	Bits uint8
}

// A Selector reports readiness, in the manner of the system's Style.
type Selector struct {
	k       *Kernel
	fd      int
	watches map[uint64]*watch
	ready   []*watch // they have something to report, perhaps
	packets []packet // AFD: of the polls that have completed, in order
	woken   bool
	gate    sched.Gate
}

// A watch is what a selector watches.
type watch struct {
	selector *Selector
	file     *file
	fd       int
	key      uint64
	queued   bool

	readDue, writeDue bool  // kqueue: the filter is active
	armed             uint8 // AFD: Read, Write and Error polls whose packet has not been taken
	pending           uint8 // AFD: those of them that have not completed, and AfterEnd
}

// A packet is what a poll of AFD has found.
type packet struct {
	w     *watch
	poll  uint8 // Read, Write or Error
	found uint8
}

type edge uint8

const (
	readEdge edge = iota
	writeEdge
	errorEdge
)

// OpenSelector opens a selector. wakeKey is the key of the events that Wake causes.
func OpenSelector() (*Selector, syscall.Errno) {
	if e := enter(CallSelector, -1); e != 0 {
		return nil, e
	}
	s := &Selector{k: now, watches: map[uint64]*watch{}}
	fd, e := now.install(&file{selector: s})
	if e != 0 {
		return nil, e
	}
	s.fd = fd
	return s, 0
}

// Close closes the selector.
func (s *Selector) Close() {
	for _, w := range s.watches {
		w.file.watches = slices.DeleteFunc(w.file.watches, func(o *watch) bool { return o == w })
	}
	Close(s.fd)
}

// Add watches a descriptor.
func (s *Selector) Add(fd int, key uint64) syscall.Errno {
	if e := enter(CallWatch, fd); e != 0 {
		return e
	}
	f := s.k.file(fd)
	w := &watch{selector: s, file: f, fd: fd, key: key}
	f.watches = append(f.watches, w)
	s.watches[key] = w
	if s.k.Style == AFD {
		s.Rearm(key, Read)
		return 0
	}
	w.readDue, w.writeDue = f.isReadable(), f.isWritable()
	if w.level() != 0 {
		w.queue()
	}
	return 0
}

// Remove ends the watching of a descriptor.
func (s *Selector) Remove(key uint64) {
	sched.Point()
	if w := s.watches[key]; w != nil {
		w.drop()
	}
}

// Rearm asks AFD for one more report, unless the packet of the last one has not been taken.
func (s *Selector) Rearm(key uint64, bits uint8) {
	if s.k.Style != AFD {
		return
	}
	sched.Point()
	poll := bits &^ AfterEnd
	if w := s.watches[key]; w != nil && w.armed&poll == 0 {
		w.armed |= poll
		w.pending |= bits
		w.complete()
	}
}

func (f *file) dropWatches(fd int) {
	for _, w := range slices.Clone(f.watches) {
		if fd < 0 || w.fd == fd {
			w.drop()
		}
	}
}

func (w *watch) drop() {
	s := w.selector
	delete(s.watches, w.key)
	s.ready = slices.DeleteFunc(s.ready, func(o *watch) bool { return o == w })
	s.packets = slices.DeleteFunc(s.packets, func(p packet) bool { return p.w == w })
	w.file.watches = slices.DeleteFunc(w.file.watches, func(o *watch) bool { return o == w })
}

// notify tells the watches of an edge.
func (f *file) notify(e edge) {
	for _, w := range f.watches {
		switch w.selector.k.Style {
		case Epoll:
			w.queue()
		case Kqueue:
			w.readDue = w.readDue || e != writeEdge
			w.writeDue = w.writeDue || e != readEdge
			w.queue()
		case AFD:
			w.complete()
		}
	}
}

// queue puts the watch on its selector's list.
func (w *watch) queue() {
	if !w.queued {
		w.queued = true
		w.selector.ready = append(w.selector.ready, w)
		w.selector.gate.Open()
	}
}

// complete completes the polls of AFD whose condition holds.
func (w *watch) complete() {
	c := w.file.conn
	broken := c != nil && c.broken && w.pending != 0
	if broken && w.selector.k.ResetIsTaken {
		c.errno = 0
	}
	for _, poll := range []uint8{Read, Write, Error} {
		if found := w.find(poll, broken); found != 0 {
			w.selector.packets = append(w.selector.packets, packet{w, poll, found})
			w.selector.gate.Open()
		}
	}
}

// find completes a poll if it is pending and its condition holds. It returns what the poll has found.
func (w *watch) find(poll uint8, broken bool) (found uint8) {
	switch {
	case w.pending&poll == 0:
		return 0
	case broken:
		found = Read | Write | Hangup | Error
	case poll == Read && w.file.isReadable():
		found = w.file.readBits()
	case poll == Write && w.file.isWritable():
		found = Write
	default:
		return 0
	}
	if poll == Read {
		found |= w.pending & AfterEnd
		w.pending &^= AfterEnd
	}
	w.pending &^= poll
	return found
}

func (f *file) isReadable() bool {
	if c := f.conn; c != nil {
		return len(c.received) > 0 || c.eof || c.broken || c.shutRead
	}
	return f.bound.listener != nil && len(f.bound.listener.queue) > 0
}

func (f *file) isWritable() bool {
	c := f.conn
	return c != nil && (c.room() >= max(1, now.SendBuffer/3) || c.broken)
}

func (f *file) readBits() uint8 {
	bits := Read
	if c := f.conn; c != nil && (c.eof || c.broken || c.shutRead) {
		bits |= Hangup
	}
	return bits
}

// level returns what holds now, as epoll reports it.
func (w *watch) level() uint8 {
	f := w.file
	var bits uint8
	if f.isReadable() {
		bits |= f.readBits()
	}
	if f.isWritable() {
		bits |= Write
	}
	if c := f.conn; c != nil && c.errno != 0 {
		bits |= Read | Write | Hangup | Error
	}
	return bits
}

// report returns what the selector reports of the watch, and takes it off the list.
func (w *watch) report() (bits uint8) {
	w.queued = false
	f := w.file
	if w.selector.k.Style == Epoll {
		return w.level()
	}
	if w.readDue && f.isReadable() {
		bits |= f.readBits()
	}
	if w.writeDue && f.isWritable() {
		bits |= Write
	}
	if c := f.conn; c != nil && c.errno != 0 && bits&Hangup != 0 {
		bits |= Read | Write | Hangup | Error
	}
	w.readDue, w.writeDue = false, false
	return bits
}

// maxEvents is how many events one call returns.
const maxEvents = 256

// Poll returns what there is to report. woken is true if Wake was called.
func (s *Selector) Poll(events []Event) (_ []Event, woken bool) {
	if enter(CallWait, s.fd) != 0 {
		return events, false
	}
	for len(s.packets) > 0 && len(events) < maxEvents {
		p := s.packets[0]
		s.packets = s.packets[1:]
		p.w.armed &^= p.poll
		events = append(events, Event{p.w.key, p.found})
	}
	for len(s.ready) > 0 && len(events) < maxEvents {
		i := sched.Intn(len(s.ready))
		w := s.ready[i]
		s.ready = slices.Delete(s.ready, i, i+1)
		if bits := w.report(); bits != 0 {
			events = append(events, Event{w.key, bits})
		}
	}
	woken, s.woken = s.woken, false
	return events, woken
}

// Wait waits until Poll would return something, or until Wake.
func (s *Selector) Wait() {
	sched.Point()
	for len(s.ready) == 0 && len(s.packets) == 0 && !s.woken {
		s.gate.Wait("events")
	}
}

// Wake ends the present or the next Wait.
func (s *Selector) Wake() {
	sched.Point()
	s.woken = true
	s.gate.Open()
}

// TakesResets reports whether AFD's report of a reset takes the error away from recv.
func TakesResets() bool { return now.Style == AFD && now.ResetIsTaken }
