//go:build dragonfly || freebsd || netbsd || openbsd

package tcpserver

import "golang.org/x/sys/unix"

const optionsInherited = true

func openSocket(family, protocol int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
}
