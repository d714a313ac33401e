//go:build (darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Close closes a descriptor whose closing cannot block.
func Close(fd FD) { unix.Close(int(fd)) }

// CloseWrite sends an end of stream.
func CloseWrite(fd FD) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(fd), unix.SHUT_WR))
}
