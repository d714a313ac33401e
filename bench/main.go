// Bench measures echo servers beside each other: this library, the standard library, other event loops for Go, Qt, and
// a bare epoll loop in C as the limit. Each server has one core for itself and the load another; the rounds are
// interleaved, and the figures are medians.
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
)

func main() {
	log.SetFlags(0)
	var (
		rounds  = flag.Int("rounds", 5, "rounds, of which the median counts")
		seconds = flag.Float64("seconds", 1, "how long a server is measured in a round")
		modes   = flag.String("modes", "", "modes to measure, separated by commas; all by default")
		servers = flag.String("servers", "", "servers to measure, separated by commas; all by default")
		out     = flag.String("out", "results", "directory of the results")
	)
	flag.Parse()
	if err := run(*rounds, *seconds, selectNamed(allModes, *modes), selectNamed(allServers, *servers), *out); err != nil {
		log.Fatal(err)
	}
}

type named interface{ title() string }

// selectNamed returns those of all that the list names.
func selectNamed[T named](all []T, list string) []T {
	if list == "" {
		return all
	}
	var some []T
	for _, name := range strings.Split(list, ",") {
		found := false
		for _, one := range all {
			if one.title() == name {
				some, found = append(some, one), true
			}
		}
		if !found {
			log.Fatalf("there is no %q", name)
		}
	}
	return some
}

func run(rounds int, seconds float64, modes []mode, servers []server, out string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	servers, err = build(dir, servers)
	if err != nil {
		return err
	}
	var tables []table
	for _, m := range available(modes) {
		t := newTable(m, m.servers(servers))
		for round := range rounds {
			for i, s := range m.servers(servers) {
				fmt.Fprintf(os.Stderr, "%s, round %d, %s\n", m.name, round+1, s.name)
				sample, err := measure(dir, s, m, seconds)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", m.name, s.name, err)
				}
				t.rows[i].samples = append(t.rows[i].samples, sample)
			}
		}
		tables = append(tables, t)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "results.md"), []byte(report(tables)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "chart.svg"), []byte(chart(tables)), 0o644)
}
