//go:build (dragonfly || freebsd) && !sim

package sys

import "golang.org/x/sys/unix"

func acceptSocket(fd int) (int, unix.Sockaddr, error) {
	return unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

func acceptUnlocked(fd int) (int, unix.Sockaddr, error) { return acceptSocket(fd) }
