//go:build !sim

package sys

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// SetKeepAlive sets keep-alive. The times cannot be set: OpenBSD has one setting for all sockets. As in package net,
// asking for the default is not an error.
func SetKeepAlive(fd FD, c net.KeepAliveConfig) error {
	err := setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, boolInt(c.Enable))
	if err == nil && c.Enable && (c.Idle > 0 || c.Interval > 0 || c.Count > 0) {
		err = syscall.ENOPROTOOPT
	}
	return err
}
