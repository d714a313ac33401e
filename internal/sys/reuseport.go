//go:build (linux || darwin || dragonfly || netbsd || openbsd) && !sim

package sys

import "golang.org/x/sys/unix"

// SoReusePort is the socket option that Bind sets for reusePort.
const SoReusePort = unix.SO_REUSEPORT
