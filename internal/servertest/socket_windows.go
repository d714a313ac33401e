package servertest

import (
	"errors"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

// Errors that package net and the functions below report.
var (
	ErrReset      = windows.WSAECONNRESET
	ErrRefused    = windows.WSAECONNREFUSED
	ErrWouldBlock = windows.WSAEWOULDBLOCK
	ErrShutdown   = windows.WSAESHUTDOWN // the write side was shut down
)

// ReadFD reads from the socket fd.
func ReadFD(fd uintptr, p []byte) (int, error) {
	var n, flags uint32
	buf := windows.WSABuf{Len: uint32(len(p)), Buf: &p[0]}
	err := windows.WSARecv(windows.Handle(fd), &buf, 1, &n, &flags, nil, nil)
	return int(n), err
}

// WriteFD writes to the socket fd.
func WriteFD(fd uintptr, p []byte) (int, error) {
	var n uint32
	buf := windows.WSABuf{Len: uint32(len(p)), Buf: &p[0]}
	err := windows.WSASend(windows.Handle(fd), &buf, 1, &n, 0, nil, nil)
	return int(n), err
}

// SetBlocking clears the non-blocking mode of the socket fd, for all handles that share it.
func SetBlocking(fd uintptr) error {
	const ioctlNonblock = 0x8004667e // FIONBIO
	var off, n uint32
	return windows.WSAIoctl(windows.Handle(fd), ioctlNonblock,
		(*byte)(unsafe.Pointer(&off)), uint32(unsafe.Sizeof(off)),
		nil, 0, &n, nil, 0)
}

// GetsockoptInt returns an option of the socket fd.
func GetsockoptInt(fd uintptr, level, option int) (int, error) {
	return windows.GetsockoptInt(windows.Handle(fd), level, option)
}

// ReusePort is a Control function of [net.ListenConfig]: the listener would share its port, which Windows cannot do.
func ReusePort(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }

// ExclusiveAddress is a Control function of [net.ListenConfig]: it sets the option by which our listeners keep others
// from their address, SO_EXCLUSIVEADDRUSE.
func ExclusiveAddress(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		err = windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, ^windows.SO_REUSEADDR, 1)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

var procGetProcessHandleCount = windows.NewLazySystemDLL("kernel32.dll").NewProc("GetProcessHandleCount")

// OpenHandles returns how many handles the process has open, those of the runtime's threads among them.
func OpenHandles(t testing.TB) int {
	t.Helper()
	var n uint32
	ok, _, err := procGetProcessHandleCount.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&n)))
	require.NotZero(t, ok, err)
	return int(n)
}
