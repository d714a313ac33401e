//go:build darwin || dragonfly || freebsd || netbsd || openbsd

// Package kq is what of kqueue the poller uses. On the systems that have it these are aliases; on Linux, behind the
// build tag kqemu, they stand over epoll, so that the poller's logic can be run there.
package kq

import (
	"syscall"

	"golang.org/x/sys/unix"
)

type (
	Event    = unix.Kevent_t
	Timespec = unix.Timespec
)

const (
	Read  = unix.EVFILT_READ
	Write = unix.EVFILT_WRITE

	Add    = unix.EV_ADD
	Delete = unix.EV_DELETE
	Clear  = unix.EV_CLEAR
	EOF    = unix.EV_EOF
)

// Open returns a new queue, closed on exec.
func Open() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Kqueue()
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

func Close(kq int) { unix.Close(kq) }

// Pipe opens one whose ends do not block and are closed on exec.
func Pipe(p *[2]int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	for _, fd := range p {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	return nil
}

// Set fills in an event for a descriptor; the widths of the fields differ among the systems.
func Set(e *Event, ident, filter, flags int) { unix.SetKevent(e, ident, filter, flags) }

// Call is kevent(2).
func Call(kq int, changes, events []Event, timeout *Timespec) (int, error) {
	return unix.Kevent(kq, changes, events, timeout)
}
