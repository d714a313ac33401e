//go:build linux || darwin || dragonfly || freebsd || netbsd

package tcpserver

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

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
	if err := setDuration(fd, keepIdle, c.Idle, defaultIdle); err != nil {
		return err
	}
	if err := setDuration(fd, unix.TCP_KEEPINTVL, c.Interval, defaultInterval); err != nil {
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

func setDuration(fd handle, option int, d, byDefault time.Duration) error {
	if d < 0 {
		return nil
	}
	if d == 0 {
		d = byDefault
	}
	return setInt(fd, unix.IPPROTO_TCP, option, int((d+keepUnit-1)/keepUnit))
}
