package tcpserver

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepIdle = unix.TCP_KEEPALIVE
	keepUnit = time.Second

	optionsInherited = false
)

func openSocket(family, protocol int) (handle, error) {
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
	return handle(fd), os.NewSyscallError("fcntl", err)
}
