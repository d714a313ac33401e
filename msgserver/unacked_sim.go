//go:build sim

package msgserver

import "github.com/pullaccept/tcpserver/internal/sim"

// unackedBytes returns how many bytes the simulated system has taken and the peer has not received, and the peer's
// receive window.
func unackedBytes(fd uintptr) (unacked, window int64, known bool) {
	u, w, known := sim.Unacked(int(fd))
	return int64(u), int64(w), known
}
