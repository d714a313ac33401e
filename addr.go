package tcpserver

import (
	"net"
	"net/netip"
	"strconv"
)

// A sockAddr is an address as a connection keeps it: 24 bytes and no pointer. The net.Addr is made when somebody
// asks for it.
type sockAddr struct {
	ip     [16]byte
	zone   uint32 // interface of a link-local IPv6 address, otherwise 0
	port   uint16
	family addrFamily
}

type addrFamily uint8

const (
	addrNone addrFamily = iota
	addrIP4
	addrIP6
	addrUnix // the name is not here: it is the listener's, or asked of the system
)

func ip4Addr(ip [4]byte, port uint16) sockAddr {
	return sockAddr{ip: netip.AddrFrom4(ip).As16(), port: port, family: addrIP4}
}

// ip6Addr shows an IPv4 peer of a dual-stack socket as the IPv4 address that it is.
func ip6Addr(ip [16]byte, port uint16, zone uint32) sockAddr {
	a := sockAddr{ip: ip, zone: zone, port: port, family: addrIP6}
	if netip.AddrFrom16(ip).Is4In6() {
		a.family = addrIP4
	}
	return a
}

// addrOf is the sockAddr of a resolved address; a nil IP is the wildcard of the family.
func addrOf(ip net.IP, port int, zone string) sockAddr {
	if ip4 := ip.To4(); ip4 != nil {
		return ip4Addr([4]byte(ip4), uint16(port))
	}
	a := sockAddr{port: uint16(port), family: addrIP6, zone: zoneIndex(zone)}
	copy(a.ip[:], ip)
	return a
}

func (a sockAddr) addr() netip.Addr {
	ip := netip.AddrFrom16(a.ip)
	if a.family == addrIP4 {
		return ip.Unmap()
	}
	if a.zone != 0 {
		ip = ip.WithZone(zoneName(a.zone))
	}
	return ip
}

func (a sockAddr) isWildcard() bool { return a.family != addrUnix && a.addr().IsUnspecified() }

// addrPort returns the zero AddrPort for a unix socket.
func (a sockAddr) addrPort() netip.AddrPort {
	if a.family == addrUnix {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.addr(), a.port)
}

// netAddr returns nil for the zero sockAddr. path is the name of a unix socket.
func (a sockAddr) netAddr(path string) net.Addr {
	switch a.family {
	case addrNone:
		return nil
	case addrUnix:
		return &net.UnixAddr{Name: path, Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(a.addrPort())
}

func zoneName(index uint32) string {
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}

func zoneIndex(name string) uint32 {
	if name == "" {
		return 0
	}
	if i, err := net.InterfaceByName(name); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(name, 10, 32)
	return uint32(n)
}
