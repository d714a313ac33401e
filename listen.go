package tcpserver

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// Listen starts to listen. The network is "tcp", "tcp4" or "tcp6"; the address is "host:port", as for net.Listen:
// without a host, "tcp" takes IPv4 and IPv6 connections alike, with port 0 the system picks one, and of a host name
// the first address is taken. Looking a name up may take a while: ListenAsync does not keep the caller.
//
// The error is a *net.OpError with ErrAlreadyListening, which changes nothing, with ErrInvalidAddress, ErrInvalidPort
// or ErrBacklog, with ErrUnsupported where there is no poller, with net.ErrClosed if the Poller is closed, or with the
// system's: syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EACCES. After an error the server can Listen again.
func (s *TcpServer) Listen(network, address string) error {
	return s.listen(context.Background(), s.newListener(network), address)
}

// listenAddr is an address as the program gave it.
type listenAddr struct{ network, address string }

func (a listenAddr) Network() string { return a.network }
func (a listenAddr) String() string  { return a.address }

// listen makes ln the server's listener, unless ctx ends before.
func (s *TcpServer) listen(ctx context.Context, ln *listener, address string) error {
	err := s.tryListen(ctx, ln, address)
	if err == nil {
		return nil
	}
	err = opError(opListen, ln.network, nil, listenAddr{ln.network, address}, err)
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	return err
}

func (s *TcpServer) tryListen(ctx context.Context, ln *listener, address string) error {
	if ln.backlog < 0 {
		return ErrBacklog
	}
	if s.IsListening() {
		return ErrAlreadyListening
	}
	addr, dualStack, err := resolve(ctx, ln.network, address)
	if ctx.Err() != nil {
		return ErrServerClosed
	}
	if err != nil {
		return err
	}
	if ln.loop, err = ln.poller.acquire(); err != nil {
		return err
	}
	if err = s.start(ctx, ln, addr, dualStack); err != nil {
		ln.poller.release()
	}
	return err
}

// start opens the descriptor and puts it on the loop.
func (s *TcpServer) start(ctx context.Context, ln *listener, addr sockAddr, dualStack bool) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ErrServerClosed
	case s.cur != nil:
		return ErrAlreadyListening
	}
	if ln.fd, ln.addr, err = sysListen(addr, dualStack, ln.backlog); err != nil {
		return err
	}
	if err = ln.loop.add(ln, ln.fd, &ln.key); err != nil {
		ln.loop.remove(ln.key)
		sysClose(ln.fd)
		return err
	}
	ln.dispatch = s.dispatchTo(ln.exec, ln.logger)
	s.cur, s.closed, s.err = ln, false, nil
	return nil
}

// resolve turns an address into one to bind to. The wildcard of "tcp" is that of a dual-stack socket.
func resolve(ctx context.Context, network, address string) (addr sockAddr, dualStack bool, err error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return addr, false, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return addr, false, fmt.Errorf("%w: %w", ErrInvalidAddress, err)
	}
	port, err := lookupPort(ctx, network, service)
	if err != nil {
		return addr, false, err
	}
	ip, zone, err := lookupHost(ctx, network, host)
	if err != nil {
		return addr, false, err
	}
	if network == "tcp" && (len(ip) == 0 || ip.IsUnspecified()) {
		return sockAddr{port: uint16(port), family: addrIP6}, true, nil
	}
	if len(ip) == 0 && network == "tcp4" {
		ip = net.IPv4zero
	}
	return addrOf(ip, port, zone), false, nil
}

func lookupPort(ctx context.Context, network, service string) (int, error) {
	if n, err := strconv.Atoi(service); err == nil && (n < 0 || n > 65535) {
		return 0, fmt.Errorf("%w: %d", ErrInvalidPort, n)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalidPort, err)
	}
	return port, nil
}

// lookupHost returns the first address of host that fits the network; IPv4 comes first, as in package net. No host
// is no address.
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
	if first == nil {
		return nil, "", fmt.Errorf("%w: %s has no address for %s", ErrInvalidAddress, host, network)
	}
	return first.IP, first.Zone, nil
}
