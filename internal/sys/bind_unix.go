//go:build (linux || darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

import (
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// MaxUnixPath is the longest path of a unix socket, in bytes.
	MaxUnixPath = len(unix.RawSockaddrUnix{}.Path) - 1

	// HasReusePort reports whether several sockets can listen on one port.
	HasReusePort = true

	// HasFileModes reports whether the file of a unix socket has permission bits.
	HasFileModes = true
)

func bindSocket(fd FD, family int, addr Addr, reusePort bool) error {
	if reusePort {
		if err := setInt(fd, unix.SOL_SOCKET, SoReusePort, 1); err != nil {
			return err
		}
	}
	if err := SetNoDelay(fd, true); err != nil {
		return err
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.Port), ZoneId: addr.zone, Addr: addr.ip}
	if family == unix.AF_INET {
		sa = &unix.SockaddrInet4{Port: int(addr.Port), Addr: addr.addr().As4()}
	}
	return bindExclusive(fd, sa)
}

// bindExclusive binds so that nobody else can bind the same address, even before Listen. If two sockets have
// SO_REUSEADDR, Linux lets both bind one port, and listen fails for the second. Without the option, connections of an
// earlier server in TIME_WAIT keep the port. So bindExclusive sets it only after a bind that has failed, and clears it
// afterwards.
func bindExclusive(fd FD, sa unix.Sockaddr) error {
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

// BindUnix returns a socket bound to a path or, on Linux, to an abstract name that begins with '@'. If mode is zero,
// the umask determines the permissions of the file.
func BindUnix(path string, mode fs.FileMode) (FD, error) {
	fd, err := openSocket(unix.AF_UNIX, 0)
	if err == nil {
		if err = bindUnix(int(fd), path, uint32(mode.Perm())); err != nil {
			Close(fd)
		}
	}
	return fd, err
}

// bindUnix sets the permissions before the file exists, where that is possible, so that they are never wider than mode;
// and once more afterwards, because the umask may have narrowed them.
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

// Listen makes a bound socket listen, or changes the backlog of one that listens. If backlog is zero, it is the
// system's maximum.
func Listen(fd FD, backlog int) error {
	// Accepted connections inherit the option: the port can be bound again while they are in TIME_WAIT.
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if backlog == 0 {
		backlog = math.MaxInt32 // the kernel limits it to net.core.somaxconn
	}
	return os.NewSyscallError("listen", unix.Listen(int(fd), backlog))
}
