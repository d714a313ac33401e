//go:build sim

package agree

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// The end of both directions ends a connection, although its handlers are removed while the end of the stream arrives.
func TestEndIsNoticedWhileHandlersAreRemoved(t *testing.T) {
	runtime.GOMAXPROCS(1)
	for seed := range uint64(2000) {
		failure := ""
		synctest.Test(t, func(t *testing.T) {
			c := sched.Config{Seed: seed, Strategy: sched.Strategy{Depth: -1, Switch: 1 << (seed % 5)}}
			o := sched.Simulate(c, func() {
				sim.Boot(sim.Config{})
				server := new(tcpserver.TcpServer)
				socket, conn := mustConnect(server)
				socket.SetHandlers(&tcpserver.SocketHandlers{})
				socket.CloseWrite()
				sched.Go(func() { conn.CloseWrite() })
				for range sched.Intn(40) {
					sched.Point()
				}
				socket.SetHandlers(nil)
				if err := socket.WaitForDisconnected(sched.NewContext(time.Minute)); err != nil {
					sched.Fail("WaitForDisconnected: %v, state %v", err, socket.State())
				}
				conn.Close()
				server.Close()
			})
			failure = o.Failure
		})
		if failure != "" {
			t.Fatalf("seed %d: %s", seed, failure)
		}
	}
}
