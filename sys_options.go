//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows

package tcpserver

import "syscall"

func sysSetNoDelay(fd handle, on bool) error {
	return setInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, boolInt(on))
}

func sysSetReadBuffer(fd handle, bytes int) error {
	return setInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes)
}

func sysSetWriteBuffer(fd handle, bytes int) error {
	return setInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, bytes)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
