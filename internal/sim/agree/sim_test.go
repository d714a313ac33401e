//go:build sim

package agree

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

const (
	large   = 200_000
	tooMuch = 500_000
)

// systems are those that the simulated one can be like.
var systems = map[string]sim.Config{
	"epoll":           {},
	"epoll, segments": {Segments: 1000, SendBuffer: 5000, ReceiveBuffer: 5000},
	"kqueue":          {Style: sim.Kqueue, AbortInBacklog: true},
	"AFD":             {Style: sim.AFD, ResetDropsData: true},
	"AFD under Wine":  {Style: sim.AFD, ResetIsTaken: true},
}

func TestScenariosOnSimulatedSystem(t *testing.T) {
	runtime.GOMAXPROCS(1)
	for system, config := range systems {
		for _, sc := range scenarios {
			t.Run(system+"/"+sc.name, func(t *testing.T) {
				for seed := range uint64(50) {
					if failure := simulate(t, seed, config, sc); failure != "" {
						t.Fatalf("seed %d: %s", seed, failure)
					}
				}
			})
		}
	}
}

func simulate(t *testing.T, seed uint64, config sim.Config, sc scenario) (failure string) {
	want := strings.TrimPrefix(sc.want, "\n")
	got := ""
	failure = runSeed(t, seed, config, func() {
		s := newStage(t)
		sc.play(s)
		got = s.result()
		s.end()
	})
	if failure == "" && got != want {
		failure = fmt.Sprintf("got\n%s\nwant\n%s", got, want)
	}
	return failure
}

// runSeed runs f on a simulated system, with the schedule of a seed, and returns how it has failed.
func runSeed(t *testing.T, seed uint64, config sim.Config, f func()) (failure string) {
	synctest.Test(t, func(*testing.T) {
		c := sched.Config{Seed: seed, Strategy: sched.Strategy{Depth: -1, Switch: 1 << (seed % 5)}}
		o := sched.Simulate(c, func() {
			sim.Boot(config)
			f()
		})
		failure = o.Failure
	})
	return failure
}

// runSeeds runs f with the schedules of n seeds, and fails with the first one that does.
func runSeeds(t *testing.T, n uint64, config sim.Config, f func()) {
	t.Helper()
	runtime.GOMAXPROCS(1)
	for seed := range n {
		if failure := runSeed(t, seed, config, f); failure != "" {
			t.Fatalf("seed %d: %s", seed, failure)
		}
	}
}

func pause(d time.Duration) { sched.Sleep(d) }

func fail(_ *testing.T, format string, args ...any) { sched.Fail(format, args...) }

// A conn is a client of the simulated system.
type conn struct{ *sim.Conn }

func (s *stage) dial() client {
	c, err := sim.Dial(uint16(s.server.Port()))
	if err != nil {
		sched.Fail("dial: %v", err)
	}
	return conn{c}
}

func (c conn) Send(p []byte) error {
	_, err := c.Conn.Send(p)
	return err
}

func (c conn) Recv(p []byte) (int, error) {
	n, err := c.Conn.Recv(p)
	if err == syscall.ECONNRESET {
		err = errReset
	}
	return n, err
}
