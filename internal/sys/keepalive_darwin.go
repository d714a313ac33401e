//go:build !sim

package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepIdle = unix.TCP_KEEPALIVE
	keepUnit = time.Second
)
