// Mutate measures what the tests notice. It makes mutants of the core, each with one statement broken: a condition
// negated, a call dropped, a lock missed. Then it runs the tests. A mutant that passes all of them, a survivor, either
// does no harm or shows that a test is missing.
//
// It runs in the directory of the module:
//
//	go run ./internal/mutate                    # as many of 300 mutants as have no result yet
//	go run ./internal/mutate -report            # writes internal/mutate/survivors.md
//	go run ./internal/mutate -only read.go:123  # the mutants of a line, again
//	go run ./internal/mutate -again             # the survivors, after tests were added
//
// A mutant takes a few seconds to compile and then, on average, about twice as long as the tests take, because some
// tests wait for what does not happen. 300 mutants take some hours. Each result is appended to
// internal/mutate/results.jsonl at once, so that a run can be interrupted, and continued with the same command. Results
// stay valid for mutants whose statement and function are still there; remove the file to begin anew. The files of the
// module do not change: the go command is given an overlay. They should not be edited meanwhile either.
//
// Mutants are made of the files that are compiled on this system. The seed selects them, evenly among files and kinds.
// Those that do not compile, and those whose machine code is that of the original, do not count. A test that fails is
// run again, and counts if it fails again. Messages to a log, String and Error methods, and panics are not mutated.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are the flags of the command.
type options struct {
	n        int
	seed     uint64
	jobs     int
	packages string
	only     string
	results  string
	show     bool
	again    bool
	report   bool
}

func main() {
	log.SetFlags(0)
	var o options
	flag.IntVar(&o.n, "n", 300, "number of mutants")
	flag.Uint64Var(&o.seed, "seed", 1, "selects the mutants")
	flag.IntVar(&o.jobs, "jobs", 2, "number of mutants that are tested at a time")
	flag.StringVar(&o.packages, "packages", ".", "comma-separated directories of the packages to mutate")
	flag.StringVar(&o.only, "only", "", "test only the mutants whose names begin so, with or without a result: "+
		"file.go, file.go:LINE, file.go:LINE:COLUMN or 'file.go:LINE:COLUMN kind'")
	flag.StringVar(&o.results, "results", "internal/mutate/results.jsonl", "file that results are appended to")
	flag.BoolVar(&o.show, "show", false, "print how the mutants differ from the original, and test none")
	flag.BoolVar(&o.again, "again", false, "test those again that have survived")
	flag.BoolVar(&o.report, "report", false, "write "+reportFile+", and test none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, &o)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o *options) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	var sources []*source
	for dir := range strings.SplitSeq(o.packages, ",") {
		pkg, err := readPackage(root, dir)
		if err != nil {
			return err
		}
		sources = append(sources, pkg...)
	}
	known, err := readResults(o.results)
	if err != nil {
		return err
	}
	if o.report {
		return writeReport(reportFile, present(sources, known))
	}
	mutants := order(sources, o.seed)
	if o.only != "" {
		mutants = slices.DeleteFunc(mutants, func(m *mutant) bool { return !m.matches(o.only) })
		o.n = len(mutants)
		clear(known)
	}
	if o.again {
		maps.DeleteFunc(known, func(_ string, r *result) bool { return r.Outcome == survived })
	}
	if o.show {
		for _, m := range mutants[:min(o.n, len(mutants))] {
			fmt.Println(m.diff())
		}
		return nil
	}
	return testMutants(ctx, o, root, mutants, known)
}

// testMutants tests those that are not known, and prints a summary of all.
func testMutants(ctx context.Context, o *options, root string, mutants []*mutant, known map[string]*result) error {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := laboratory{root, dir, newSuites(ctx, root, dir)}
	s := session{try: l.test, jobs: o.jobs, known: known, results: o.results, progress: os.Stderr}
	results, err := s.run(ctx, mutants, o.n)
	fmt.Print(summary(results))
	for _, r := range survivors(results) {
		fmt.Println(r)
	}
	return err
}
