package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"time"
)

// A session tests mutants.
type session struct {
	try      func(context.Context, *mutant) (*result, error) // tests one
	jobs     int                                             // how many are tested at a time
	known    map[string]*result                              // which need not be tested, by their ids
	results  string                                          // the file that each new result is appended to
	progress io.Writer                                       // gets a line for each new result
}

// run tests the mutants in their order until n of them count, and returns the results. Which mutants those are does not
// depend on the number of jobs, nor on what is known.
func (s *session) run(ctx context.Context, mutants []*mutant, n int) (results []*result, err error) {
	type attempt struct {
		*result
		err error
	}
	done := make(chan attempt)
	active, counted := 0, 0
	add := func(r *result) {
		results = append(results, r)
		if r.counts() {
			counted++
		}
	}
	for {
		for err == nil && active < s.jobs && counted+active < n && len(mutants) > 0 {
			m := mutants[0]
			mutants = mutants[1:]
			if r, ok := s.known[m.id()]; ok {
				r.Mutant = m.name() // its line may have moved
				add(r)
				continue
			}
			active++
			go func() {
				r, err := s.try(ctx, m)
				done <- attempt{r, err}
			}()
		}
		if active == 0 {
			return results, err
		}
		a := <-done
		active--
		if a.err == nil {
			add(a.result)
			fmt.Fprintf(s.progress, "%d of %d: %v\n", counted, n, a.result)
			a.err = appendResult(s.results, a.result)
		}
		err = cmp.Or(err, a.err)
	}
}

// A laboratory is where mutants are tested.
type laboratory struct {
	root   string // the directory of the module
	dir    string // for temporary files
	suites []*suite
}

// test runs the suites until one notices the mutant.
func (l *laboratory) test(ctx context.Context, m *mutant) (*result, error) {
	begin := time.Now()
	dir, err := os.MkdirTemp(l.dir, "")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.writeOverlay(l.root, dir)
	if err != nil {
		return nil, err
	}
	r := &result{Mutant: m.name(), Function: m.function, Change: m.change(), Nth: m.nth, Outcome: identical}
	for _, s := range l.suites {
		if s.only != "" && s.only != m.kind {
			continue
		}
		if err := s.judge(ctx, dir, overlay, r); err != nil {
			return nil, err
		}
		if r.Outcome != identical && r.Outcome != survived {
			break
		}
	}
	r.Seconds = math.Round(time.Since(begin).Seconds())
	return r, nil
}
