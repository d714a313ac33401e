//go:build !sim

package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepIdle = unix.TCP_KEEPIDLE
	keepUnit = time.Millisecond
)
