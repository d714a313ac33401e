//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package servertest

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Errors that package net and the functions below report.
var (
	ErrReset      = syscall.ECONNRESET
	ErrRefused    = syscall.ECONNREFUSED
	ErrWouldBlock = syscall.EAGAIN
	ErrShutdown   = syscall.EPIPE // the write side was shut down
)

// ReadFD reads from the socket fd.
func ReadFD(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

// WriteFD writes to the socket fd.
func WriteFD(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }

// SetBlocking clears the non-blocking mode of the socket fd, for all descriptors that share it.
func SetBlocking(fd uintptr) error { return syscall.SetNonblock(int(fd), false) }

// GetsockoptInt returns an option of the socket fd.
func GetsockoptInt(fd uintptr, level, option int) (int, error) {
	return unix.GetsockoptInt(int(fd), level, option)
}

// ReusePort is a Control function of [net.ListenConfig]: the listener shares its port as one of ours with ReusePort
// does.
func ReusePort(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, sys.SoReusePort, 1)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// ExclusiveAddress is a Control function of [net.ListenConfig]: it sets the option by which our listeners keep others
// from their address. There is none here.
func ExclusiveAddress(_, _ string, _ syscall.RawConn) error { return nil }
