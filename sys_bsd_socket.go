//go:build dragonfly || freebsd || netbsd || openbsd

package tcpserver

import (
	"os"

	"golang.org/x/sys/unix"
)

const optionsInherited = true

func openSocket(family, protocol int) (handle, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	return handle(fd), os.NewSyscallError("socket", err)
}
