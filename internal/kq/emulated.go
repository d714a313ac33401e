//go:build linux && kqemu

package kq

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// Event is a kevent with the field widths of FreeBSD on amd64.
type Event struct {
	Ident  uint64
	Filter int16
	Flags  uint16
	Fflags uint32
	Data   int64
	Udata  *byte
}

// Timespec is the timeout of Call.
type Timespec = unix.Timespec

// The filters, flags and notes that the poller uses, with the values of FreeBSD.
const (
	Read  = -1
	Write = -2
	User  = -11

	Add    = 0x1
	Delete = 0x2
	Clear  = 0x20
	EOF    = 0x8000

	Trigger = 0x1000000
)

// A queue is an epoll instance that behaves like a kqueue as far as the poller uses one: it has filters with EV_CLEAR
// for reading and writing, and one user event. Unlike a real kqueue, it may report one filter again when the other is
// changed, which the poller must tolerate.
type queue struct {
	ep   int
	user int // the eventfd of the user event

	mu      sync.Mutex
	filters map[int]uint32 // by descriptor: EPOLLIN, EPOLLOUT
	rest    []Event        // found and not yet returned
}

var (
	queuesMu sync.Mutex
	queues   = map[int]*queue{}
)

// Open returns a new queue, which is closed on exec.
func Open() (int, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, err
	}
	user, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, user, &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(user)})
	}
	if err != nil {
		unix.Close(ep)
		return 0, err
	}
	queuesMu.Lock()
	defer queuesMu.Unlock()
	queues[ep] = &queue{ep: ep, user: user, filters: map[int]uint32{}}
	return ep, nil
}

// Close closes a queue.
func Close(kq int) {
	queuesMu.Lock()
	q := queues[kq]
	delete(queues, kq)
	queuesMu.Unlock()
	unix.Close(q.user)
	unix.Close(q.ep)
}

// Pipe opens a pipe. Its ends do not block and are closed on exec.
func Pipe(p *[2]int) error { return unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) }

// Set fills in e for a descriptor.
func Set(e *Event, ident, filter, flags int) {
	e.Ident, e.Filter, e.Flags = uint64(ident), int16(filter), uint16(flags)
}

// Call is kevent(2): it applies changes and then, if there is room for events, waits for them. It returns how many it
// has stored. If timeout is nil, it waits until there is one; if timeout is zero, it does not wait.
func Call(kq int, changes, events []Event, timeout *Timespec) (int, error) {
	queuesMu.Lock()
	q := queues[kq]
	queuesMu.Unlock()
	if q == nil {
		return 0, unix.EBADF
	}
	for i := range changes {
		if err := q.change(&changes[i]); err != nil {
			return 0, err
		}
	}
	if len(events) == 0 {
		return 0, nil
	}
	if n := q.take(events); n > 0 {
		return n, nil
	}
	wait := -1
	if timeout != nil {
		wait = int(timeout.Nano() / 1e6)
	}
	found := make([]unix.EpollEvent, len(events))
	n, err := unix.EpollWait(q.ep, found, wait)
	if err != nil {
		return 0, err
	}
	q.mu.Lock()
	for _, f := range found[:n] {
		q.translate(f)
	}
	q.mu.Unlock()
	return q.take(events), nil
}

// take moves events that were found to the slice of the caller, and returns how many.
func (q *queue) take(events []Event) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := copy(events, q.rest)
	q.rest = q.rest[n:]
	return n
}

// change applies one change.
func (q *queue) change(e *Event) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Filter == User {
		if e.Fflags&Trigger != 0 {
			var one [8]byte
			binary.NativeEndian.PutUint64(one[:], 1)
			unix.Write(q.user, one[:])
		}
		return nil
	}
	fd, bit := int(e.Ident), uint32(unix.EPOLLIN)
	if e.Filter == Write {
		bit = unix.EPOLLOUT
	}
	if e.Flags&Delete != 0 {
		q.filters[fd] &^= bit
	} else {
		q.filters[fd] |= bit
	}
	ev := unix.EpollEvent{Events: q.filters[fd] | unix.EPOLLET | unix.EPOLLRDHUP, Fd: int32(fd)}
	if q.filters[fd] == 0 {
		delete(q.filters, fd)
		return unix.EpollCtl(q.ep, unix.EPOLL_CTL_DEL, fd, &ev)
	}
	err := unix.EpollCtl(q.ep, unix.EPOLL_CTL_MOD, fd, &ev)
	if err == unix.ENOENT { // a new descriptor: drop the filters of an earlier one with its number
		q.filters[fd] = bit
		ev.Events = bit | unix.EPOLLET | unix.EPOLLRDHUP
		err = unix.EpollCtl(q.ep, unix.EPOLL_CTL_ADD, fd, &ev)
	}
	return err
}

// translate appends to rest the events of the two filters for one event of epoll. The caller holds mu.
func (q *queue) translate(f unix.EpollEvent) {
	if int(f.Fd) == q.user {
		q.rest = append(q.rest, Event{Filter: User})
		return
	}
	const ended = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	e := Event{Ident: uint64(f.Fd), Flags: Clear}
	if f.Events&unix.EPOLLERR != 0 {
		e.Fflags = uint32(unix.ECONNRESET)
	}
	filters := q.filters[int(f.Fd)]
	if filters&unix.EPOLLIN != 0 && f.Events&(unix.EPOLLIN|ended) != 0 {
		r := e
		r.Filter = Read
		if f.Events&ended != 0 {
			r.Flags |= EOF
		}
		q.rest = append(q.rest, r)
	}
	if filters&unix.EPOLLOUT != 0 && f.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		w := e
		w.Filter = Write
		if f.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			w.Flags |= EOF
		}
		q.rest = append(q.rest, w)
	}
}
