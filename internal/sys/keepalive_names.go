//go:build (linux || freebsd || netbsd) && !sim

package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// keepIdle is the option for the time until the first probe; keepUnit is the unit of the times.
const (
	keepIdle = unix.TCP_KEEPIDLE
	keepUnit = time.Second
)
