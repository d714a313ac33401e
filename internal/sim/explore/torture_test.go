//go:build sim

package explore

import (
	"flag"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

var scenarios = flag.Int("scenarios", 100, "how many scenarios are run again with each system call failing")

// scenario returns a program in which nothing fails by itself, and little is left to chance.
func scenario(seed uint64) *Program {
	p := Generate(seed)
	p.Schedule = sched.Strategy{Depth: -1}
	p.Stalls = false
	p.System.FaultEvery, p.System.Files = 0, 0
	return p
}

// Each system call of each scenario fails once with each error that it can return.
func TestEachSystemCallFailsWithEachError(t *testing.T) {
	runs, failures := 0, 0
	for seed := range uint64(*scenarios) {
		calls := callsOf(t, scenario(seed))
		for i, call := range calls {
			for _, errno := range faults[call] {
				p := scenario(seed)
				p.System.FaultAt, p.System.Fault = i+1, errno
				runs++
				if o := run(t, p, false); o.Failure != "" {
					failures++
					t.Errorf("scenario %d, call %d (%v) fails with %v: %.600s", seed, i+1, call, errno, o.Failure)
				}
				if failures > 5 {
					t.FailNow()
				}
			}
		}
	}
	t.Logf("%d runs", runs)
}

// callsOf returns the system calls of a run.
func callsOf(t *testing.T, p *Program) (calls []sim.Call) {
	synctest.Test(t, func(*testing.T) {
		o := sched.Simulate(p.config(false), func() {
			w := newWorld(p)
			w.k.Fault = func(_ int, c sim.Call) syscall.Errno {
				calls = append(calls, c)
				return 0
			}
			w.run()
		})
		if o.Failure != "" {
			t.Fatalf("without a fault: %s", o.Failure)
		}
	})
	return calls
}
