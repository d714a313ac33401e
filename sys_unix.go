//go:build linux

package tcpserver

import (
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handle is a descriptor of the system.
type handle int32

type errno = syscall.Errno

const (
	errAgain = unix.EAGAIN
	errIntr  = unix.EINTR
)

// resetErrnos are what ErrReset stands for.
var resetErrnos = []error{syscall.ECONNRESET, syscall.EPIPE}

func isReset(e errno) bool { return e == unix.ECONNRESET || e == unix.EPIPE }

// isShortage reports whether an accept failed for want of descriptors or memory: it will go again later.
func isShortage(e errno) bool {
	return e == unix.EMFILE || e == unix.ENFILE || e == unix.ENOBUFS || e == unix.ENOMEM
}

// isPassing reports whether an accept failed because of the one connection that it would have returned. Linux
// passes on errors of the network of that connection (accept(2), Error handling).
func isPassing(e errno) bool {
	switch e {
	case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET,
		unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ETIMEDOUT, unix.ECONNRESET, unix.EPERM:
		return true
	}
	return false
}

// sysAccept does not block.
func sysAccept(fd handle) (handle, sockAddr, errno) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return 0, sockAddr{}, e
	}
	return handle(n), sockAddrOf(&rsa), 0
}

func sysLocalAddr(fd handle) (sockAddr, error) {
	var rsa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&rsa)),
		uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return sockAddr{}, os.NewSyscallError("getsockname", e)
	}
	return sockAddrOf(&rsa), nil
}

func sockAddrOf(rsa *unix.RawSockaddrAny) sockAddr {
	switch rsa.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(rsa))
		return ip4Addr(sa.Addr, networkOrder(&sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(rsa))
		return ip6Addr(sa.Addr, networkOrder(&sa.Port), sa.Scope_id)
	case unix.AF_UNIX:
		return sockAddr{family: addrUnix}
	}
	return sockAddr{}
}

func networkOrder(port *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// sysClose is for descriptors whose closing cannot block. As a raw system call it does not set off the scheduler's
// monitor, which looks every 20 µs while there are others: 9 % of the processor's time at a connection a message.
func sysClose(fd handle) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// sysCloseBlocking is for sockets that linger.
func sysCloseBlocking(fd handle) { unix.Close(int(fd)) }

func sysCloseWrite(fd handle) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); e != 0 {
		return os.NewSyscallError("shutdown", e)
	}
	return nil
}

func sysCloseRead(fd handle) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(fd), unix.SHUT_RD))
}

// sysUnread returns how many bytes the system holds for reading.
func sysUnread(fd handle) int {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

func sysSetNoDelay(fd handle, on bool) error {
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, boolInt(on))
}

// sysSetLinger: seconds < 0 is the system's default, 0 makes closing a reset.
func sysSetLinger(fd handle, seconds int) error {
	l := unix.Linger{Onoff: int32(boolInt(seconds >= 0)), Linger: int32(max(seconds, 0))}
	return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &l))
}

func sysSetReadBuffer(fd handle, bytes int) error {
	return setInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
}

func sysSetWriteBuffer(fd handle, bytes int) error {
	return setInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}

// sysSetKeepAlive takes the meaning of zero and negative values, and the defaults, from net.KeepAliveConfig.
func sysSetKeepAlive(fd handle, c net.KeepAliveConfig) error {
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, boolInt(c.Enable)); err != nil || !c.Enable {
		return err
	}
	const (
		defaultIdle     = 15 * time.Second
		defaultInterval = 15 * time.Second
		defaultCount    = 9
	)
	if err := setSeconds(fd, unix.TCP_KEEPIDLE, c.Idle, defaultIdle); err != nil {
		return err
	}
	if err := setSeconds(fd, unix.TCP_KEEPINTVL, c.Interval, defaultInterval); err != nil {
		return err
	}
	if c.Count < 0 {
		return nil
	}
	if c.Count == 0 {
		c.Count = defaultCount
	}
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, c.Count)
}

func setSeconds(fd handle, option int, d, byDefault time.Duration) error {
	if d < 0 {
		return nil
	}
	if d == 0 {
		d = byDefault
	}
	return setInt(fd, unix.IPPROTO_TCP, option, int((d+time.Second-1)/time.Second))
}

func setInt(fd handle, level, option, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, value))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
