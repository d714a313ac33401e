package sys

import (
	"net"
	"net/netip"
	"strconv"
)

// An Addr is the address of one end of a connection: 24 bytes and no pointer, so that a connection can keep it. The
// [net.Addr] is made when somebody asks for it.
type Addr struct {
	ip     [16]byte
	zone   uint32 // the interface index of a link-local IPv6 address, otherwise 0
	Port   uint16
	Family Family
}

// A Family is the address family of an [Addr].
type Family uint8

const (
	FamilyNone Family = iota
	FamilyIPv4
	FamilyIPv6
	FamilyUnix // the path is not part of the Addr: the listener knows it, or LocalPath or PeerPath returns it
)

// Wildcard returns the IPv6 address that stands for all addresses of the host. A dual-stack socket that is bound to it
// accepts IPv4 too.
func Wildcard(port uint16) Addr { return Addr{Port: port, Family: FamilyIPv6} }

// AddrFromIP returns the Addr of a resolved address. If ip is nil, it is the IPv6 wildcard.
func AddrFromIP(ip net.IP, port uint16, zone string) Addr {
	if ip4 := ip.To4(); ip4 != nil {
		return ipv4Addr([4]byte(ip4), port)
	}
	a := Addr{Port: port, Family: FamilyIPv6, zone: zoneIndex(zone)}
	copy(a.ip[:], ip)
	return a
}

func ipv4Addr(ip [4]byte, port uint16) Addr {
	return Addr{ip: netip.AddrFrom4(ip).As16(), Port: port, Family: FamilyIPv4}
}

// ipv6Addr returns the IPv4 address of an IPv4 peer that is connected to a dual-stack socket.
func ipv6Addr(ip [16]byte, port uint16, zone uint32) Addr {
	a := Addr{ip: ip, zone: zone, Port: port, Family: FamilyIPv6}
	if netip.AddrFrom16(ip).Is4In6() {
		a.Family = FamilyIPv4
	}
	return a
}

// IsWildcard reports whether the address stands for all addresses of the host.
func (a Addr) IsWildcard() bool { return a.Family != FamilyUnix && a.addr().IsUnspecified() }

// AddrPort returns the address as a [netip.AddrPort]. It returns the zero AddrPort for a unix socket.
func (a Addr) AddrPort() netip.AddrPort {
	if a.Family == FamilyUnix {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.addr(), a.Port)
}

// NetAddr returns the address as a *[net.TCPAddr], or as a *[net.UnixAddr] with the given path. It returns nil for the
// zero Addr.
func (a Addr) NetAddr(path string) net.Addr {
	switch a.Family {
	case FamilyNone:
		return nil
	case FamilyUnix:
		return &net.UnixAddr{Name: path, Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(a.AddrPort())
}

func (a Addr) addr() netip.Addr {
	ip := netip.AddrFrom16(a.ip)
	if a.Family == FamilyIPv4 {
		return ip.Unmap()
	}
	if a.zone != 0 {
		ip = ip.WithZone(zoneName(a.zone))
	}
	return ip
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
