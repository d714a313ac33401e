//go:build !sim

package sys

import (
	"math"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Recv reads what the system holds, up to len(p) bytes. It returns 0 and no error at the end of the stream, and EAGAIN
// if there is nothing.
func Recv(fd FD, p []byte) (int, Errno) {
	buf := windows.WSABuf{Len: uint32(min(len(p), math.MaxInt32)), Buf: unsafe.SliceData(p)}
	var n, flags uint32
	err := windows.WSARecv(windows.Handle(fd), &buf, 1, &n, &flags, nil, nil)
	if err != nil {
		return 0, errnoOf(err)
	}
	return int(n), 0
}

// Send gives the system as much of p as it takes. It returns EAGAIN if it takes nothing.
func Send(fd FD, p []byte) (int, Errno) {
	buf := windows.WSABuf{Len: uint32(len(p)), Buf: unsafe.SliceData(p)}
	var n uint32
	err := windows.WSASend(windows.Handle(fd), &buf, 1, &n, 0, nil, nil)
	if err != nil {
		return 0, errnoOf(err)
	}
	return int(n), 0
}

// Unread returns how many received bytes the system holds for fd.
func Unread(fd FD) int {
	var unread, n uint32
	err := windows.WSAIoctl(windows.Handle(fd), ioctlUnread, nil, 0, (*byte)(unsafe.Pointer(&unread)),
		uint32(unsafe.Sizeof(unread)), &n, nil, 0)
	if err != nil {
		return 0
	}
	return int(unread)
}

// Close closes a socket whose closing cannot block.
func Close(fd FD) { windows.Closesocket(windows.Handle(fd)) }

// CloseBlocking closes a socket that lingers: it may block.
func CloseBlocking(fd FD) { windows.Closesocket(windows.Handle(fd)) }

// CloseRead ends the receiving side.
func CloseRead(fd FD) error {
	return SyscallError("shutdown", windows.Shutdown(windows.Handle(fd), windows.SHUT_RD))
}

// CloseWrite sends an end of stream.
func CloseWrite(fd FD) error {
	return SyscallError("shutdown", windows.Shutdown(windows.Handle(fd), windows.SHUT_WR))
}
