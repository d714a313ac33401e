//go:build sim

package sys

import (
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sim"
)

// With the tag sim the system is package sim's.

// An FD is a file descriptor.
type FD int32

// An Errno is an error of the system.
type Errno = syscall.Errno

const (
	EAGAIN = syscall.EAGAIN
	EINTR  = syscall.EINTR

	MaxUnixPath      = 107
	HasReusePort     = false
	HasFileModes     = false
	HasAbstractNames = true
	OptionsInherited = true
)

// ResetErrnos are the errors that stand for a reset by the peer.
var ResetErrnos = []error{syscall.ECONNRESET, syscall.EPIPE}

// IsReset reports whether the peer has reset the connection.
func IsReset(e Errno) bool { return e == syscall.ECONNRESET || e == syscall.EPIPE }

// IsReleasing reports whether an address is in use that may be released in a moment.
func IsReleasing(error) bool { return false }

// IsExhausted reports whether Accept failed because descriptors or memory have run out. It will work again later.
func IsExhausted(e Errno) bool {
	return e == syscall.EMFILE || e == syscall.ENFILE || e == syscall.ENOBUFS || e == syscall.ENOMEM
}

// IsTransient reports whether Accept failed because of the one connection that it would have returned.
func IsTransient(e Errno) bool {
	switch e {
	case syscall.EINTR, syscall.ECONNABORTED, syscall.EPROTO, syscall.ENETDOWN, syscall.ECONNRESET, syscall.ETIMEDOUT:
		return true
	}
	return false
}

func callError(call string, e Errno) error {
	if e == 0 {
		return nil
	}
	return os.NewSyscallError(call, e)
}

// Bind returns a TCP socket bound to the port of addr. All addresses are the same here.
func Bind(addr Addr, _, _ bool) (FD, Addr, error) {
	fd, e := sim.Socket()
	if e != 0 {
		return 0, addr, callError("socket", e)
	}
	port, e := sim.Bind(fd, addr.Port)
	if e != 0 {
		sim.Close(fd)
		return 0, addr, callError("bind", e)
	}
	addr.Port = port
	return FD(fd), addr, nil
}

// BindUnix returns a socket bound to an abstract name.
func BindUnix(path string, _ fs.FileMode) (FD, error) {
	fd, e := sim.Socket()
	if e != 0 {
		return 0, callError("socket", e)
	}
	if e = sim.BindName(fd, path); e != 0 {
		sim.Close(fd)
		return 0, callError("bind", e)
	}
	return FD(fd), nil
}

// Listen makes a bound socket listen, or changes the backlog of one that listens.
func Listen(fd FD, backlog int) error {
	if backlog == 0 {
		backlog = 1 << 16
	}
	return callError("listen", sim.Listen(int(fd), backlog))
}

// Dup returns a duplicate of fd.
func Dup(fd FD) (FD, error) {
	n, e := sim.Dup(int(fd))
	return FD(n), callError("fcntl", e)
}

// IsListening reports whether a socket that somebody else has bound already listens.
func IsListening(fd FD) (bool, error) { return sim.IsListening(int(fd)), nil }

// SetNonblock puts the open file description of fd into non-blocking mode.
func SetNonblock(fd FD) error {
	sim.SetBlocking(int(fd), false)
	return nil
}

// Accept returns the next connection and the address of its peer.
func Accept(fd FD) (FD, Addr, Errno) {
	n, peer, e := sim.Accept(int(fd))
	if e != 0 {
		return 0, Addr{}, e
	}
	return FD(n), ipv6Addr(peer.Addr().As16(), peer.Port(), 0), 0
}

// HasConnection reports whether a connection waits for AcceptShared.
func HasConnection(fd FD) (bool, Errno) { return sim.HasConnection(int(fd)), 0 }

// AcceptShared is Accept for an open file description that others share.
func AcceptShared(fd FD) (FD, Addr, Errno) {
	sim.SetBlocking(int(fd), false)
	return Accept(fd)
}

// LocalAddr returns the address of this end.
func LocalAddr(fd FD) (Addr, error) {
	port, e := sim.Port(int(fd))
	if e == 0 && sim.LocalName(int(fd)) != "" {
		return Addr{Family: FamilyUnix}, nil
	}
	return ipv4Addr([4]byte{127, 0, 0, 1}, port), callError("getsockname", e)
}

// LocalPath returns the name of a unix socket, or "" if it has none.
func LocalPath(fd FD) string { return sim.LocalName(int(fd)) }

// PeerPath is LocalPath for the other end of a connection.
func PeerPath(FD) string { return "" }

// Recv reads what the system holds.
func Recv(fd FD, p []byte) (int, Errno) { return sim.Recv(int(fd), p) }

// Send gives the system as much of p as it takes.
func Send(fd FD, p []byte) (int, Errno) { return sim.Send(int(fd), p) }

// Unread returns how many received bytes the system holds for fd.
func Unread(fd FD) int { return sim.Unread(int(fd)) }

// CloseRead ends the receiving side.
func CloseRead(fd FD) error { return callError("shutdown", sim.Shutdown(int(fd), true, false)) }

// CloseWrite sends an end of stream.
func CloseWrite(fd FD) error { return callError("shutdown", sim.Shutdown(int(fd), false, true)) }

// Close closes a descriptor.
func Close(fd FD) { sim.Close(int(fd)) }

// CloseBlocking closes a socket that lingers.
func CloseBlocking(fd FD) { sim.CloseBlocking(int(fd)) }

// SetLinger sets SO_LINGER.
func SetLinger(fd FD, seconds int) error {
	return callError("setsockopt", sim.SetLinger(int(fd), seconds))
}

// SetNoDelay sets TCP_NODELAY.
func SetNoDelay(fd FD, _ bool) error { return setOption(fd) }

// SetReadBuffer sets SO_RCVBUF.
func SetReadBuffer(fd FD, _ int) error { return setOption(fd) }

// SetWriteBuffer sets SO_SNDBUF.
func SetWriteBuffer(fd FD, _ int) error { return setOption(fd) }

// SetKeepAlive sets keep-alive.
func SetKeepAlive(fd FD, _ net.KeepAliveConfig) error { return setOption(fd) }

func setOption(fd FD) error { return callError("setsockopt", sim.SetOption(int(fd))) }
