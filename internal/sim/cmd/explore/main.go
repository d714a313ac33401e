// Command explore looks for defects of the library on a simulated system, with seeds that nobody has tried, for as long
// as one likes:
//
//	go run ./internal/sim/cmd/explore -for 10m
//
// It runs one process for each processor. A program that fails is printed, shrunk, as a test that can be pasted into
// internal/sim/explore; the exit code is 1 then.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

var (
	duration  = flag.Duration("for", 10*time.Minute, "how long to look")
	first     = flag.Uint64("seed", rand.Uint64()>>16, "the first seed; a random one if it is not given")
	processes = flag.Int("processes", runtime.GOMAXPROCS(0), "how many processes")
)

// apart is how far the seeds of two processes are from each other.
const apart = 1 << 40

func main() {
	flag.Parse()
	if err := explore(); err != nil {
		fmt.Fprintln(os.Stderr, "explore:", err)
		os.Exit(1)
	}
}

// explore builds the tests of internal/sim/explore and runs them in several processes.
func explore() error {
	dir, err := os.MkdirTemp("", "explore")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "explore.test")
	build := exec.Command("go", "test", "-tags", "sim", "-c", "-o", binary,
		"github.com/pullaccept/tcpserver/internal/sim/explore")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	errs := make([]error, *processes)
	var all sync.WaitGroup
	for i := range *processes {
		all.Go(func() { errs[i] = run(binary, *first+uint64(i)*apart) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// run is one process.
func run(binary string, seed uint64) error {
	fmt.Printf("seeds from %d\n", seed)
	test := exec.Command(binary, "-test.v", "-test.run", "SeedsFindNothing", "-test.timeout", "0",
		"-seed", fmt.Sprint(seed), "-for", duration.String())
	test.Stdout, test.Stderr = os.Stdout, os.Stderr
	return test.Run()
}
