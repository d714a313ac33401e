//go:build (darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// LocalAddr returns the address of this end.
func LocalAddr(fd FD) (Addr, error) {
	sa, err := unix.Getsockname(int(fd))
	if err != nil {
		return Addr{}, os.NewSyscallError("getsockname", err)
	}
	return addrOf(sa), nil
}

func addrOf(sa unix.Sockaddr) Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return ipv4Addr(sa.Addr, uint16(sa.Port))
	case *unix.SockaddrInet6:
		return ipv6Addr(sa.Addr, uint16(sa.Port), sa.ZoneId)
	case *unix.SockaddrUnix:
		return Addr{Family: FamilyUnix}
	}
	return Addr{}
}
