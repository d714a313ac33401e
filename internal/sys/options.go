//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows) && !sim

package sys

import "syscall"

// SetNoDelay sets TCP_NODELAY.
func SetNoDelay(fd FD, on bool) error {
	return setInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, boolInt(on))
}

// SetReadBuffer sets SO_RCVBUF.
func SetReadBuffer(fd FD, bytes int) error {
	return setInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes)
}

// SetWriteBuffer sets SO_SNDBUF.
func SetWriteBuffer(fd FD, bytes int) error {
	return setInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, bytes)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
