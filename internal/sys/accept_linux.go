//go:build !sim

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// IsTransient reports whether Accept failed because of the one connection that it would have returned. Linux reports
// network errors of that connection in this way (accept(2), Error handling).
func IsTransient(e Errno) bool {
	switch e {
	case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET,
		unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ETIMEDOUT, unix.ECONNRESET, unix.EPERM:
		return true
	}
	return false
}

// Accept returns the next connection and the address of its peer. It does not block.
func Accept(fd FD) (FD, Addr, Errno) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return 0, Addr{}, e
	}
	return FD(n), addrOf(&rsa), 0
}

// acceptBlocking is Accept for a descriptor that may be in blocking mode: the scheduler must know of the call.
func acceptBlocking(fd FD) (FD, Addr, Errno) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, e := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return 0, Addr{}, e
	}
	return FD(n), addrOf(&rsa), 0
}
