//go:build !sim

package msgserver

import "golang.org/x/sys/unix"

// unackedBytes returns how many bytes the system has taken and the peer has not acknowledged, where the end of the
// stream counts as one byte, and the receive window that the peer has announced.
func unackedBytes(fd uintptr) (unacked, window int64, known bool) {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return 0, 0, false
	}
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return int64(n), 0, true
	}
	return int64(n), int64(info.Snd_wnd), true
}
