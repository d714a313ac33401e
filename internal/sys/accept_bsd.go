//go:build (darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import "golang.org/x/sys/unix"

// IsTransient reports whether Accept failed because of the one connection that it would have returned.
func IsTransient(e Errno) bool {
	switch e {
	case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.EHOSTDOWN, unix.EHOSTUNREACH,
		unix.ENETUNREACH, unix.ETIMEDOUT, unix.ECONNRESET:
		return true
	}
	return false
}

// Accept returns the next connection and the address of its peer. It does not block.
func Accept(fd FD) (FD, Addr, Errno) {
	return accepted(acceptSocket(int(fd)))
}

// acceptBlocking is Accept for a descriptor that may be in blocking mode.
func acceptBlocking(fd FD) (FD, Addr, Errno) {
	return accepted(acceptUnlocked(int(fd)))
}

func accepted(fd int, sa unix.Sockaddr, err error) (FD, Addr, Errno) {
	if err != nil {
		return 0, Addr{}, errnoOf(err)
	}
	return FD(fd), addrOf(sa), 0
}
