//go:build race && (linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package tcpserver

import (
	"runtime"
	"syscall"
	"unsafe"
)

// The race detector is told which memory the kernel touches, and that what happens before a byte is sent happens before
// its arrival. Package syscall tells it the latter in Read and Write alone, of a variable of its own: hence calls of
// these that do nothing else.

func raceReceived(fd handle, p []byte) {
	if len(p) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(p)), len(p))
	}
	syscall.Read(int(fd), nil)
}

func raceSending() { syscall.Write(-1, nil) }

func raceSent(p []byte) {
	if len(p) > 0 {
		runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(p)), len(p))
	}
}
