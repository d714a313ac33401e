//go:build (linux && race) || darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver

import "syscall"

// The ordinary system calls. They tell the race detector which memory the kernel touches, and that what happens before a
// byte is sent happens before its arrival.

func sysRecv(fd handle, p []byte) (int, errno) {
	n, err := syscall.Read(int(fd), p)
	return max(n, 0), errnoOf(err)
}

func sysSend(fd handle, p []byte) (int, errno) {
	n, err := syscall.Write(int(fd), p)
	return max(n, 0), errnoOf(err)
}

func errnoOf(err error) errno {
	e, _ := err.(errno)
	return e
}
