//go:build !sim

package sys

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// An FD is a socket. Only 32 bits of a handle are significant, on 64-bit systems too.
type FD uint32

const (
	// MaxUnixPath is the longest path of a unix socket, in bytes.
	MaxUnixPath = len(windows.RawSockaddrUnix{}.Path) - 1

	// HasReusePort reports whether several sockets can listen on one port.
	HasReusePort = false

	// HasFileModes reports whether the file of a unix socket has permission bits.
	HasFileModes = false

	// HasAbstractNames reports whether unix sockets may have names that are not files.
	HasAbstractNames = false

	// OptionsInherited reports whether accepted connections inherit the listener's TCP_NODELAY and keep-alive.
	OptionsInherited = false
)

// Constants of ws2_32.h and winsock2.h that package windows does not define.
const (
	ioctlNonblock = 0x8004667e // FIONBIO
	ioctlUnread   = 0x4004667f // FIONREAD

	soAcceptConn   = 0x2
	soType         = 0x1008
	soExclusiveUse = ^0x4 // SO_EXCLUSIVEADDRUSE

	fromProtocolInfo = -1 // FROM_PROTOCOL_INFO
)

var startWinsock = sync.OnceValue(func() error {
	const version = 0x202
	var data windows.WSAData
	return SyscallError("WSAStartup", windows.WSAStartup(version, &data))
})

func openSocket(family, protocol int) (FD, error) {
	if err := startWinsock(); err != nil {
		return 0, err
	}
	s, err := windows.WSASocket(int32(family), windows.SOCK_STREAM, int32(protocol), nil, 0, ownSocket)
	if err != nil {
		return 0, SyscallError("socket", err)
	}
	if err = setNonblock(FD(s)); err != nil {
		windows.Closesocket(s)
	}
	return FD(s), SyscallError("ioctlsocket", err)
}

// ownSocket are the flags of a socket that child processes do not inherit.
const ownSocket = windows.WSA_FLAG_OVERLAPPED | windows.WSA_FLAG_NO_HANDLE_INHERIT

func setNonblock(fd FD) error {
	var on, n uint32 = 1, 0
	return windows.WSAIoctl(windows.Handle(fd), ioctlNonblock, (*byte)(unsafe.Pointer(&on)), uint32(unsafe.Sizeof(on)),
		nil, 0, &n, nil, 0)
}

// bindSocket binds exclusively. Without the option, another process of the same user could bind the same address with
// SO_REUSEADDR, which does not mean what it means on Unix, and take the connections.
func bindSocket(fd FD, family int, addr Addr, _ bool) error {
	if err := setInt(fd, windows.SOL_SOCKET, soExclusiveUse, 1); err != nil {
		return err
	}
	var sa windows.Sockaddr = &windows.SockaddrInet6{Port: int(addr.Port), ZoneId: addr.zone, Addr: addr.ip}
	if family == windows.AF_INET {
		sa = &windows.SockaddrInet4{Port: int(addr.Port), Addr: addr.addr().As4()}
	}
	return SyscallError("bind", windows.Bind(windows.Handle(fd), sa))
}

// BindUnix returns a socket bound to a path. It looks for the directory because bind does not report a missing one.
func BindUnix(path string, _ fs.FileMode) (FD, error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return 0, err
	}
	fd, err := openSocket(windows.AF_UNIX, 0)
	if err == nil {
		if err = SyscallError("bind", windows.Bind(windows.Handle(fd), &windows.SockaddrUnix{Name: path})); err != nil {
			Close(fd)
		}
	}
	return fd, err
}

// Listen makes a bound socket listen, or changes the backlog of one that listens. If backlog is zero, it is the
// system's maximum.
func Listen(fd FD, backlog int) error {
	if backlog == 0 {
		backlog = windows.SOMAXCONN
	}
	return SyscallError("listen", windows.Listen(windows.Handle(fd), backlog))
}
