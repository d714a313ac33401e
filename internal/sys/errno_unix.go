//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// An FD is a file descriptor.
type FD int32

// An Errno is an error of the system.
type Errno = syscall.Errno

const (
	EAGAIN = unix.EAGAIN
	EINTR  = unix.EINTR
)

// ResetErrnos are the errors that stand for a reset by the peer.
var ResetErrnos = []error{syscall.ECONNRESET, syscall.EPIPE}

// IsReset reports whether the peer has reset the connection.
func IsReset(e Errno) bool { return e == unix.ECONNRESET || e == unix.EPIPE }

// IsReleasing reports whether an address is in use that may be released in a moment.
func IsReleasing(error) bool { return false }

// IsExhausted reports whether Accept failed because descriptors or memory have run out. It will work again later.
func IsExhausted(e Errno) bool {
	return e == unix.EMFILE || e == unix.ENFILE || e == unix.ENOBUFS || e == unix.ENOMEM
}

func errnoOf(err error) Errno {
	e, _ := err.(Errno)
	return e
}
