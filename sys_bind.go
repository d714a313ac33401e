//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows

package tcpserver

import "syscall"

// sysBind returns a descriptor bound to addr, and the address that it got. A dual-stack socket takes IPv4 as well as
// IPv6.
func sysBind(addr sockAddr, dualStack, reusePort bool) (handle, sockAddr, error) {
	family := syscall.AF_INET6
	if addr.family == addrIP4 && !dualStack {
		family = syscall.AF_INET
	}
	fd, err := openSocket(family, syscall.IPPROTO_TCP)
	if err == nil && family == syscall.AF_INET6 {
		if err = setInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, boolInt(!dualStack)); err != nil {
			sysClose(fd)
		}
	}
	if err != nil && dualStack {
		// A system without IPv6, or, as OpenBSD, without sockets for both.
		return sysBind(ip4Addr([4]byte{}, addr.port), false, reusePort)
	}
	if err != nil {
		return 0, addr, err
	}
	err = bindSocket(fd, family, addr, reusePort)
	if err == nil {
		addr, err = sysLocalAddr(fd)
	}
	if err != nil {
		sysClose(fd)
	}
	return fd, addr, err
}
