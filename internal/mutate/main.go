// Mutate makes mutants of the core, each with one statement broken: a condition negated, a call dropped, a lock missed.
// It prints how they differ from the original:
//
//	go run ./internal/mutate                    # 300 mutants
//	go run ./internal/mutate -only read.go:123  # all of a line
//
// Mutants are made of the files that are compiled on this system. The seed selects them, evenly among files and kinds.
// Messages to a log, String and Error methods, and panics are not mutated.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
)

// options are the flags of the command.
type options struct {
	n        int
	seed     uint64
	packages string
	only     string
}

func main() {
	log.SetFlags(0)
	var o options
	flag.IntVar(&o.n, "n", 300, "number of mutants")
	flag.Uint64Var(&o.seed, "seed", 1, "selects the mutants")
	flag.StringVar(&o.packages, "packages", ".", "comma-separated directories of the packages to mutate")
	flag.StringVar(&o.only, "only", "", "print only the mutants whose names begin so: "+
		"file.go, file.go:LINE, file.go:LINE:COLUMN or 'file.go:LINE:COLUMN kind'")
	flag.Parse()
	if err := run(&o); err != nil {
		log.Fatal(err)
	}
}

func run(o *options) error {
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
	mutants := order(sources, o.seed)
	if o.only != "" {
		mutants = slices.DeleteFunc(mutants, func(m *mutant) bool { return !m.matches(o.only) })
		o.n = len(mutants)
	}
	for _, m := range mutants[:min(o.n, len(mutants))] {
		fmt.Println(m.diff())
	}
	return nil
}
