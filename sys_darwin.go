package tcpserver

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepIdle = unix.TCP_KEEPALIVE
	keepUnit = time.Second

	optionsInherited = false
)

func openSocket(family, protocol int) (int, error) {
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, protocol)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, err
	}
	return fd, unix.SetNonblock(fd, true)
}
