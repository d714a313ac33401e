package tcpserver

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Listen starts to listen. The network is "tcp", "tcp4" or "tcp6", or "unix".
//
// The address of the first three is "host:port", as for net.Listen: without a host, "tcp" takes IPv4 and IPv6
// connections alike, with port 0 the system picks one, and of a host name the first address is taken; "" is ":0".
// Looking a name up may take a while: ListenAsync does not keep the caller. The address of "unix" is a path, which must
// not exist and which Close removes (SetUnlinkOnClose), or on Linux an abstract name that begins with '@'.
//
// The error is a *net.OpError with ErrAlreadyListening or ErrAlreadyBound, which change nothing, with
// ErrInvalidAddress, ErrInvalidPort or ErrBacklog, with ErrUnsupported where there is no poller, with net.ErrClosed if
// the Poller is closed, or with the system's: syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EACCES. After an error
// the server can Listen again.
func (s *TcpServer) Listen(network, address string) error {
	return s.listen(context.Background(), s.newListener(network), address)
}

// listen makes ln the server's listener, unless ctx ends before.
func (s *TcpServer) listen(ctx context.Context, ln *listener, address string) error {
	return s.report(ln.network, listenAddr{ln.network, address}, s.tryListen(ctx, ln, address))
}

// report keeps and returns what a method that listens or binds has failed with.
func (s *TcpServer) report(network string, addr net.Addr, err error) error {
	if err == nil {
		return nil
	}
	err = opError(opListen, network, nil, addr, err)
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	return err
}

func (s *TcpServer) tryListen(ctx context.Context, ln *listener, address string) error {
	to, err := s.prepare(ctx, ln, address)
	if err != nil {
		return err
	}
	return retryBind(func() error {
		opened := false
		err := s.begin(ctx, ln, func() error {
			if err := s.mayBind(); err != nil {
				return err
			}
			if err := ln.bind(to); err != nil {
				return err
			}
			opened = true
			return sys.Listen(ln.fd, ln.backlog)
		})
		if err != nil && opened {
			ln.closeDescriptor()
		}
		return err
	})
}

// patiently calls bind again while the system may be about to give back an address that was closed just now.
func retryBind(bind func() error) error {
	err := bind()
	for pause := time.Millisecond; sys.IsReleasing(err) && pause < 50*time.Millisecond; pause *= 2 {
		time.Sleep(pause)
		err = bind()
	}
	return err
}

// prepare checks what can be checked before anything is opened.
func (s *TcpServer) prepare(ctx context.Context, ln *listener, address string) (to target, err error) {
	if ln.backlog < 0 {
		return to, ErrBacklog
	}
	s.mu.Lock()
	err = s.mayBind()
	s.mu.Unlock()
	if err != nil {
		return to, err
	}
	to, err = resolve(ctx, ln.network, address)
	if ctx.Err() != nil {
		err = ErrServerClosed
	}
	if err == nil {
		err = ln.canBind(to)
	}
	return to, err
}

// canBind returns an error if the system or the address has no such thing as the configuration asks for.
func (ln *listener) canBind(to target) error {
	unix := to.addr.Family == sys.FamilyUnix
	switch {
	case !Supported():
		return ErrUnsupported
	case ln.reusePort && !unix && !sys.HasReusePort:
		return fmt.Errorf("%w: ReusePort", ErrUnsupported)
	case ln.socketMode != 0 && unix && !sys.HasFileModes:
		return fmt.Errorf("%w: SocketMode", ErrUnsupported)
	case ln.socketMode != 0 && isAbstract(to.path):
		return fmt.Errorf("%w: an abstract name has no permissions", ErrInvalidAddress)
	}
	return nil
}

// mayBind returns why the server cannot be given another address. mu is held.
func (s *TcpServer) mayBind() error {
	switch {
	case s.cur != nil:
		return ErrAlreadyListening
	case s.bound != nil:
		return ErrAlreadyBound
	}
	return nil
}

// begin makes ln the server's listener and puts it on a loop. open is called with mu held and has the descriptor
// listen. The descriptor is left open after an error.
func (s *TcpServer) begin(ctx context.Context, ln *listener, open func() error) (err error) {
	if ln.loop, err = ln.poller.acquire(); err != nil {
		return err
	}
	s.mu.Lock()
	if err = ctx.Err(); err != nil {
		err = ErrServerClosed
	} else {
		err = s.start(ln, open)
	}
	s.mu.Unlock()
	if err != nil {
		ln.poller.release()
	}
	return err
}

// start is the part of begin under the lock.
func (s *TcpServer) start(ln *listener, open func() error) error {
	if err := open(); err != nil {
		return err
	}
	if err := ln.loop.add(ln, ln.fd, &ln.key); err != nil {
		ln.loop.remove(ln.key)
		return err
	}
	s.strand.loop = ln.loop
	ln.dispatch = s.dispatchTo(ln.exec, ln.logger)
	s.strand.failure = acceptFailure{}
	ln.acceptBy.cond = s.waiting()
	s.periods = append(s.periods, ln)
	s.cur, s.bound, s.closed, s.err = ln, nil, false, nil
	s.recount()
	return nil
}

// A listenAddr is an address as the program gave it.
type listenAddr struct{ network, address string }

func (a listenAddr) Network() string { return a.network }
func (a listenAddr) String() string  { return a.address }

// A target is an address to bind to.
type target struct {
	addr      sys.Addr
	dualStack bool
	path      string // of a unix socket
}

// isAbstract reports whether path is the name of a unix socket that is no file.
func isAbstract(path string) bool { return sys.HasAbstractNames && strings.HasPrefix(path, "@") }

// bind opens the descriptor and binds it. server.mu is held.
func (ln *listener) bind(to target) (err error) {
	if to.addr.Family == sys.FamilyUnix {
		ln.addr, ln.path = to.addr, to.path
		if ln.fd, err = sys.BindUnix(ln.path, ln.socketMode); err == nil {
			ln.file, ln.unlink = fileAt(ln.path), true
		}
		return err
	}
	if ln.fd, ln.addr, err = sys.Bind(to.addr, to.dualStack, ln.reusePort); err != nil {
		return err
	}
	if err = ln.setKeepAlive(); err != nil {
		sys.Close(ln.fd)
	}
	return err
}

// setKeepAlive sets what accepted connections inherit.
func (ln *listener) setKeepAlive() error {
	if !ln.keepAlive.Enable {
		return nil
	}
	return sys.SetKeepAlive(ln.fd, ln.keepAlive)
}

// passOptions gives a connection what it has not inherited: of an adopted listener, one that had come before. That a
// connection is gone already is found out later.
func (ln *listener) passOptions(fd sys.FD) {
	if sys.OptionsInherited && !ln.adopted || ln.addr.Family == sys.FamilyUnix {
		return
	}
	sys.SetNoDelay(fd, true)
	if ln.keepAlive.Enable {
		sys.SetKeepAlive(fd, ln.keepAlive)
	}
}

// closeDescriptor gives back what bind has opened.
func (ln *listener) closeDescriptor() {
	sys.Close(ln.fd)
	ln.file.remove()
}

// A socketFile is the file of a unix socket; nil: there is none.
type socketFile struct {
	path    string // absolute: the program may change its directory
	info    fs.FileInfo
	removed sync.Once
}

// fileAt returns the file of the unix socket of that name.
func fileAt(path string) *socketFile {
	if isAbstract(path) {
		return nil
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return &socketFile{path: path, info: info}
}

// adoptedFile returns the file of a unix socket that was bound elsewhere, as far as it can be told. Where a relative
// path leads depends on the directory of then, and what is no socket was put there by others.
func adoptedFile(path string) *socketFile {
	if !filepath.IsAbs(path) {
		return nil
	}
	file := fileAt(path)
	if file == nil || file.info.Mode()&fs.ModeSocket == 0 {
		return nil
	}
	return file
}

// remove leaves alone what others have put in the place of the file. A second call waits for the first.
func (f *socketFile) remove() {
	if f == nil {
		return
	}
	f.removed.Do(func() {
		if now, err := os.Lstat(f.path); err == nil && os.SameFile(now, f.info) {
			os.Remove(f.path)
		}
	})
}

// SetUnlinkOnClose sets whether the file of a unix socket is removed when listening ends. By default the file is
// removed that Listen or Bind has made, and that of a *net.UnixListener passed to ListenOn if it would have removed it;
// the file of a descriptor that ListenFile was given stays. It may be called in any state, counts at once, and stays
// over Close and Listen. A file that others have put in its place is left alone in any case.
//
// A descriptor that was passed to ListenOn or ListenFile tells the path that it was bound to, and not what is there
// now. A relative path, which may mean another file by now, is left alone, and so is what is no socket. A socket that
// others have put there before is taken for the descriptor's own: where that can be, call SetUnlinkOnClose(false).
//
// To hand a unix socket over to another process, call File, SetUnlinkOnClose(false) and Close; the other, once it
// serves the descriptor with ListenFile, may call SetUnlinkOnClose(true).
func (s *TcpServer) SetUnlinkOnClose(unlink bool) {
	s.mu.Lock()
	s.unlink = &unlink
	s.mu.Unlock()
}

// removeFile removes the file of ln's unix socket if it is to be removed, and has not been given up before. mu is not
// held.
func (s *TcpServer) removeFile(ln *listener) {
	s.mu.Lock()
	unlink := ln.unlink
	if s.unlink != nil {
		unlink = *s.unlink
	}
	unlink = unlink && s.address() == ln
	s.mu.Unlock()
	if unlink {
		ln.file.remove()
	}
}

func (ln *listener) netAddr() net.Addr { return ln.addr.NetAddr(ln.path) }

// resolve turns an address into one to bind to.
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
		return target{}, fmt.Errorf("%w: no path", ErrInvalidAddress)
	case len(path) > sys.MaxUnixPath:
		return target{}, fmt.Errorf("%w: a path of %d bytes, the most is %d", ErrInvalidAddress, len(path), sys.MaxUnixPath)
	case path[0] == 0 && sys.HasAbstractNames:
		path = "@" + path[1:]
	}
	if strings.IndexByte(path, 0) >= 0 {
		return target{}, fmt.Errorf("%w: a path with a zero byte", ErrInvalidAddress)
	}
	return target{addr: sys.Addr{Family: sys.FamilyUnix}, path: path}, nil
}

// The wildcard of "tcp" is that of a dual-stack socket.
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
	if network == "tcp4" && len(found) == 1 && found[0].IP.Equal(net.IPv6unspecified) {
		return net.IPv4zero, "", nil // as in package net
	}
	if first == nil {
		return nil, "", fmt.Errorf("%w: %s has no address for %s", ErrInvalidAddress, host, network)
	}
	return first.IP, first.Zone, nil
}
