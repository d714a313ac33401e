//go:build ((linux && race) || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import "golang.org/x/sys/unix"

// Recv and Send are ordinary system calls here. They get MSG_DONTWAIT because whoever shares the open file description
// may clear its non-blocking mode.

// Recv reads what the system holds, up to len(p) bytes. It returns 0 and no error at the end of the stream, and EAGAIN
// if there is nothing.
func Recv(fd FD, p []byte) (int, Errno) {
	n, _, err := unix.Recvfrom(int(fd), p, unix.MSG_DONTWAIT)
	if n >= 0 && err == nil {
		raceReceived(fd, p[:n])
	}
	return max(n, 0), errnoOf(err)
}

// Send gives the system as much of p as it takes. It returns EAGAIN if it takes nothing.
func Send(fd FD, p []byte) (int, Errno) {
	raceSending()
	n, err := unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	n = max(n, 0)
	raceSent(p[:n])
	return n, errnoOf(err)
}
