//go:build darwin || netbsd || openbsd

package tcpserver

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func acceptSocket(fd int) (int, unix.Sockaddr, error) {
	syscall.ForkLock.RLock()
	n, sa, err := unix.Accept(fd)
	if err == nil {
		unix.CloseOnExec(n)
	}
	syscall.ForkLock.RUnlock()
	if err == nil {
		if err = unix.SetNonblock(n, true); err != nil {
			unix.Close(n)
		}
	}
	return n, sa, err
}
