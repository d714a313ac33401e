//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// CloseBlocking closes a socket that lingers: it may block.
func CloseBlocking(fd FD) { unix.Close(int(fd)) }

// CloseRead ends the receiving side.
func CloseRead(fd FD) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(fd), unix.SHUT_RD))
}
