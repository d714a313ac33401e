//go:build !sim

package sys

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// An Errno is an error code of Winsock. Package syscall has different values for the names of POSIX. errors.Is finds an
// Errno under both: syscall.EADDRINUSE and windows.WSAEADDRINUSE.
type Errno syscall.Errno

func (e Errno) Error() string   { return syscall.Errno(e).Error() }
func (e Errno) Timeout() bool   { return syscall.Errno(e) == windows.WSAETIMEDOUT }
func (e Errno) Temporary() bool { return e.Timeout() || IsReset(e) || IsExhausted(e) }
func (e Errno) Unwrap() error   { return syscall.Errno(e) }

// Is also reports the matches of the POSIX error, such as fs.ErrPermission.
func (e Errno) Is(target error) bool {
	p := e.posix()
	return p != 0 && (target == p || p.Is(target))
}

func (e Errno) posix() syscall.Errno {
	switch syscall.Errno(e) {
	case windows.WSAEACCES:
		return syscall.EACCES
	case windows.WSAEADDRINUSE:
		return syscall.EADDRINUSE
	case windows.WSAEADDRNOTAVAIL:
		return syscall.EADDRNOTAVAIL
	case windows.WSAEAFNOSUPPORT:
		return syscall.EAFNOSUPPORT
	case windows.WSAECONNABORTED:
		return syscall.ECONNABORTED
	case windows.WSAECONNRESET:
		return syscall.ECONNRESET
	case windows.WSAEINVAL:
		return syscall.EINVAL
	case windows.WSAEMFILE:
		return syscall.EMFILE
	case windows.WSAENETDOWN:
		return syscall.ENETDOWN
	case windows.WSAENETUNREACH:
		return syscall.ENETUNREACH
	case windows.WSAEHOSTUNREACH:
		return syscall.EHOSTUNREACH
	case windows.WSAENOBUFS:
		return syscall.ENOBUFS
	case windows.WSAENOPROTOOPT:
		return syscall.ENOPROTOOPT
	case windows.WSAENOTCONN:
		return syscall.ENOTCONN
	case windows.WSAENOTSOCK:
		return syscall.ENOTSOCK
	case windows.WSAETIMEDOUT:
		return syscall.ETIMEDOUT
	}
	return 0
}

const (
	EAGAIN = Errno(windows.WSAEWOULDBLOCK)
	EINTR  = Errno(windows.WSAEINTR)
)

// ResetErrnos are the errors that stand for a reset by the peer.
var ResetErrnos = []error{
	syscall.ECONNRESET, syscall.EPIPE, windows.WSAECONNRESET, windows.WSAECONNABORTED,
}

// IsReset reports whether the peer has reset the connection. After a Send that reported the reset, the next ones return
// WSAECONNABORTED.
func IsReset(e Errno) bool {
	switch syscall.Errno(e) {
	case windows.WSAECONNRESET, windows.WSAECONNABORTED, windows.WSAENETRESET:
		return true
	}
	return false
}

// IsReleasing reports whether an address is in use that may be released in a moment: a closed socket keeps its address
// until the AFD polls for it have completed.
func IsReleasing(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

// IsExhausted reports whether Accept failed because descriptors or memory have run out. It will work again later.
func IsExhausted(e Errno) bool {
	switch syscall.Errno(e) {
	case windows.WSAEMFILE, windows.WSAENOBUFS, windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_NO_SYSTEM_RESOURCES,
		windows.ERROR_COMMITMENT_LIMIT:
		return true
	}
	return false
}

// SyscallError is os.NewSyscallError for errors of Winsock.
func SyscallError(call string, err error) error {
	if err == nil {
		return nil
	}
	return os.NewSyscallError(call, errnoOf(err))
}

func errnoOf(err error) Errno {
	e, _ := err.(syscall.Errno)
	return Errno(e)
}
