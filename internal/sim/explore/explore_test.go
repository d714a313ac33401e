//go:build sim

package explore

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

var (
	first     = flag.Uint64("seed", 0, "the first seed")
	count     = flag.Int("seeds", 1000, "how many seeds")
	duration  = flag.Duration("for", 0, "go on for so long, in place of a number of seeds")
	traced    = flag.Int("trace", 0, "print so many of the last steps of a failure")
	shrinkFor = flag.Duration("shrink", 20*time.Second, "how long to look for a smaller program that fails")
	keep      = flag.Bool("keep", false, "go on after a failure")
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1) // one task runs at a time: a switch is cheap on one processor
	m.Run()
}

// run runs a program in a bubble of its own.
func run(t *testing.T, p *Program, trace bool) (o sched.Outcome) {
	synctest.Test(t, func(*testing.T) { o = Run(p, trace) })
	return o
}

// A program is a program of either kind.
type program[P any] interface {
	shrinkable[P]
	Source() string
}

// report fails the test with a failure that was shrunk and can be pasted.
func report[P program[P]](t *testing.T, run func(*testing.T, P, bool) sched.Outcome, p P, failure string) {
	t.Helper()
	t.Errorf("%s", head(failure))
	small := Shrink(p, *shrinkFor, func(q P) bool { return run(t, q, false).Failure != "" })
	o := run(t, small, true)
	t.Logf("shrunk: %s\nrun(t, %s, false)", head(o.Failure), small.Source())
	t.Log(strings.Join(o.Trace[max(0, len(o.Trace)-*traced):], "\n"))
}

// head returns the beginning of a failure, without the stacks of all tasks.
func head(failure string) string { return failure[:min(len(failure), 1500)] }

// findNothing runs the programs of the seeds that the flags ask for.
func findNothing[P program[P]](t *testing.T, run func(*testing.T, P, bool) sched.Outcome, generate func(uint64) P) {
	start, n, failed, steps, hash := time.Now(), 0, 0, 0, uint64(0)
	for ; n < *count && *duration == 0 || time.Since(start) < *duration; n++ {
		seed := *first + uint64(n)
		o := run(t, generate(seed), false)
		steps += o.Steps
		hash = hash*31 + o.Hash
		if o.Failure == "" {
			continue
		}
		failed++
		t.Logf("seed %d fails", seed)
		report(t, run, generate(seed), o.Failure)
		if !*keep {
			break
		}
	}
	rate := float64(n) / time.Since(start).Seconds()
	t.Logf("%d seeds from %d, %d failed, %.0f a second, %d steps each", n, *first, failed, rate, steps/max(n, 1))
	t.Logf("hash of all decisions: %016x", hash)
}

// isSame fails the test unless a run depends on nothing but its program.
func isSame[P program[P]](t *testing.T, run func(*testing.T, P, bool) sched.Outcome, generate func(uint64) P) {
	for seed := range uint64(min(*count, 1000)) {
		a, b := run(t, generate(seed), false), run(t, generate(seed), false)
		if a.Hash != b.Hash || a.Steps != b.Steps {
			t.Fatalf("seed %d: %x after %d steps, then %x after %d", seed, a.Hash, a.Steps, b.Hash, b.Steps)
		}
	}
}

// isSameInAnotherProcess fails the test unless that is true for several processes that run another test.
func isSameInAnotherProcess(t *testing.T, name string) {
	hashes := map[string]bool{}
	for range 3 {
		test := exec.Command(os.Args[0], "-test.v", "-test.run", "^"+name+"$", "-seeds", "300")
		out, err := test.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		hashes[regexp.MustCompile(`hash of all decisions: \w+`).FindString(string(out))] = true
	}
	if len(hashes) != 1 || hashes[""] {
		t.Fatalf("three processes have made different decisions: %v", hashes)
	}
}

func TestSeedsFindNothing(t *testing.T)     { findNothing(t, run, Generate) }
func TestSameSeedGivesSameRun(t *testing.T) { isSame(t, run, Generate) }

func TestSameSeedGivesSameRunInAnotherProcess(t *testing.T) {
	isSameInAnotherProcess(t, "TestSeedsFindNothing")
}
