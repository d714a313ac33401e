//go:build darwin || dragonfly || freebsd || netbsd || openbsd

// Package kq is the part of kqueue that the poller uses. On systems that have kqueue it wraps golang.org/x/sys/unix.
// On Linux, with the build tag kqemu, it is an emulation on top of epoll, so that the poller's logic can be tested
// there.
package kq

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Event and Timespec are the structs of kevent(2).
type (
	Event    = unix.Kevent_t
	Timespec = unix.Timespec
)

// The filters of an event for a descriptor, and the flags that the poller uses.
const (
	Read  = unix.EVFILT_READ
	Write = unix.EVFILT_WRITE

	Add    = unix.EV_ADD
	Delete = unix.EV_DELETE
	Clear  = unix.EV_CLEAR
	EOF    = unix.EV_EOF
)

// Open returns a new kqueue, which is closed on exec.
func Open() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Kqueue()
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

// Close closes a kqueue.
func Close(kq int) { unix.Close(kq) }

// Pipe opens a pipe. Its ends do not block and are closed on exec.
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

// Set fills in e for a descriptor. The widths of its fields differ between systems.
func Set(e *Event, ident, filter, flags int) { unix.SetKevent(e, ident, filter, flags) }

// Call is kevent(2): it applies changes and then, if there is room for events, waits for them. It returns how many it
// has stored. If timeout is nil, it waits until there is one; if timeout is zero, it does not wait.
func Call(kq int, changes, events []Event, timeout *Timespec) (int, error) {
	return unix.Kevent(kq, changes, events, timeout)
}
