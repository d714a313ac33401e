package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A check is the tests of a package.
type check struct {
	name  string
	dir   string   // of the package, relative to that of the module; without tests there, there is no check
	flags []string // of go test
	args  []string // of the tests
	exact bool     // tests do not fail by chance
	only  kind     // of the mutants that are checked; "" means all
}

// checks are run in this order until one notices the mutant.
var checks = []check{
	{
		name: "simulation", dir: "internal/sim/explore", flags: []string{"-tags=sim"},
		args: []string{
			"-test.run=^(TestSeedsFindNothing|TestEachSystemCallFailsWithEachError)$", "-seeds=20000", "-shrink=0s",
		},
		exact: true,
	},
	{name: "scenarios", dir: "internal/sim/agree", flags: []string{"-tags=sim"}, exact: true},
	{name: "race", dir: ".", flags: []string{"-race"}, only: missedLock},
	{name: "tests", dir: "."},
	{name: "msgserver", dir: "msgserver"},
	{
		name: "simulation of msgserver", dir: "internal/sim/explore", flags: []string{"-tags=sim"},
		args: []string{"-test.run=^TestMessageSeedsFindNothing$", "-seeds=10000", "-shrink=0s"}, exact: true,
	},
	{name: "event", dir: "event"},
	{name: "msgserver race", dir: "msgserver", flags: []string{"-race"}, only: missedLock},
}

const (
	timeoutFactor = 4 // of the time that the unmutated code takes
	minTimeout    = 30 * time.Second
	killDelay     = 10 * time.Second // which a process has to end by itself
	maxRuns       = 3                // of a suite in which tests fail by chance
	maxReruns     = 2                // of a test that has failed
)

// A suite is a check that can be run.
type suite struct {
	check
	root string // the directory of the module

	// prepare builds and runs the unmutated code, when it is first called, and sets the fields below.
	prepare func() error
	sum     [sha256.Size]byte // of the unmutated code
	timeout time.Duration
}

// newSuites returns a suite for each check that has tests. Temporary files go to dir.
func newSuites(ctx context.Context, root, dir string) []*suite {
	var suites []*suite
	for _, c := range checks {
		tests, _ := filepath.Glob(filepath.Join(root, c.dir, "*_test.go"))
		if len(tests) == 0 {
			continue
		}
		s := &suite{check: c, root: root}
		s.prepare = sync.OnceValue(func() error { return s.measure(ctx, dir) })
		suites = append(suites, s)
	}
	return suites
}

func (s *suite) measure(ctx context.Context, dir string) error {
	dir, err := os.MkdirTemp(dir, "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, sum, err := s.build(ctx, dir, "")
	if err != nil {
		return fmt.Errorf("%s, not mutated: %w", s.name, err)
	}
	s.sum, s.timeout = sum, time.Hour
	var failed []string
	for range maxRuns {
		begin := time.Now()
		v, err := s.run(ctx, binary)
		if err != nil {
			return err
		}
		if !v.failed {
			s.timeout = max(timeoutFactor*time.Since(begin).Round(time.Second), minTimeout)
			return nil
		}
		failed = append(failed, v.tests...)
	}
	return fmt.Errorf("%s, not mutated: %d runs failed: %s", s.name, maxRuns, strings.Join(failed, ", "))
}

// build compiles the tests into dir, with the overlay if there is one. It returns the binary, and a checksum that
// depends only on the machine code. If the tests do not compile, the error is an *exec.ExitError.
func (s *suite) build(ctx context.Context, dir, overlay string) (binary string, sum [sha256.Size]byte, err error) {
	binary = filepath.Join(dir, "test.exe")
	args := append([]string{"test", "-c", "-o", binary, "-overlay", overlay, "-vet=off", "-buildvcs=false",
		"-ldflags=-s -w -buildid="}, s.flags...)
	cmd := command(ctx, 0, "go", append(args, "./"+s.dir)...)
	cmd.Dir = s.root
	out, err := cmd.CombinedOutput()
	if err = cmp.Or(ctx.Err(), err); err != nil {
		return "", sum, fmt.Errorf("%w: %s", err, out)
	}
	code, err := os.ReadFile(binary)
	return binary, sha256.Sum256(code), err
}

// A verdict tells how a run has ended.
type verdict struct {
	failed bool
	hung   bool
	sure   bool     // a panic or a data race, which does not happen by chance
	tests  []string // that failed
}

// What a run may take, so that a mutant cannot stop the machine.
const (
	heapLimit    = "2GiB"  // beyond it the garbage collector works harder
	addressLimit = 8 << 20 // of a process, in KiB
)

// run runs the tests until one fails. Their temporary files are next to the binary.
func (s *suite) run(ctx context.Context, binary string, args ...string) (verdict, error) {
	running, stop := context.WithTimeout(ctx, s.timeout+killDelay)
	defer stop()
	args = slices.Concat([]string{"-test.failfast", "-test.timeout=" + s.timeout.String()}, args, s.args)
	cmd := command(running, addressLimit, binary, args...)
	cmd.Dir = filepath.Join(s.root, s.dir)
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(binary), "GOMEMLIMIT="+heapLimit)
	out := &output{onFailure: stop}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if cmd.Process != nil {
		killGroup(cmd) // the tests may have left processes
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return verdict{}, ctx.Err()
	case err == nil:
		return verdict{}, nil
	case errors.As(err, &exit), errors.Is(err, exec.ErrWaitDelay):
		return newVerdict(out.tail, running.Err(), cmd.ProcessState.ExitCode()), nil
	}
	return verdict{}, err
}

// newVerdict judges the output and the exit code of tests that did not pass. If stopped is not nil, they were stopped,
// because one had failed or because the time was over.
func newVerdict(out []byte, stopped error, code int) verdict {
	v := verdict{failed: true}
	v.hung = stopped == context.DeadlineExceeded || bytes.Contains(out, []byte("panic: test timed out after "))
	v.sure = stopped == nil && code != 1 || bytes.Contains(out, []byte("WARNING: DATA RACE"))
	for _, m := range failedTest.FindAllSubmatch(out, -1) {
		if test := string(m[1]); !slices.Contains(v.tests, test) {
			v.tests = append(v.tests, test)
		}
	}
	return v
}

// failureMark begins the line of a test that failed.
const failureMark = "--- FAIL: "

// failedTest matches a line for a test that failed, or for one, perhaps within another, that was running when the time
// was over.
var failedTest = regexp.MustCompile(`(?m)^(?:` + failureMark + `|\t+)((?:Test|Example|Fuzz)\w*)(?:/\S*)? \(`)

// judge runs the suite on a mutant, unless its machine code is that of the original. It writes to r what it finds.
func (s *suite) judge(ctx context.Context, dir, overlay string, r *result) error {
	if err := s.prepare(); err != nil {
		return err
	}
	binary, sum, err := s.build(ctx, dir, overlay)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Outcome = broken
		return nil
	case err != nil, sum == s.sum:
		return err
	}
	v, doubtful, err := s.notices(ctx, binary)
	r.Outcome = survived
	r.Doubtful = append(r.Doubtful, doubtful...)
	if v.failed {
		r.Outcome, r.Check, r.Tests = noticed, s.name, v.tests
	}
	if v.hung {
		r.Outcome = timedOut
	}
	return err
}

// notices runs the suite until it notices the mutant, and then returns how. A test that fails must fail again, because
// tests that depend on time may fail without a reason. The tests that did not are returned as doubtful.
func (s *suite) notices(ctx context.Context, binary string) (v verdict, doubtful []string, err error) {
	for range maxRuns {
		v, err = s.run(ctx, binary, "-test.skip", anyOf(doubtful))
		if err != nil || !v.failed || s.exact || v.hung || v.sure {
			return v, doubtful, err
		}
		for range maxReruns {
			again, err := s.run(ctx, binary, "-test.run", anyOf(v.tests))
			if err != nil || again.failed {
				return v, doubtful, err
			}
		}
		doubtful = append(doubtful, v.tests...)
	}
	return verdict{}, doubtful, nil
}

// anyOf returns the pattern for tests with these names. Without names it is empty, which skips none, or runs all.
func anyOf(tests []string) string {
	if len(tests) == 0 {
		return ""
	}
	return "^(" + strings.Join(tests, "|") + ")$"
}

// output keeps the end of what tests write.
type output struct {
	tail      []byte
	onFailure func() // called when a test has failed: those beside it may hang
}

const maxTail = 1 << 20

func (o *output) Write(p []byte) (int, error) {
	o.tail = append(o.tail, p...)
	if len(o.tail) > 2*maxTail {
		o.tail = slices.Delete(o.tail, 0, len(o.tail)-maxTail)
	}
	if bytes.Contains(p, []byte(failureMark)) {
		o.onFailure()
	}
	return len(p), nil
}
