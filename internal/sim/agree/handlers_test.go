//go:build sim

package agree

import (
	"runtime"
	"testing"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// The end of both directions ends a connection, although its handlers are removed while the end of the stream arrives.
func TestEndIsNoticedWhileHandlersAreRemoved(t *testing.T) {
	runtime.GOMAXPROCS(1)
	for seed := range uint64(2000) {
		failure := runSeed(t, seed, sim.Config{}, func() {
			server := new(tcpserver.TcpServer)
			socket, conn := mustConnect(server)
			socket.SetHandlers(&tcpserver.SocketHandlers{})
			socket.CloseWrite()
			sched.Go(func() { conn.CloseWrite() })
			points(40)
			socket.SetHandlers(nil)
			if err := socket.WaitForDisconnected(sched.NewContext(time.Minute)); err != nil {
				sched.Fail("WaitForDisconnected: %v, state %v", err, socket.State())
			}
			conn.Close()
			server.Close()
		})
		if failure != "" {
			t.Fatalf("seed %d: %s", seed, failure)
		}
	}
}
