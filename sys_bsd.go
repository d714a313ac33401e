//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	ioctlUnread = 0x4004667f // FIONREAD, the same on all of them

	abstractNames = false
	// modeBeforeBind: fchmod refuses sockets. Clients are refused until listen, which comes after chmod.
	modeBeforeBind = false
)

// isPassing reports whether an accept failed because of the one connection that it would have returned.
func isPassing(e errno) bool {
	switch e {
	case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.EHOSTDOWN, unix.EHOSTUNREACH,
		unix.ENETUNREACH, unix.ETIMEDOUT, unix.ECONNRESET:
		return true
	}
	return false
}

// sysAccept does not block.
func sysAccept(fd handle) (handle, sockAddr, errno) {
	return accepted(acceptSocket(int(fd)))
}

// acceptTold is sysAccept for a descriptor with which it may block.
func acceptTold(fd handle) (handle, sockAddr, errno) {
	return accepted(acceptShared(int(fd)))
}

func accepted(fd int, sa unix.Sockaddr, err error) (handle, sockAddr, errno) {
	if err != nil {
		return 0, sockAddr{}, errnoOf(err)
	}
	return handle(fd), sockAddrOf(sa), 0
}

func sysLocalAddr(fd handle) (sockAddr, error) {
	sa, err := unix.Getsockname(int(fd))
	if err != nil {
		return sockAddr{}, os.NewSyscallError("getsockname", err)
	}
	return sockAddrOf(sa), nil
}

func sockAddrOf(sa unix.Sockaddr) sockAddr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return ip4Addr(sa.Addr, uint16(sa.Port))
	case *unix.SockaddrInet6:
		return ip6Addr(sa.Addr, uint16(sa.Port), sa.ZoneId)
	case *unix.SockaddrUnix:
		return sockAddr{family: addrUnix}
	}
	return sockAddr{}
}

// sysClose is for descriptors whose closing cannot block.
func sysClose(fd handle) { unix.Close(int(fd)) }

func sysCloseWrite(fd handle) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(fd), unix.SHUT_WR))
}
