package tcpserver

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysSetKeepAlive cannot set times: they are the system's for all sockets. As in package net, asking for the default is
// no error.
func sysSetKeepAlive(fd handle, c net.KeepAliveConfig) error {
	err := setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, boolInt(c.Enable))
	if err == nil && c.Enable && (c.Idle > 0 || c.Interval > 0 || c.Count > 0) {
		err = syscall.ENOPROTOOPT
	}
	return err
}
