//go:build dragonfly || freebsd

package tcpserver

import "golang.org/x/sys/unix"

func acceptSocket(fd int) (int, unix.Sockaddr, error) {
	return unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

func acceptShared(fd int) (int, unix.Sockaddr, error) { return acceptSocket(fd) }
