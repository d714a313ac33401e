//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver_test

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// What package net and the calls below report.
var (
	errPeerReset  = syscall.ECONNRESET
	errRefused    = syscall.ECONNREFUSED
	errWouldBlock = syscall.EAGAIN
	errShut       = syscall.EPIPE
)

func systemRead(fd uintptr, p []byte) (int, error)  { return syscall.Read(int(fd), p) }
func systemWrite(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }

// systemBlock clears the non-blocking mode of what fd stands for, for all that share it.
func systemBlock(fd uintptr) error { return syscall.SetNonblock(int(fd), false) }

func systemGetInt(fd uintptr, level, option int) (int, error) {
	return unix.GetsockoptInt(int(fd), level, option)
}

// reusePort has listeners of net.ListenConfig share a port as ours do.
func reusePort(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, sys.SoReusePort, 1)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// exclusive gives listeners of net.ListenConfig the option that keeps others from the address of ours: none here.
func exclusive(_, _ string, _ syscall.RawConn) error { return nil }
