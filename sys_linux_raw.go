//go:build linux && !race

package tcpserver

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These never block, so the scheduler need not be told: a raw system call is 100 to 165 ns cheaper (measured on Linux
// 6.18, Go 1.26). recvfrom and sendto skip the layer of files that read and write go through. They are told not to
// block, because the non-blocking mode of the descriptor is not ours alone: whoever else has it may clear it.

func sysRecv(fd handle, p []byte) (int, errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

func sysSend(fd handle, p []byte) (int, errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}
