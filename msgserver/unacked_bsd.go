//go:build (freebsd || netbsd) && !sim

package msgserver

import "golang.org/x/sys/unix"

// unackedBytes returns how many bytes the system has taken and the peer has not acknowledged. The peer's receive window
// is not known.
func unackedBytes(fd uintptr) (unacked, window int64, known bool) {
	n, err := unix.IoctlGetInt(int(fd), fionwrite)
	if err != nil {
		return 0, 0, false
	}
	return int64(n), 0, true
}
