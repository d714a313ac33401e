package tcpserver

import "golang.org/x/sys/unix"

// SO_REUSEPORT alone shares the port, but not the connections.
const soReusePort = unix.SO_REUSEPORT_LB
