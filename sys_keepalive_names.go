//go:build linux || freebsd || netbsd

package tcpserver

import (
	"time"

	"golang.org/x/sys/unix"
)

// The option for the time until the first probe, and the unit of times.
const (
	keepIdle = unix.TCP_KEEPIDLE
	keepUnit = time.Second
)
