//go:build !sim

package sys

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// OptionsInherited reports whether accepted connections inherit the listener's TCP_NODELAY and keep-alive.
const OptionsInherited = false

func openSocket(family, protocol int) (FD, error) {
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, protocol)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if err = unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
	}
	return FD(fd), os.NewSyscallError("fcntl", err)
}
