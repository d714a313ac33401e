package tcpserver

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ioctlUnread = unix.TIOCINQ

	// optionsInherited: accepted connections have the listener's TCP_NODELAY and keep-alive.
	optionsInherited = true
	// abstractNames: unix sockets may have names that are no files.
	abstractNames = true
	// modeBeforeBind: the file of a unix socket gets the permissions that its descriptor had.
	modeBeforeBind = true
)

// isPassing reports whether an accept failed because of the one connection that it would have returned. Linux
// passes on errors of the network of that connection (accept(2), Error handling).
func isPassing(e errno) bool {
	switch e {
	case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET,
		unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ETIMEDOUT, unix.ECONNRESET, unix.EPERM:
		return true
	}
	return false
}

func openSocket(family, protocol int) (handle, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	return handle(fd), os.NewSyscallError("socket", err)
}

// sysAccept does not block.
func sysAccept(fd handle) (handle, sockAddr, errno) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return 0, sockAddr{}, e
	}
	return handle(n), sockAddrOf(&rsa), 0
}

// acceptTold is sysAccept with the scheduler told: it may block.
func acceptTold(fd handle) (handle, sockAddr, errno) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, e := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return 0, sockAddr{}, e
	}
	return handle(n), sockAddrOf(&rsa), 0
}

func sysLocalAddr(fd handle) (sockAddr, error) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return sockAddr{}, os.NewSyscallError("getsockname", e)
	}
	return sockAddrOf(&rsa), nil
}

func sockAddrOf(rsa *unix.RawSockaddrAny) sockAddr {
	switch rsa.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(rsa))
		return ip4Addr(sa.Addr, networkOrder(&sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(rsa))
		return ip6Addr(sa.Addr, networkOrder(&sa.Port), sa.Scope_id)
	case unix.AF_UNIX:
		return sockAddr{family: addrUnix}
	}
	return sockAddr{}
}

func networkOrder(port *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// sysClose is for descriptors whose closing cannot block. As a raw system call it does not set off the scheduler's
// monitor, which looks every 20 µs while there are others: 9 % of the processor's time at a connection a message.
func sysClose(fd handle) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func sysCloseWrite(fd handle) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); e != 0 {
		return os.NewSyscallError("shutdown", e)
	}
	return nil
}
