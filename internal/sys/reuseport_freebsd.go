//go:build !sim

package sys

import "golang.org/x/sys/unix"

// SoReusePort is SO_REUSEPORT_LB: SO_REUSEPORT alone shares the port, but does not distribute the connections.
const SoReusePort = unix.SO_REUSEPORT_LB
