//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows) || sim

package servertest

import (
	"errors"
	"syscall"
)

// On systems without a poller the tests need only compile.
var (
	ErrReset      = errors.ErrUnsupported
	ErrRefused    = errors.ErrUnsupported
	ErrWouldBlock = errors.ErrUnsupported
	ErrShutdown   = errors.ErrUnsupported
)

// ReadFD is not supported.
func ReadFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// WriteFD is not supported.
func WriteFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// SetBlocking is not supported.
func SetBlocking(uintptr) error { return errors.ErrUnsupported }

// GetsockoptInt is not supported.
func GetsockoptInt(_ uintptr, _, _ int) (int, error) { return 0, errors.ErrUnsupported }

// ReusePort is not supported.
func ReusePort(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }

// ExclusiveAddress does nothing.
func ExclusiveAddress(_, _ string, _ syscall.RawConn) error { return nil }
