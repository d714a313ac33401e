//go:build (linux || darwin || dragonfly || freebsd || netbsd) && !sim

package sys

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tuneKeepAlive does not change what a negative field stands for.
func tuneKeepAlive(fd FD, c net.KeepAliveConfig) error {
	if err := setDuration(fd, keepIdle, c.Idle); err != nil {
		return err
	}
	if err := setDuration(fd, unix.TCP_KEEPINTVL, c.Interval); err != nil {
		return err
	}
	if c.Count < 0 {
		return nil
	}
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, c.Count)
}

func setDuration(fd FD, option int, d time.Duration) error {
	if d < 0 {
		return nil
	}
	return setInt(fd, unix.IPPROTO_TCP, option, int((d+keepUnit-1)/keepUnit))
}
