//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows || sim)

package sys

import (
	"errors"
	"io/fs"
	"net"
)

// These declarations let the portable code compile. Nothing calls them: Listen fails before.

type FD int32

type Errno uintptr

func (e Errno) Error() string { return errors.ErrUnsupported.Error() }

const (
	EAGAIN Errno = 1
	EINTR  Errno = 2
)

var ResetErrnos []error

func IsReset(Errno) bool     { return false }
func IsReleasing(error) bool { return false }
func IsExhausted(Errno) bool { return false }
func IsTransient(Errno) bool { return false }

const (
	MaxUnixPath      = 103
	HasReusePort     = false
	HasFileModes     = false
	HasAbstractNames = false
	OptionsInherited = true
)

func Bind(addr Addr, _, _ bool) (FD, Addr, error) { return 0, addr, errors.ErrUnsupported }

func BindUnix(string, fs.FileMode) (FD, error)   { return 0, errors.ErrUnsupported }
func Listen(FD, int) error                       { return errors.ErrUnsupported }
func Dup(FD) (FD, error)                         { return 0, errors.ErrUnsupported }
func IsListening(FD) (bool, error)               { return false, errors.ErrUnsupported }
func SetNonblock(FD) error                       { return errors.ErrUnsupported }
func LocalPath(FD) string                        { return "" }
func PeerPath(FD) string                         { return "" }
func Accept(FD) (FD, Addr, Errno)                { return 0, Addr{}, EAGAIN }
func HasConnection(FD) (bool, Errno)             { return false, EAGAIN }
func AcceptShared(FD) (FD, Addr, Errno)          { return 0, Addr{}, EAGAIN }
func LocalAddr(FD) (Addr, error)                 { return Addr{}, errors.ErrUnsupported }
func Recv(FD, []byte) (int, Errno)               { return 0, EAGAIN }
func Send(FD, []byte) (int, Errno)               { return 0, EAGAIN }
func Close(FD)                                   {}
func CloseBlocking(FD)                           {}
func CloseWrite(FD) error                        { return errors.ErrUnsupported }
func CloseRead(FD) error                         { return errors.ErrUnsupported }
func Unread(FD) int                              { return 0 }
func SetNoDelay(FD, bool) error                  { return errors.ErrUnsupported }
func SetLinger(FD, int) error                    { return errors.ErrUnsupported }
func SetReadBuffer(FD, int) error                { return errors.ErrUnsupported }
func SetWriteBuffer(FD, int) error               { return errors.ErrUnsupported }
func SetKeepAlive(FD, net.KeepAliveConfig) error { return errors.ErrUnsupported }
