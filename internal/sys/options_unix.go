//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Unread returns how many received bytes the system holds for fd.
func Unread(fd FD) int {
	n, err := unix.IoctlGetInt(int(fd), ioctlUnread)
	if err != nil {
		return 0
	}
	return n
}

// SetLinger sets SO_LINGER. If seconds is negative, the system sends in the background; if it is zero, closing the
// descriptor resets the connection.
func SetLinger(fd FD, seconds int) error {
	l := unix.Linger{Onoff: int32(boolInt(seconds >= 0)), Linger: int32(max(seconds, 0))}
	return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &l))
}

func setInt(fd FD, level, option, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, value))
}
