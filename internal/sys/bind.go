//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows) && !sim

package sys

import "syscall"

// Bind returns a TCP socket bound to addr, and the address that it got. A dual-stack socket accepts IPv4 and IPv6.
func Bind(addr Addr, dualStack, reusePort bool) (FD, Addr, error) {
	family := syscall.AF_INET6
	if addr.Family == FamilyIPv4 && !dualStack {
		family = syscall.AF_INET
	}
	fd, err := openSocket(family, syscall.IPPROTO_TCP)
	if err == nil && family == syscall.AF_INET6 {
		if err = setInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, boolInt(!dualStack)); err != nil {
			Close(fd)
		}
	}
	if err != nil && dualStack {
		// The system has no IPv6 or, like OpenBSD, no dual-stack sockets.
		return Bind(ipv4Addr([4]byte{}, addr.Port), false, reusePort)
	}
	if err != nil {
		return 0, addr, err
	}
	err = bindSocket(fd, family, addr, reusePort)
	if err == nil {
		addr, err = LocalAddr(fd)
	}
	if err != nil {
		Close(fd)
	}
	return fd, addr, err
}
