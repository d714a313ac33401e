//go:build !sim

package sys

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LocalAddr returns the address of this end.
func LocalAddr(fd FD) (Addr, error) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return Addr{}, os.NewSyscallError("getsockname", e)
	}
	return addrOf(&rsa), nil
}

func addrOf(rsa *unix.RawSockaddrAny) Addr {
	switch rsa.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(rsa))
		return ipv4Addr(sa.Addr, fromNetworkOrder(&sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(rsa))
		return ipv6Addr(sa.Addr, fromNetworkOrder(&sa.Port), sa.Scope_id)
	case unix.AF_UNIX:
		return Addr{Family: FamilyUnix}
	}
	return Addr{}
}

func fromNetworkOrder(port *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(port))
	return uint16(b[0])<<8 | uint16(b[1])
}
