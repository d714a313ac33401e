//go:build (darwin || netbsd || openbsd) && !sim

package sys

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func acceptSocket(fd int) (int, unix.Sockaddr, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return acceptUnlocked(fd)
}

// acceptUnlocked may block, so it does not hold the lock that starting a process needs. As in package net, a process
// that starts at that moment inherits the connection.
func acceptUnlocked(fd int) (int, unix.Sockaddr, error) {
	n, sa, err := unix.Accept(fd)
	if err != nil {
		return 0, nil, err
	}
	unix.CloseOnExec(n)
	if err = unix.SetNonblock(n, true); err != nil {
		unix.Close(n)
	}
	return n, sa, err
}
