//go:build darwin || netbsd || openbsd

package tcpserver

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func acceptSocket(fd int) (int, unix.Sockaddr, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return acceptShared(fd)
}

// acceptShared may block, and does not hold the lock without which no process can be started. As with package net, a
// process that is started at that very moment gets the connection too.
func acceptShared(fd int) (int, unix.Sockaddr, error) {
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
