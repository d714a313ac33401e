//go:build (darwin || dragonfly || freebsd || netbsd || openbsd || (linux && kqemu)) && !sim

package tcpserver

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver/internal/kq"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// Supported reports whether this platform has a poller. If not, [TcpServer.Listen] returns [ErrUnsupported].
func Supported() bool { return true }

// isEOFConfirmed reports whether an end of stream that recv returned is one. Here it always is.
func (*atomicReadiness) isEOFConfirmed() bool { return true }

// A selector is a kqueue. Every descriptor has both filters with EV_CLEAR, which makes them edge-triggered; closing the
// descriptor removes them. Events carry the descriptor; a table maps it to its slot.
type selector struct {
	kq    int
	pipe  [2]int // to wake with, where the system has no user events
	found int
	buf   [256]kq.Event

	mu    sync.Mutex // guards the block below
	keys  []tableKey // by descriptor
	round uint32     // counts calls of poll and wait
}

// A tableKey is the slot of a descriptor, and the round in which it was registered.
type tableKey struct {
	key   slotKey
	round uint32
}

// wakeKey is the key of what wakes the loop. It is no slot's.
var wakeKey = slotKey{slot: ^uint32(0)}

func (s *selector) open() (err error) {
	if s.kq, err = kq.Open(); err != nil {
		return os.NewSyscallError("kqueue", err)
	}
	if err = s.openWake(); err != nil {
		kq.Close(s.kq)
	}
	return err
}

func (s *selector) openWake() error {
	if kq.HasUser {
		var e kq.Event
		kq.Set(&e, 0, kq.User, kq.Add|kq.Clear)
		return s.change(e)
	}
	if err := kq.Pipe(&s.pipe); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	var e kq.Event
	kq.Set(&e, s.pipe[0], kq.Read, kq.Add|kq.Clear)
	err := s.change(e)
	if err != nil {
		s.closePipe()
	}
	return err
}

func (s *selector) closePipe() {
	unix.Close(s.pipe[0])
	unix.Close(s.pipe[1])
}

func (s *selector) close() {
	kq.Close(s.kq)
	if !kq.HasUser {
		s.closePipe()
	}
}

func (s *selector) change(events ...kq.Event) error {
	_, err := kq.Call(s.kq, events, nil, nil)
	return os.NewSyscallError("kevent", err)
}

func (s *selector) add(fd sys.FD, key slotKey) error {
	s.mu.Lock()
	for int(fd) >= len(s.keys) {
		s.keys = append(s.keys, make([]tableKey, max(64, len(s.keys)))...)
	}
	s.keys[fd] = tableKey{key, s.round}
	s.mu.Unlock()
	return s.both(fd, kq.Add|kq.Clear)
}

func (s *selector) remove(fd sys.FD, _ slotKey) { s.both(fd, kq.Delete) }

// rearm does nothing: EV_CLEAR reports edges by itself.
func (s *selector) rearm(slotKey, events) {}

// both changes both filters of a descriptor.
func (s *selector) both(fd sys.FD, flags int) error {
	var r, w kq.Event
	kq.Set(&r, int(fd), kq.Read, flags)
	kq.Set(&w, int(fd), kq.Write, flags)
	return s.change(r, w)
}

func (s *selector) poll() int { return s.ask(&kq.Timespec{}) }
func (s *selector) wait() int { return s.ask(nil) }

func (s *selector) ask(timeout *kq.Timespec) int {
	s.mu.Lock()
	s.round++
	s.mu.Unlock()
	n, err := kq.Call(s.kq, nil, s.buf[:], timeout)
	if err != nil {
		n = 0
	}
	s.found = n
	return n
}

func (s *selector) event(i int) (slotKey, events) {
	e := &s.buf[i]
	if kq.HasUser && e.Filter == kq.User {
		return wakeKey, 0
	}
	if !kq.HasUser && int(e.Ident) == s.pipe[0] {
		var trash [64]byte
		unix.Read(s.pipe[0], trash[:])
		return wakeKey, 0
	}
	s.mu.Lock()
	t, round := s.keys[e.Ident], s.round
	s.mu.Unlock()
	ended := e.Flags&kq.EOF != 0
	// A descriptor that was registered after the call that returned the event may be a new one with the same number.
	// The error is not its own then.
	if ended && e.Fflags != 0 && (t.round != round || isBroken(int(e.Ident))) {
		return t.key, evRead | evWrite | evHangup | evError
	}
	switch {
	case e.Filter == kq.Write: // its end is that of our own sending side
		return t.key, evWrite
	case ended:
		return t.key, evRead | evHangup
	}
	return t.key, evRead
}

// isBroken asks the system whether the connection is broken, without clearing the error.
func isBroken(fd int) bool {
	state := []unix.PollFd{{Fd: int32(fd)}}
	n, _ := unix.Poll(state, 0)
	return n > 0 && state[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

func (s *selector) wake() {
	if kq.HasUser {
		var e kq.Event
		kq.Set(&e, 0, kq.User, 0)
		e.Fflags = kq.Trigger
		s.change(e)
		return
	}
	unix.Write(s.pipe[1], []byte{0})
}

// wakeMonitor does nothing: poll is an ordinary system call.
func (s *selector) wakeMonitor() {}
