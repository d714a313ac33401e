//go:build linux || darwin || dragonfly || freebsd || netbsd || windows

package tcpserver

import (
	"net"
	"syscall"
	"time"
)

// What zero fields of net.KeepAliveConfig stand for.
const (
	defaultKeepIdle     = 15 * time.Second
	defaultKeepInterval = 15 * time.Second
	defaultKeepCount    = 9
)

// sysSetKeepAlive takes the meaning of zero and negative values from net.KeepAliveConfig.
func sysSetKeepAlive(fd handle, c net.KeepAliveConfig) error {
	err := setInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, boolInt(c.Enable))
	if err != nil || !c.Enable {
		return err
	}
	if c.Idle == 0 {
		c.Idle = defaultKeepIdle
	}
	if c.Interval == 0 {
		c.Interval = defaultKeepInterval
	}
	if c.Count == 0 {
		c.Count = defaultKeepCount
	}
	return tuneKeepAlive(fd, c)
}
