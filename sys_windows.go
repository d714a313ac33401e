package tcpserver

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// handle is a socket. Of handles 32 bits count, also on 64-bit systems.
type handle uint32

const (
	// optionsInherited: accepted connections have the listener's TCP_NODELAY and keep-alive.
	optionsInherited = false
	// abstractNames: unix sockets may have names that are no files.
	abstractNames = false
)

// maxUnixPath is how many bytes the path of a unix socket may have.
const maxUnixPath = len(windows.RawSockaddrUnix{}.Path) - 1

// Of ws2_32.h and winsock2.h, what package windows lacks.
const (
	ioctlNonblock = 0x8004667e // FIONBIO
	ioctlUnread   = 0x4004667f // FIONREAD

	soAcceptConn   = 0x2
	soType         = 0x1008
	soExclusiveUse = ^0x4 // SO_EXCLUSIVEADDRUSE

	fromProtocolInfo = -1 // FROM_PROTOCOL_INFO
)

var procAccept = windows.NewLazySystemDLL("ws2_32.dll").NewProc("accept")

var startWinsock = sync.OnceValue(func() error {
	const version = 0x202
	var data windows.WSAData
	return sysError("WSAStartup", windows.WSAStartup(version, &data))
})

func openSocket(family, protocol int) (handle, error) {
	if err := startWinsock(); err != nil {
		return 0, err
	}
	s, err := windows.WSASocket(int32(family), windows.SOCK_STREAM, int32(protocol), nil, 0, ownSocket)
	if err != nil {
		return 0, sysError("socket", err)
	}
	if err = setNonblock(handle(s)); err != nil {
		windows.Closesocket(s)
	}
	return handle(s), sysError("ioctlsocket", err)
}

// ownSocket: child processes do not get it.
const ownSocket = windows.WSA_FLAG_OVERLAPPED | windows.WSA_FLAG_NO_HANDLE_INHERIT

func setNonblock(fd handle) error {
	var on, n uint32 = 1, 0
	return windows.WSAIoctl(windows.Handle(fd), ioctlNonblock, (*byte)(unsafe.Pointer(&on)), uint32(unsafe.Sizeof(on)),
		nil, 0, &n, nil, 0)
}

// bindSocket has nobody else bind the same address. Without the option another process of the same user could bind it
// with SO_REUSEADDR, which means something else than in Unix, and take the connections.
func bindSocket(fd handle, family int, addr sockAddr, reusePort bool) error {
	if reusePort {
		return fmt.Errorf("%w: ReusePort", ErrUnsupported)
	}
	if err := setInt(fd, windows.SOL_SOCKET, soExclusiveUse, 1); err != nil {
		return err
	}
	var sa windows.Sockaddr = &windows.SockaddrInet6{Port: int(addr.port), ZoneId: addr.zone, Addr: addr.ip}
	if family == windows.AF_INET {
		sa = &windows.SockaddrInet4{Port: int(addr.port), Addr: addr.addr().As4()}
	}
	return sysError("bind", windows.Bind(windows.Handle(fd), sa))
}

// sysBindUnix returns a descriptor bound to a path. Files have no permission bits here, and bind does not tell that a
// directory is missing.
func sysBindUnix(path string, mode fs.FileMode) (handle, error) {
	if mode != 0 {
		return 0, fmt.Errorf("%w: SocketMode", ErrUnsupported)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return 0, err
	}
	fd, err := openSocket(windows.AF_UNIX, 0)
	if err == nil {
		if err = sysError("bind", windows.Bind(windows.Handle(fd), &windows.SockaddrUnix{Name: path})); err != nil {
			sysClose(fd)
		}
	}
	return fd, err
}

// sysListen has a bound descriptor listen, or changes the backlog of one that does. backlog 0 is the system's
// maximum.
func sysListen(fd handle, backlog int) error {
	if backlog == 0 {
		backlog = windows.SOMAXCONN
	}
	return sysError("listen", windows.Listen(windows.Handle(fd), backlog))
}

func sysDup(fd handle) (handle, error) {
	if err := startWinsock(); err != nil {
		return 0, err
	}
	// Every socket has a type.
	if _, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soType); err != nil {
		return 0, sysError("getsockopt", windows.WSAENOTSOCK)
	}
	var info windows.WSAProtocolInfo
	if err := windows.WSADuplicateSocket(windows.Handle(fd), windows.GetCurrentProcessId(), &info); err != nil {
		return 0, sysError("WSADuplicateSocket", err)
	}
	s, err := windows.WSASocket(fromProtocolInfo, fromProtocolInfo, fromProtocolInfo, &info, 0, ownSocket)
	return handle(s), sysError("socket", err)
}

// sysInspect reports whether a descriptor that was bound elsewhere listens already.
func sysInspect(fd handle) (listening bool, err error) {
	kind, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soType)
	if err != nil {
		return false, sysError("getsockopt", err)
	}
	if kind != windows.SOCK_STREAM {
		return false, fmt.Errorf("%w: not a stream socket", syscall.EPROTOTYPE)
	}
	if _, err := windows.Getpeername(windows.Handle(fd)); err == nil {
		return false, fmt.Errorf("%w: a connection does not listen", syscall.EISCONN)
	}
	accepts, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soAcceptConn)
	if err != nil {
		return false, sysError("getsockopt", err)
	}
	return accepts != 0, nil
}

// sysUnblock puts the socket of fd into non-blocking mode, for all that have it.
func sysUnblock(fd handle) error { return sysError("ioctlsocket", setNonblock(fd)) }

// sysLocalPath and sysPeerPath return the name of a unix socket, "" if it has none.
func sysLocalPath(fd handle) string { return unixPath(windows.Getsockname(windows.Handle(fd))) }
func sysPeerPath(fd handle) string  { return unixPath(windows.Getpeername(windows.Handle(fd))) }

// unixPath: package windows has "@" for no name.
func unixPath(sa windows.Sockaddr, err error) string {
	if sa, ok := sa.(*windows.SockaddrUnix); ok && err == nil && sa.Name != "@" {
		return sa.Name
	}
	return ""
}

// sysAccept does not block.
func sysAccept(fd handle) (handle, sockAddr, errno) {
	var rsa windows.RawSockaddrAny
	size := int32(unsafe.Sizeof(rsa))
	r, _, e := syscall.SyscallN(procAccept.Addr(), uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)))
	s := windows.Handle(r)
	if s == windows.InvalidHandle {
		return 0, sockAddr{}, errno(e)
	}
	windows.CloseOnExec(s)
	if err := setNonblock(handle(s)); err != nil {
		windows.Closesocket(s)
		return 0, sockAddr{}, errnoOf(err)
	}
	sa, err := rsa.Sockaddr()
	if err != nil {
		return handle(s), sockAddr{family: addrUnix}, 0 // only there a peer may have no address
	}
	return handle(s), sockAddrOf(sa), 0
}

// sysAcceptShared is sysAccept for a socket that others have too: the mode belongs to the socket, and cannot be asked
// for.
func sysAcceptShared(fd handle) (handle, sockAddr, errno) {
	if err := setNonblock(fd); err != nil {
		return 0, sockAddr{}, errnoOf(err)
	}
	return sysAccept(fd)
}

func sysLocalAddr(fd handle) (sockAddr, error) {
	sa, err := windows.Getsockname(windows.Handle(fd))
	if err != nil {
		return sockAddr{}, sysError("getsockname", err)
	}
	return sockAddrOf(sa), nil
}

func sockAddrOf(sa windows.Sockaddr) sockAddr {
	switch sa := sa.(type) {
	case *windows.SockaddrInet4:
		return ip4Addr(sa.Addr, uint16(sa.Port))
	case *windows.SockaddrInet6:
		return ip6Addr(sa.Addr, uint16(sa.Port), sa.ZoneId)
	case *windows.SockaddrUnix:
		return sockAddr{family: addrUnix}
	}
	return sockAddr{}
}

func sysRecv(fd handle, p []byte) (int, errno) {
	buf := windows.WSABuf{Len: uint32(min(len(p), math.MaxInt32)), Buf: unsafe.SliceData(p)}
	var n, flags uint32
	err := windows.WSARecv(windows.Handle(fd), &buf, 1, &n, &flags, nil, nil)
	if err != nil {
		return 0, errnoOf(err)
	}
	return int(n), 0
}

func sysSend(fd handle, p []byte) (int, errno) {
	buf := windows.WSABuf{Len: uint32(len(p)), Buf: unsafe.SliceData(p)}
	var n uint32
	err := windows.WSASend(windows.Handle(fd), &buf, 1, &n, 0, nil, nil)
	if err != nil {
		return 0, errnoOf(err)
	}
	return int(n), 0
}

// sysUnread returns how many bytes the system holds for reading.
func sysUnread(fd handle) int {
	var unread, n uint32
	err := windows.WSAIoctl(windows.Handle(fd), ioctlUnread, nil, 0, (*byte)(unsafe.Pointer(&unread)),
		uint32(unsafe.Sizeof(unread)), &n, nil, 0)
	if err != nil {
		return 0
	}
	return int(unread)
}

// sysClose is for descriptors whose closing cannot block, sysCloseBlocking for sockets that linger.
func sysClose(fd handle)         { windows.Closesocket(windows.Handle(fd)) }
func sysCloseBlocking(fd handle) { windows.Closesocket(windows.Handle(fd)) }

func sysCloseRead(fd handle) error {
	return sysError("shutdown", windows.Shutdown(windows.Handle(fd), windows.SHUT_RD))
}

func sysCloseWrite(fd handle) error {
	return sysError("shutdown", windows.Shutdown(windows.Handle(fd), windows.SHUT_WR))
}

// sysSetLinger: seconds < 0 is the system's default, 0 makes closing a reset.
func sysSetLinger(fd handle, seconds int) error {
	l := windows.Linger{Onoff: int32(boolInt(seconds >= 0)), Linger: int32(max(seconds, 0))}
	return sysError("setsockopt",
		windows.SetsockoptLinger(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_LINGER, &l))
}

func setInt(fd handle, level, option, value int) error {
	return sysError("setsockopt", windows.SetsockoptInt(windows.Handle(fd), level, option, value))
}

// tuneKeepAlive sets both times at once, which every Windows can: what is negative becomes the system's default. The
// number of probes can be set since Windows 10 1703 and is 10 before (SIO_KEEPALIVE_VALS, Remarks).
func tuneKeepAlive(fd handle, c net.KeepAliveConfig) error {
	const (
		systemIdle     = 2 * time.Hour
		systemInterval = time.Second
	)
	if c.Idle < 0 {
		c.Idle = systemIdle
	}
	if c.Interval < 0 {
		c.Interval = systemInterval
	}
	values := [3]uint32{1, milliseconds(c.Idle), milliseconds(c.Interval)} // tcp_keepalive
	var n uint32
	err := windows.WSAIoctl(windows.Handle(fd), windows.SIO_KEEPALIVE_VALS, (*byte)(unsafe.Pointer(&values)),
		uint32(unsafe.Sizeof(values)), nil, 0, &n, nil, 0)
	if err != nil || c.Count < 0 {
		return sysError("WSAIoctl", err)
	}
	err = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_TCP, windows.TCP_KEEPCNT, c.Count)
	if err == windows.WSAENOPROTOOPT && c.Count == defaultKeepCount {
		return nil
	}
	return sysError("setsockopt", err)
}

func milliseconds(d time.Duration) uint32 {
	return uint32((d + time.Millisecond - 1) / time.Millisecond)
}

// An errno is a code of Winsock. Package syscall has other values for the names that it shares with POSIX; such an error
// is found under either: syscall.EADDRINUSE and windows.WSAEADDRINUSE.
type errno syscall.Errno

func (e errno) Error() string   { return syscall.Errno(e).Error() }
func (e errno) Timeout() bool   { return syscall.Errno(e) == windows.WSAETIMEDOUT }
func (e errno) Temporary() bool { return e.Timeout() || isReset(e) || isShortage(e) }
func (e errno) Unwrap() error   { return syscall.Errno(e) }

// Is also answers for fs.ErrPermission and the like.
func (e errno) Is(target error) bool {
	p := e.posix()
	return p != 0 && (target == p || p.Is(target))
}

func (e errno) posix() syscall.Errno {
	switch syscall.Errno(e) {
	case windows.WSAEACCES:
		return syscall.EACCES
	case windows.WSAEADDRINUSE:
		return syscall.EADDRINUSE
	case windows.WSAEADDRNOTAVAIL:
		return syscall.EADDRNOTAVAIL
	case windows.WSAEAFNOSUPPORT:
		return syscall.EAFNOSUPPORT
	case windows.WSAECONNABORTED:
		return syscall.ECONNABORTED
	case windows.WSAECONNRESET:
		return syscall.ECONNRESET
	case windows.WSAEINVAL:
		return syscall.EINVAL
	case windows.WSAEMFILE:
		return syscall.EMFILE
	case windows.WSAENETDOWN:
		return syscall.ENETDOWN
	case windows.WSAENETUNREACH:
		return syscall.ENETUNREACH
	case windows.WSAEHOSTUNREACH:
		return syscall.EHOSTUNREACH
	case windows.WSAENOBUFS:
		return syscall.ENOBUFS
	case windows.WSAENOPROTOOPT:
		return syscall.ENOPROTOOPT
	case windows.WSAENOTCONN:
		return syscall.ENOTCONN
	case windows.WSAENOTSOCK:
		return syscall.ENOTSOCK
	case windows.WSAETIMEDOUT:
		return syscall.ETIMEDOUT
	}
	return 0
}

const (
	errAgain = errno(windows.WSAEWOULDBLOCK)
	errIntr  = errno(windows.WSAEINTR)
)

// resetErrnos are what ErrReset stands for.
var resetErrnos = []error{
	syscall.ECONNRESET, syscall.EPIPE, windows.WSAECONNRESET, windows.WSAECONNABORTED,
}

// isReset: after a reset that a send has met, the next ones are answered with WSAECONNABORTED.
func isReset(e errno) bool {
	switch syscall.Errno(e) {
	case windows.WSAECONNRESET, windows.WSAECONNABORTED, windows.WSAENETRESET:
		return true
	}
	return false
}

// isReturning reports whether an address is taken that may have been given up a moment ago. A socket that is closed
// keeps its address until the polls that waited for it are over.
func isReturning(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

// isShortage reports whether an accept failed for want of descriptors or memory: it will go again later.
func isShortage(e errno) bool {
	switch syscall.Errno(e) {
	case windows.WSAEMFILE, windows.WSAENOBUFS, windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_NO_SYSTEM_RESOURCES,
		windows.ERROR_COMMITMENT_LIMIT:
		return true
	}
	return false
}

// isPassing reports whether an accept failed because of the one connection that it would have returned. Wine reports one
// that was reset in the backlog as WSAENOTCONN.
func isPassing(e errno) bool {
	switch syscall.Errno(e) {
	case windows.WSAEINTR, windows.WSAECONNABORTED, windows.WSAECONNRESET, windows.WSAENOTCONN, windows.WSAENETDOWN,
		windows.WSAENETUNREACH, windows.WSAEHOSTDOWN, windows.WSAEHOSTUNREACH, windows.WSAETIMEDOUT:
		return true
	}
	return false
}

// sysError is os.NewSyscallError for errors of Winsock.
func sysError(call string, err error) error {
	if err == nil {
		return nil
	}
	return os.NewSyscallError(call, errnoOf(err))
}

func errnoOf(err error) errno {
	e, _ := err.(syscall.Errno)
	return errno(e)
}
