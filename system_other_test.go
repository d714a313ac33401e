//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows)

package tcpserver_test

import (
	"errors"
	"syscall"
)

// What the tests need to compile.
var (
	errPeerReset = syscall.ECONNRESET
	errRefused   = syscall.ECONNREFUSED
)

func reusePort(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }

func exclusive(_, _ string, _ syscall.RawConn) error { return nil }
