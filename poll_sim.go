//go:build sim

package tcpserver

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// With the tag sim, the system is a simulated one (package sim), and package sched decides who runs.

// Supported reports whether this platform has a poller. If not, [TcpServer.Listen] returns [ErrUnsupported].
func Supported() bool { return true }

// isEOFConfirmed reports whether an end of stream that recv returned is one. It does what poll_windows.go does if the
// system takes the error of a reset away, and otherwise believes recv.
func (a *atomicReadiness) isEOFConfirmed() bool {
	return !sim.TakesResets() || a.has(peerClosed)
}

// A selector is one of the simulated system, which reports edges or, in the style of AFD, what rearm has asked for.
type selector struct {
	s     *sim.Selector
	found []sim.Event
}

// lookTime is how long a poll takes that finds nothing, so that a loop that spins comes to an end.
const lookTime = 20 * time.Microsecond

// wakeKey is the key of what wakes the loop. It is no slot's.
var wakeKey = slotKey{slot: ^uint32(0)}

func (k slotKey) word() uint64 { return uint64(k.slot)<<32 | uint64(k.gen) }

func (s *selector) open() error {
	var e sys.Errno
	if s.s, e = sim.OpenSelector(); e != 0 {
		return os.NewSyscallError("selector", e)
	}
	return nil
}

func (s *selector) close() { s.s.Close() }

func (s *selector) add(fd sys.FD, key slotKey) error {
	if e := s.s.Add(int(fd), key.word()); e != 0 {
		return os.NewSyscallError("watch", e)
	}
	return nil
}

func (s *selector) remove(_ sys.FD, key slotKey) { s.s.Remove(key.word()) }

func (s *selector) rearm(key slotKey, ev events) { s.s.Rearm(key.word(), uint8(ev)) }

func (s *selector) poll() int {
	var woken bool
	s.found, woken = s.s.Poll(s.found[:0])
	if woken {
		s.found = append(s.found, sim.Event{Key: wakeKey.word()})
	}
	if len(s.found) == 0 {
		sched.Sleep(lookTime)
	}
	return len(s.found)
}

func (s *selector) wait() int {
	s.s.Wait()
	return s.poll()
}

func (s *selector) event(i int) (slotKey, events) {
	e := s.found[i]
	return slotKey{uint32(e.Key >> 32), uint32(e.Key)}, events(e.Bits)
}

func (s *selector) wake() { s.s.Wake() }

func (s *selector) wakeMonitor() {}

// A run that has failed leaves the state of the process behind.
func init() {
	sched.OnStart(func() {
		sharedPoller = Poller{}
		livingMu = sched.Mutex{}
		alive, serving = 0, 0
		nobodyLeft = sched.NewCond(&livingMu)
		lingering = make(chan struct{}, maxLingering)
	})
}

// poison is what a chunk that was freed is filled with, as far as poisoned.
const (
	poison   = 0xDB
	poisoned = 4 << 10
)

// Freed and Reused make the use of a chunk after it was freed visible.
func (c *chunk) Freed() {
	for i := range c.data[:min(len(c.data), poisoned)] {
		c.data[i] = poison
	}
}

// Reused fails if somebody has written to the chunk since.
func (c *chunk) Reused() {
	for i, b := range c.data[:min(len(c.data), poisoned)] {
		if b != poison {
			sched.Fail("%s", fmt.Sprintf("byte %d of a chunk of %d was written after it was freed", i, len(c.data)))
		}
	}
}

// Leftovers describes what is left in the process when everything has ended, or returns "".
func Leftovers() string {
	switch {
	case sharedPoller.users.Load() != 0 || sharedPoller.loops != nil:
		return "the shared poller has users"
	case alive != 0 || serving != 0:
		return fmt.Sprintf("%d servers are counted as alive, %d as serving", alive, serving)
	case len(lingering) > 0:
		return "a descriptor lingers"
	}
	return ""
}

// An Insight is what a simulation looks at when nothing moves, without a call that would change it.
type Insight struct {
	State       SocketState
	Buffered    int  // unread bytes in the socket's buffer
	Limit       int  // of the buffer
	Queued      int  // bytes to send, with those of a Write that waits
	Pending     int  // without those
	Unreported  int  // bytes that BytesWritten has not reported
	InputOpen   bool // nothing has ended the input
	Paused      bool
	HalfOpen    bool
	HasHandlers bool
	Running     bool // handlers run, or were asked to
	Err         error
}

// Inspect returns the Insight of a socket. Other tasks run only before the fields without a lock of their own are read:
// what these say is true when Inspect returns.
func Inspect(s *TcpSocket) Insight {
	i := Insight{
		Limit: s.readLimit(), HalfOpen: s.ready.has(halfOpen), HasHandlers: s.handlers.Load() != nil,
		Running: s.ready.has(strandRunning),
	}
	x := s.coldState.Load()
	i.State, i.Buffered, i.InputOpen, i.Paused = s.state, s.in.len(), s.input == inputOpen, s.rflags&rPaused != 0
	i.Pending, i.Unreported = int(s.queued), int(s.written)
	if x != nil {
		i.Err = x.err
	}
	if !s.out.empty() {
		for c := s.out.first(); ; c = c.next {
			i.Queued += c.len()
			if c == s.out.last {
				break
			}
		}
	}
	return i
}

// A Descriptor is a descriptor of the simulated system. It stands for the os.File of a listener.
type Descriptor int

// SyscallConn returns the descriptor as a [syscall.RawConn].
func (d Descriptor) SyscallConn() (syscall.RawConn, error) { return d, nil }

// Control calls f with the descriptor.
func (d Descriptor) Control(f func(fd uintptr)) error { f(uintptr(d)); return nil }

// Read is not used.
func (Descriptor) Read(func(fd uintptr) bool) error { return ErrUnsupported }

// Write is not used.
func (Descriptor) Write(func(fd uintptr) bool) error { return ErrUnsupported }

// Duplicate is File for the simulated system, and Adopt is ListenFile.
func Duplicate(s *TcpServer) (Descriptor, error) {
	ln, fd, err := s.duplicate()
	if ln == nil {
		err = ErrNotListening
	}
	return Descriptor(fd), err
}

// Adopt is ListenFile for the simulated system.
func Adopt(s *TcpServer, d Descriptor) error { return s.adopt(d, false) }
