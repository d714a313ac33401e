//go:build (dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// OptionsInherited reports whether accepted connections inherit the listener's TCP_NODELAY and keep-alive.
const OptionsInherited = true

func openSocket(family, protocol int) (FD, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	return FD(fd), os.NewSyscallError("socket", err)
}
