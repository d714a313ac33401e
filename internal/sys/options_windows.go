//go:build !sim

package sys

import (
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// SetLinger sets SO_LINGER. If seconds is negative, the system sends in the background; if it is zero, closing the
// descriptor resets the connection.
func SetLinger(fd FD, seconds int) error {
	l := windows.Linger{Onoff: int32(boolInt(seconds >= 0)), Linger: int32(max(seconds, 0))}
	return SyscallError("setsockopt",
		windows.SetsockoptLinger(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_LINGER, &l))
}

func setInt(fd FD, level, option, value int) error {
	return SyscallError("setsockopt", windows.SetsockoptInt(windows.Handle(fd), level, option, value))
}

// tuneKeepAlive sets both times at once, which works on every Windows: a negative one becomes the system's default. The
// number of probes can be set since Windows 10 1703; before, it is 10 (SIO_KEEPALIVE_VALS, Remarks).
func tuneKeepAlive(fd FD, c net.KeepAliveConfig) error {
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
		return SyscallError("WSAIoctl", err)
	}
	err = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_TCP, windows.TCP_KEEPCNT, c.Count)
	if err == windows.WSAENOPROTOOPT && c.Count == defaultKeepCount {
		return nil
	}
	return SyscallError("setsockopt", err)
}

func milliseconds(d time.Duration) uint32 {
	return uint32((d + time.Millisecond - 1) / time.Millisecond)
}
