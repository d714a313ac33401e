//go:build !sim

package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

var procAccept = windows.NewLazySystemDLL("ws2_32.dll").NewProc("accept")

// Accept returns the next connection and the address of its peer. It does not block.
func Accept(fd FD) (FD, Addr, Errno) {
	var rsa windows.RawSockaddrAny
	size := int32(unsafe.Sizeof(rsa))
	r, _, e := syscall.SyscallN(procAccept.Addr(), uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)))
	s := windows.Handle(r)
	if s == windows.InvalidHandle {
		return 0, Addr{}, Errno(e)
	}
	windows.CloseOnExec(s)
	if err := setNonblock(FD(s)); err != nil {
		windows.Closesocket(s)
		return 0, Addr{}, errnoOf(err)
	}
	sa, err := rsa.Sockaddr()
	if err != nil {
		return FD(s), Addr{Family: FamilyUnix}, 0 // only the peer of a unix socket may have no address
	}
	return FD(s), addrOf(sa), 0
}

// HasConnection reports whether AcceptShared may find a connection. The system need not be asked: AcceptShared does not
// block.
func HasConnection(FD) (bool, Errno) { return true, 0 }

// AcceptShared is Accept for a socket that others share. The mode belongs to the socket and cannot be queried, so
// AcceptShared sets it each time.
func AcceptShared(fd FD) (FD, Addr, Errno) {
	if err := setNonblock(fd); err != nil {
		return 0, Addr{}, errnoOf(err)
	}
	return Accept(fd)
}

// IsTransient reports whether Accept failed because of the one connection that it would have returned. Wine returns
// WSAENOTCONN for one that was reset in the backlog.
func IsTransient(e Errno) bool {
	switch syscall.Errno(e) {
	case windows.WSAEINTR, windows.WSAECONNABORTED, windows.WSAECONNRESET, windows.WSAENOTCONN, windows.WSAENETDOWN,
		windows.WSAENETUNREACH, windows.WSAEHOSTDOWN, windows.WSAEHOSTUNREACH, windows.WSAETIMEDOUT:
		return true
	}
	return false
}

// LocalAddr returns the address of this end.
func LocalAddr(fd FD) (Addr, error) {
	sa, err := windows.Getsockname(windows.Handle(fd))
	if err != nil {
		return Addr{}, SyscallError("getsockname", err)
	}
	return addrOf(sa), nil
}

func addrOf(sa windows.Sockaddr) Addr {
	switch sa := sa.(type) {
	case *windows.SockaddrInet4:
		return ipv4Addr(sa.Addr, uint16(sa.Port))
	case *windows.SockaddrInet6:
		return ipv6Addr(sa.Addr, uint16(sa.Port), sa.ZoneId)
	case *windows.SockaddrUnix:
		return Addr{Family: FamilyUnix}
	}
	return Addr{}
}
