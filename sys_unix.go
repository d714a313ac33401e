//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// handle is a descriptor of the system.
type handle int32

type errno = syscall.Errno

const (
	errAgain = unix.EAGAIN
	errIntr  = unix.EINTR
)

// resetErrnos are what ErrReset stands for.
var resetErrnos = []error{syscall.ECONNRESET, syscall.EPIPE}

func isReset(e errno) bool { return e == unix.ECONNRESET || e == unix.EPIPE }

// isReturning reports whether an address is taken that may have been given up a moment ago.
func isReturning(error) bool { return false }

// isShortage reports whether an accept failed for want of descriptors or memory: it will go again later.
func isShortage(e errno) bool {
	return e == unix.EMFILE || e == unix.ENFILE || e == unix.ENOBUFS || e == unix.ENOMEM
}

// sysCloseBlocking is for sockets that linger.
func sysCloseBlocking(fd handle) { unix.Close(int(fd)) }

// sysUnread returns how many bytes the system holds for reading.
func sysUnread(fd handle) int {
	n, err := unix.IoctlGetInt(int(fd), ioctlUnread)
	if err != nil {
		return 0
	}
	return n
}

func sysCloseRead(fd handle) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(fd), unix.SHUT_RD))
}

// sysSetLinger: seconds < 0 is the system's default, 0 makes closing a reset.
func sysSetLinger(fd handle, seconds int) error {
	l := unix.Linger{Onoff: int32(boolInt(seconds >= 0)), Linger: int32(max(seconds, 0))}
	return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &l))
}

func setInt(fd handle, level, option, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, value))
}
