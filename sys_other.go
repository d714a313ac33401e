//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows)

package tcpserver

import (
	"io/fs"
	"net"
)

// What the portable files need to compile. Nothing of it is reached: Listen fails before.

type handle int32

type errno uintptr

func (e errno) Error() string { return ErrUnsupported.Error() }

const (
	errAgain errno = 1
	errIntr  errno = 2
)

var resetErrnos []error

func isReset(errno) bool     { return false }
func isReturning(error) bool { return false }
func isShortage(errno) bool  { return false }
func isPassing(errno) bool   { return false }

const (
	maxUnixPath      = 103
	abstractNames    = false
	optionsInherited = true
)

func sysBind(addr sockAddr, _, _ bool) (handle, sockAddr, error) { return 0, addr, ErrUnsupported }

func sysBindUnix(string, fs.FileMode) (handle, error)   { return 0, ErrUnsupported }
func sysListen(handle, int) error                       { return ErrUnsupported }
func sysDup(handle) (handle, error)                     { return 0, ErrUnsupported }
func sysInspect(handle) (bool, error)                   { return false, ErrUnsupported }
func sysUnblock(handle) error                           { return ErrUnsupported }
func sysLocalPath(handle) string                        { return "" }
func sysPeerPath(handle) string                         { return "" }
func sysAccept(handle) (handle, sockAddr, errno)        { return 0, sockAddr{}, errAgain }
func sysAcceptShared(handle) (handle, sockAddr, errno)  { return 0, sockAddr{}, errAgain }
func sysLocalAddr(handle) (sockAddr, error)             { return sockAddr{}, ErrUnsupported }
func sysRecv(handle, []byte) (int, errno)               { return 0, errAgain }
func sysSend(handle, []byte) (int, errno)               { return 0, errAgain }
func sysClose(handle)                                   {}
func sysCloseBlocking(handle)                           {}
func sysCloseWrite(handle) error                        { return ErrUnsupported }
func sysCloseRead(handle) error                         { return ErrUnsupported }
func sysUnread(handle) int                              { return 0 }
func sysSetNoDelay(handle, bool) error                  { return ErrUnsupported }
func sysSetLinger(handle, int) error                    { return ErrUnsupported }
func sysSetReadBuffer(handle, int) error                { return ErrUnsupported }
func sysSetWriteBuffer(handle, int) error               { return ErrUnsupported }
func sysSetKeepAlive(handle, net.KeepAliveConfig) error { return ErrUnsupported }
