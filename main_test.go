package tcpserver_test

import (
	"testing"

	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end: the poller ends with its last user.
func TestMain(m *testing.M) {
	if playRole() {
		return
	}
	servertest.Main(m)
}
