//go:build linux || darwin || dragonfly || netbsd || openbsd

package tcpserver

import "golang.org/x/sys/unix"

const soReusePort = unix.SO_REUSEPORT
