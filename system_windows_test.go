package tcpserver_test

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// What package net and the calls below report.
var (
	errPeerReset  = windows.WSAECONNRESET
	errRefused    = windows.WSAECONNREFUSED
	errWouldBlock = windows.WSAEWOULDBLOCK
	errShut       = windows.WSAESHUTDOWN
)

func systemRead(fd uintptr, p []byte) (int, error) {
	var n, flags uint32
	buf := windows.WSABuf{Len: uint32(len(p)), Buf: &p[0]}
	err := windows.WSARecv(windows.Handle(fd), &buf, 1, &n, &flags, nil, nil)
	return int(n), err
}

func systemWrite(fd uintptr, p []byte) (int, error) {
	var n uint32
	buf := windows.WSABuf{Len: uint32(len(p)), Buf: &p[0]}
	err := windows.WSASend(windows.Handle(fd), &buf, 1, &n, 0, nil, nil)
	return int(n), err
}

// systemBlock clears the non-blocking mode of what fd stands for, for all that share it.
func systemBlock(fd uintptr) error {
	const ioctlNonblock = 0x8004667e // FIONBIO
	var off, n uint32
	return windows.WSAIoctl(windows.Handle(fd), ioctlNonblock, (*byte)(unsafe.Pointer(&off)), uint32(unsafe.Sizeof(off)),
		nil, 0, &n, nil, 0)
}

func systemGetInt(fd uintptr, level, option int) (int, error) {
	return windows.GetsockoptInt(windows.Handle(fd), level, option)
}

// reusePort: there is nothing like it.
func reusePort(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }

// exclusive gives listeners of net.ListenConfig the option that keeps others from the address of ours:
// SO_EXCLUSIVEADDRUSE.
func exclusive(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		err = windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, ^windows.SO_REUSEADDR, 1)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}
