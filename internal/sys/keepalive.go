//go:build (linux || darwin || dragonfly || freebsd || netbsd || windows) && !sim

package sys

import (
	"net"
	"syscall"
	"time"
)

// The values that zero fields of net.KeepAliveConfig stand for.
const (
	defaultKeepIdle     = 15 * time.Second
	defaultKeepInterval = 15 * time.Second
	defaultKeepCount    = 9
)

// SetKeepAlive sets keep-alive. Zero and negative fields mean what [net.KeepAliveConfig] says.
func SetKeepAlive(fd FD, c net.KeepAliveConfig) error {
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
