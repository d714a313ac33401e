//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxUnixPath is how many bytes the path of a unix socket may have.
const maxUnixPath = len(unix.RawSockaddrUnix{}.Path) - 1

func bindSocket(fd handle, family int, addr sockAddr, reusePort bool) error {
	if reusePort {
		if err := setInt(fd, unix.SOL_SOCKET, soReusePort, 1); err != nil {
			return err
		}
	}
	if err := sysSetNoDelay(fd, true); err != nil {
		return err
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.port), ZoneId: addr.zone, Addr: addr.ip}
	if family == unix.AF_INET {
		sa = &unix.SockaddrInet4{Port: int(addr.port), Addr: addr.addr().As4()}
	}
	return bindExclusive(fd, sa)
}

// bindExclusive binds so that nobody else can bind the same address, also before listening. Linux lets two sockets
// bind one port if both carry SO_REUSEADDR, and has the second fail at listen; without it, connections of an earlier
// server that are in TIME_WAIT keep the port. So it is set only for a bind that has failed otherwise, and taken back.
func bindExclusive(fd handle, sa unix.Sockaddr) error {
	err := unix.Bind(int(fd), sa)
	if err == unix.EADDRINUSE {
		if err := setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		if err = unix.Bind(int(fd), sa); err == nil {
			return setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
		}
	}
	return os.NewSyscallError("bind", err)
}

// sysBindUnix returns a descriptor bound to a path, or to an abstract name that begins with '@'. mode 0 leaves the
// permissions of the file to the umask.
func sysBindUnix(path string, mode fs.FileMode) (handle, error) {
	fd, err := openSocket(unix.AF_UNIX, 0)
	if err == nil {
		if err = bindUnix(int(fd), path, uint32(mode.Perm())); err != nil {
			sysClose(fd)
		}
	}
	return fd, err
}

// bindUnix narrows the permissions before there is a file, so that it never has wider ones, and widens them after.
func bindUnix(fd int, path string, mode uint32) error {
	if mode != 0 && modeBeforeBind {
		if err := unix.Fchmod(fd, mode); err != nil {
			return os.NewSyscallError("fchmod", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if mode != 0 {
		if err := unix.Chmod(path, mode); err != nil {
			unix.Unlink(path)
			return os.NewSyscallError("chmod", err)
		}
	}
	return nil
}

// sysListen has a bound descriptor listen, or changes the backlog of one that does. backlog 0 is the system's
// maximum.
func sysListen(fd handle, backlog int) error {
	// Accepted connections inherit it: the port can be bound again while they are in TIME_WAIT.
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if backlog == 0 {
		backlog = math.MaxInt32 // the kernel cuts it down to net.core.somaxconn
	}
	return os.NewSyscallError("listen", unix.Listen(int(fd), backlog))
}

func sysDup(fd handle) (handle, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return handle(n), os.NewSyscallError("fcntl", err)
}

// sysInspect reports whether a descriptor that was bound elsewhere listens already.
func sysInspect(fd handle) (listening bool, err error) {
	kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	if kind != unix.SOCK_STREAM {
		return false, fmt.Errorf("%w: not a stream socket", syscall.EPROTOTYPE)
	}
	if _, err := unix.Getpeername(int(fd)); err == nil {
		return false, fmt.Errorf("%w: a connection does not listen", syscall.EISCONN)
	}
	accepts, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	return accepts != 0, nil
}

// sysUnblock puts the open file description of fd into non-blocking mode, for all that have it.
func sysUnblock(fd handle) error { return os.NewSyscallError("fcntl", unix.SetNonblock(int(fd), true)) }

// sysAcceptShared is sysAccept for an open file description that others have too. O_NONBLOCK belongs to the description:
// it is set again if somebody has cleared it.
func sysAcceptShared(fd handle) (handle, sockAddr, errno) {
	state := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(state, 0)
	for err == unix.EINTR {
		n, err = unix.Poll(state, 0)
	}
	if err == nil && n == 0 {
		return 0, sockAddr{}, errAgain
	}
	if err == nil {
		err = keepNonblock(int(fd))
	}
	if e, _ := err.(errno); e != 0 {
		return 0, sockAddr{}, e
	}
	return acceptTold(fd)
}

func keepNonblock(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_NONBLOCK == 0 {
		err = unix.SetNonblock(fd, true)
	}
	return err
}

// sysLocalPath and sysPeerPath return the name of a unix socket, "" if it has none. An abstract one begins with '@'.
func sysLocalPath(fd handle) string { return unixPath(unix.Getsockname(int(fd))) }
func sysPeerPath(fd handle) string  { return unixPath(unix.Getpeername(int(fd))) }

func unixPath(sa unix.Sockaddr, err error) string {
	if sa, ok := sa.(*unix.SockaddrUnix); ok && err == nil && !(abstractNames && sa.Name == "@") {
		return sa.Name
	}
	return ""
}
