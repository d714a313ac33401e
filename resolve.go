package tcpserver

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// A listenAddr is an address as the program passed it.
type listenAddr struct{ network, address string }

func (a listenAddr) Network() string { return a.network }
func (a listenAddr) String() string  { return a.address }

// A target is an address to bind to.
type target struct {
	addr      sys.Addr
	dualStack bool
	path      string // path or abstract name of a unix socket
}

// isAbstract reports whether path is the name of a unix socket that has no file.
func isAbstract(path string) bool { return sys.HasAbstractNames && strings.HasPrefix(path, "@") }

// resolve returns the target for an address. It looks up names.
func resolve(ctx context.Context, network, address string) (target, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		return resolveTCP(ctx, network, address)
	case "unix":
		return resolveUnix(address)
	}
	return target{}, net.UnknownNetworkError(network)
}

func resolveUnix(path string) (target, error) {
	switch {
	case path == "":
		return target{}, fmt.Errorf("%w: empty path", ErrInvalidAddress)
	case len(path) > sys.MaxUnixPath:
		return target{}, fmt.Errorf("%w: path has %d bytes, maximum %d", ErrInvalidAddress, len(path), sys.MaxUnixPath)
	case path[0] == 0 && sys.HasAbstractNames:
		path = "@" + path[1:]
	}
	if strings.IndexByte(path, 0) >= 0 {
		return target{}, fmt.Errorf("%w: path contains a zero byte", ErrInvalidAddress)
	}
	return target{addr: sys.Addr{Family: sys.FamilyUnix}, path: path}, nil
}

// resolveTCP returns the target for "host:port". Without a host, or with an unspecified address, "tcp" means a
// dual-stack socket.
func resolveTCP(ctx context.Context, network, address string) (to target, err error) {
	var host, service string
	if address != "" {
		if host, service, err = net.SplitHostPort(address); err != nil {
			return to, fmt.Errorf("%w: %w", ErrInvalidAddress, err)
		}
	}
	port, err := lookupPort(ctx, network, service)
	if err != nil {
		return to, err
	}
	ip, zone, err := lookupHost(ctx, network, host)
	if err != nil {
		return to, err
	}
	if network == "tcp" && (len(ip) == 0 || ip.IsUnspecified()) {
		return target{addr: sys.Wildcard(port), dualStack: true}, nil
	}
	if len(ip) == 0 && network == "tcp4" {
		ip = net.IPv4zero
	}
	return target{addr: sys.AddrFromIP(ip, port, zone)}, nil
}

func lookupPort(ctx context.Context, network, service string) (uint16, error) {
	if n, err := strconv.Atoi(service); err == nil && (n < 0 || n > 65535) {
		return 0, fmt.Errorf("%w: %d", ErrInvalidPort, n)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalidPort, err)
	}
	return uint16(port), nil
}

// lookupHost returns the first address of host that fits the network, IPv4 before IPv6 as in package net. If host is
// empty, it returns no address.
func lookupHost(ctx context.Context, network, host string) (net.IP, string, error) {
	if host == "" {
		return nil, "", nil
	}
	found, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrInvalidAddress, err)
	}
	var first *net.IPAddr
	for i := range found {
		is4 := found[i].IP.To4() != nil
		switch {
		case is4 && network != "tcp6":
			return found[i].IP, "", nil
		case !is4 && network != "tcp4" && first == nil:
			first = &found[i]
		}
	}
	if network == "tcp4" && len(found) == 1 && found[0].IP.Equal(net.IPv6unspecified) {
		return net.IPv4zero, "", nil // "::" means any address, as in package net
	}
	if first == nil {
		return nil, "", fmt.Errorf("%w: %s has no address for %s", ErrInvalidAddress, host, network)
	}
	return first.IP, first.Zone, nil
}
