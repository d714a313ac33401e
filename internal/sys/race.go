//go:build race && (linux || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"runtime"
	"syscall"
	"unsafe"
)

// These functions tell the race detector which memory the system reads and writes, and that what happens before a byte
// is sent happens before it is received. Package syscall tells it the latter only in Read and Write, for a variable of
// its own: hence the calls of these that do nothing else.

func raceReceived(fd FD, p []byte) {
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
