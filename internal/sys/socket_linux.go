//go:build !sim

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	ioctlUnread = unix.TIOCINQ

	// OptionsInherited reports whether accepted connections inherit the listener's TCP_NODELAY and keep-alive.
	OptionsInherited = true

	// HasAbstractNames reports whether unix sockets may have names that are not files.
	HasAbstractNames = true

	// modeBeforeBind reports whether fchmod works on a socket: its file then gets these permissions.
	modeBeforeBind = true
)

func openSocket(family, protocol int) (FD, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	return FD(fd), os.NewSyscallError("socket", err)
}
