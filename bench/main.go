// Bench compares echo servers: this library, the standard library, other event loops for Go, Qt, and a bare epoll loop
// in C as the upper limit. A server has one core and the load another. The rounds of all servers are interleaved. A
// figure is the median of its rounds, and a ratio is that of two medians.
//
//	cd bench && go run .
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	var l limits
	flag.IntVar(&l.rounds, "rounds", 15, "maximum number of rounds of a mode")
	flag.Float64Var(&l.spread, "spread", 0.1,
		fmt.Sprintf("after %d rounds, end a mode when the spread of each ratio is at most this", minRounds))
	flag.DurationVar(&l.time, "time", 35*time.Minute, "after this time, start no round of a mode that has had one")
	var (
		seconds = flag.Float64("seconds", 0.5, "seconds that the load runs to warm up and then to be measured")
		modes   = flag.String("modes", "", "comma-separated modes to measure (default all)")
		servers = flag.String("servers", "", "comma-separated servers to measure (default all)")
		out     = flag.String("out", "results", "directory that results.md and chart.svg are written to")
	)
	flag.Parse()
	if err := run(l, *seconds, selectNamed(allModes, *modes), selectNamed(allServers, *servers), *out); err != nil {
		log.Fatal(err)
	}
}

type named interface{ title() string }

// selectNamed returns the elements of all whose names are in the comma-separated list, or all if the list is empty.
func selectNamed[T named](all []T, list string) []T {
	if list == "" {
		return all
	}
	var some []T
	for name := range strings.SplitSeq(list, ",") {
		found := false
		for _, one := range all {
			if one.title() == name {
				some, found = append(some, one), true
			}
		}
		if !found {
			log.Fatalf("unknown mode or server %q", name)
		}
	}
	return some
}

func run(l limits, seconds float64, modes []mode, servers []server, out string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	servers, err = build(dir, servers)
	if err != nil {
		return err
	}
	var tables []*table
	for _, m := range available(modes) {
		tables = append(tables, newTable(m, m.servers(servers)))
	}
	s := schedule{
		tables:  tables,
		limits:  l,
		measure: func(s server, m mode) (sample, error) { return measure(dir, s, m, seconds) },
		elapsed: func() time.Duration { return time.Since(begin) },
		log:     os.Stderr,
	}
	if err := s.run(); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "results.md"), []byte(report(tables)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "chart.svg"), []byte(chart(tables)), 0o644)
}
