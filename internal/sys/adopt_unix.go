//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dup returns a duplicate of fd that is closed on exec.
func Dup(fd FD) (FD, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return FD(n), os.NewSyscallError("fcntl", err)
}

// IsListening reports whether a socket that somebody else has bound already listens. The error wraps EPROTOTYPE if fd
// is not a stream socket, and EISCONN if it is a connection.
func IsListening(fd FD) (bool, error) {
	kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	if kind != unix.SOCK_STREAM {
		return false, fmt.Errorf("%w: not a stream socket", syscall.EPROTOTYPE)
	}
	if _, err := unix.Getpeername(int(fd)); err == nil {
		return false, fmt.Errorf("%w: a connection cannot listen", syscall.EISCONN)
	}
	accepts, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	return accepts != 0, nil
}

// SetNonblock puts the open file description of fd into non-blocking mode, for everybody who shares it.
func SetNonblock(fd FD) error { return os.NewSyscallError("fcntl", unix.SetNonblock(int(fd), true)) }

// HasConnection reports whether a connection waits for AcceptShared. It does not block.
func HasConnection(fd FD) (bool, Errno) {
	state := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(state, 0)
	for err == unix.EINTR {
		n, err = unix.Poll(state, 0)
	}
	return n > 0, errnoOf(err)
}

// AcceptShared is Accept for an open file description that others share, after HasConnection. O_NONBLOCK belongs to the
// description, so AcceptShared sets it again if somebody has cleared it. If somebody clears it and takes the connection
// between the calls, AcceptShared blocks until the next connection.
func AcceptShared(fd FD) (FD, Addr, Errno) {
	if err := restoreNonblock(int(fd)); err != nil {
		return 0, Addr{}, errnoOf(err)
	}
	return acceptBlocking(fd)
}

func restoreNonblock(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_NONBLOCK == 0 {
		err = unix.SetNonblock(fd, true)
	}
	return err
}

// LocalPath returns the path of a unix socket, or "" if it has none. An abstract name begins with '@'.
func LocalPath(fd FD) string { return unixPath(unix.Getsockname(int(fd))) }

// PeerPath is LocalPath for the other end of a connection.
func PeerPath(fd FD) string { return unixPath(unix.Getpeername(int(fd))) }

func unixPath(sa unix.Sockaddr, err error) string {
	if sa, ok := sa.(*unix.SockaddrUnix); ok && err == nil && !(HasAbstractNames && sa.Name == "@") {
		return sa.Name
	}
	return ""
}
