//go:build !sim

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Close closes a descriptor whose closing cannot block. A raw system call does not wake the scheduler's monitor, which
// polls every 20 µs while there are ordinary ones: 9 % of the processor's time when each message has its own
// connection.
func Close(fd FD) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// CloseWrite sends an end of stream.
func CloseWrite(fd FD) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); e != 0 {
		return os.NewSyscallError("shutdown", e)
	}
	return nil
}
