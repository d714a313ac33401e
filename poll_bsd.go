//go:build darwin || dragonfly || freebsd || netbsd || openbsd || (linux && kqemu)

package tcpserver

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver/internal/kq"
	"github.com/pullaccept/tcpserver/internal/sys"
)

// Supported reports whether this platform has a poller; where it has none, Listen returns ErrUnsupported.
func Supported() bool { return true }

// endsAreEvents: whether the end of a stream is one is told by the event alone.
const endsAreEvents = false

// The kernel's queue is a kqueue. Every descriptor has both filters with EV_CLEAR, which makes them edge-triggered, and
// closing it removes them. Events name descriptors, which a table leads to slots.
type kernel struct {
	kq    int
	pipe  [2]int // to wake with, where the system has no events of the program's own
	found int
	buf   [256]kq.Event

	mu    sync.Mutex // guards the block below
	keys  []tableKey // by descriptor
	round uint32     // of asking for events
}

// A tableKey is the tenancy of a descriptor, and when it began.
type tableKey struct {
	key   slotKey
	round uint32
}

// wakeKey is the key of what wakes the loop. No slot has it.
var wakeKey = slotKey{slot: ^uint32(0)}

func (k *kernel) open() (err error) {
	if k.kq, err = kq.Open(); err != nil {
		return os.NewSyscallError("kqueue", err)
	}
	if err = k.openWake(); err != nil {
		kq.Close(k.kq)
	}
	return err
}

func (k *kernel) openWake() error {
	if kq.HasUser {
		var e kq.Event
		kq.Set(&e, 0, kq.User, kq.Add|kq.Clear)
		return k.change(e)
	}
	if err := kq.Pipe(&k.pipe); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	var e kq.Event
	kq.Set(&e, k.pipe[0], kq.Read, kq.Add|kq.Clear)
	err := k.change(e)
	if err != nil {
		k.closePipe()
	}
	return err
}

func (k *kernel) closePipe() {
	unix.Close(k.pipe[0])
	unix.Close(k.pipe[1])
}

func (k *kernel) close() {
	kq.Close(k.kq)
	if !kq.HasUser {
		k.closePipe()
	}
}

func (k *kernel) change(events ...kq.Event) error {
	_, err := kq.Call(k.kq, events, nil, nil)
	return os.NewSyscallError("kevent", err)
}

func (k *kernel) add(fd sys.FD, key slotKey) error {
	k.mu.Lock()
	for int(fd) >= len(k.keys) {
		k.keys = append(k.keys, make([]tableKey, max(64, len(k.keys)))...)
	}
	k.keys[fd] = tableKey{key, k.round}
	k.mu.Unlock()
	return k.both(fd, kq.Add|kq.Clear)
}

func (k *kernel) remove(fd sys.FD, _ slotKey) { k.both(fd, kq.Delete) }

// expect: edges come unasked.
func (k *kernel) expect(slotKey, events) {}

// both changes the two filters of a descriptor.
func (k *kernel) both(fd sys.FD, flags int) error {
	var r, w kq.Event
	kq.Set(&r, int(fd), kq.Read, flags)
	kq.Set(&w, int(fd), kq.Write, flags)
	return k.change(r, w)
}

func (k *kernel) poll() int { return k.ask(&kq.Timespec{}) }
func (k *kernel) wait() int { return k.ask(nil) }

func (k *kernel) ask(timeout *kq.Timespec) int {
	k.mu.Lock()
	k.round++
	k.mu.Unlock()
	n, err := kq.Call(k.kq, nil, k.buf[:], timeout)
	if err != nil {
		n = 0
	}
	k.found = n
	return n
}

func (k *kernel) event(i int) (slotKey, events) {
	e := &k.buf[i]
	if kq.HasUser && e.Filter == kq.User {
		return wakeKey, 0
	}
	if !kq.HasUser && int(e.Ident) == k.pipe[0] {
		var trash [64]byte
		unix.Read(k.pipe[0], trash[:])
		return wakeKey, 0
	}
	k.mu.Lock()
	t, round := k.keys[e.Ident], k.round
	k.mu.Unlock()
	ended := e.Flags&kq.EOF != 0
	// A descriptor that was registered after the events were asked for may be another of the same number, which has
	// not met the error.
	if ended && e.Fflags != 0 && (t.round != round || isBroken(int(e.Ident))) {
		return t.key, evRead | evWrite | evHangup | evError
	}
	switch {
	case e.Filter == kq.Write: // its end is that of our own sending
		return t.key, evWrite
	case ended:
		return t.key, evRead | evHangup
	}
	return t.key, evRead
}

// isBroken asks the system, without taking the error away.
func isBroken(fd int) bool {
	state := []unix.PollFd{{Fd: int32(fd)}}
	n, _ := unix.Poll(state, 0)
	return n > 0 && state[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

func (k *kernel) wake() {
	if kq.HasUser {
		var e kq.Event
		kq.Set(&e, 0, kq.User, 0)
		e.Fflags = kq.Trigger
		k.change(e)
		return
	}
	unix.Write(k.pipe[1], []byte{0})
}

// stir: poll is an ordinary system call.
func (k *kernel) stir() {}
