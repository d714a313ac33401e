//go:build (linux && race) || darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver

import "golang.org/x/sys/unix"

// The ordinary system calls. They are told not to block, because the non-blocking mode of the descriptor is not ours
// alone: whoever else has it may clear it.

func sysRecv(fd handle, p []byte) (int, errno) {
	n, _, err := unix.Recvfrom(int(fd), p, unix.MSG_DONTWAIT)
	if n >= 0 && err == nil {
		raceReceived(fd, p[:n])
	}
	return max(n, 0), errnoOf(err)
}

func sysSend(fd handle, p []byte) (int, errno) {
	raceSending()
	n, err := unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	n = max(n, 0)
	raceSent(p[:n])
	return n, errnoOf(err)
}

func errnoOf(err error) errno {
	e, _ := err.(errno)
	return e
}
