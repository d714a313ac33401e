//go:build !sim

package sys

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/windows"
)

// Dup returns a duplicate of fd that child processes do not inherit.
func Dup(fd FD) (FD, error) {
	if err := startWinsock(); err != nil {
		return 0, err
	}
	// Every socket has a type: this finds out whether fd is one.
	if _, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soType); err != nil {
		return 0, SyscallError("getsockopt", windows.WSAENOTSOCK)
	}
	var info windows.WSAProtocolInfo
	if err := windows.WSADuplicateSocket(windows.Handle(fd), windows.GetCurrentProcessId(), &info); err != nil {
		return 0, SyscallError("WSADuplicateSocket", err)
	}
	s, err := windows.WSASocket(fromProtocolInfo, fromProtocolInfo, fromProtocolInfo, &info, 0, ownSocket)
	return FD(s), SyscallError("socket", err)
}

// IsListening reports whether a socket that somebody else has bound already listens. The error wraps EPROTOTYPE if fd
// is not a stream socket, and EISCONN if it is a connection.
func IsListening(fd FD) (bool, error) {
	kind, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soType)
	if err != nil {
		return false, SyscallError("getsockopt", err)
	}
	if kind != windows.SOCK_STREAM {
		return false, fmt.Errorf("%w: not a stream socket", syscall.EPROTOTYPE)
	}
	if _, err := windows.Getpeername(windows.Handle(fd)); err == nil {
		return false, fmt.Errorf("%w: a connection cannot listen", syscall.EISCONN)
	}
	accepts, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soAcceptConn)
	if err != nil {
		return false, SyscallError("getsockopt", err)
	}
	return accepts != 0, nil
}

// SetNonblock puts the socket of fd into non-blocking mode, for everybody who shares it.
func SetNonblock(fd FD) error { return SyscallError("ioctlsocket", setNonblock(fd)) }

// LocalPath returns the path of a unix socket, or "" if it has none.
func LocalPath(fd FD) string { return unixPath(windows.Getsockname(windows.Handle(fd))) }

// PeerPath is LocalPath for the other end of a connection.
func PeerPath(fd FD) string { return unixPath(windows.Getpeername(windows.Handle(fd))) }

// unixPath knows that package windows returns "@" for a socket without a path.
func unixPath(sa windows.Sockaddr, err error) string {
	if sa, ok := sa.(*windows.SockaddrUnix); ok && err == nil && sa.Name != "@" {
		return sa.Name
	}
	return ""
}
