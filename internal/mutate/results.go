package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// An outcome is what has become of a mutant.
type outcome string

const (
	noticed   outcome = "noticed"
	timedOut  outcome = "timeout" // which is noticed, too
	survived  outcome = "survived"
	broken    outcome = "broken"    // it does not compile
	identical outcome = "identical" // it has the machine code of the unmutated source
)

// A result is a line of the results file.
type result struct {
	Mutant   string   `json:"mutant"`
	Function string   `json:"function"`
	Change   string   `json:"change"`
	Nth      int      `json:"nth,omitempty"`
	Outcome  outcome  `json:"outcome"`
	Check    string   `json:"check,omitempty"`    // that has noticed it
	Tests    []string `json:"tests,omitempty"`    // that failed, or were running at the timeout
	Doubtful []string `json:"doubtful,omitempty"` // tests that failed, but not when they were run again
	Seconds  float64  `json:"seconds"`
}

// counts reports whether the mutant was one.
func (r *result) counts() bool { return r.Outcome != broken && r.Outcome != identical }

// id is that of the mutant.
func (r *result) id() string { return numbered(mutantKey(r.Mutant, r.Function, r.Change), r.Nth) }

// String is for the progress, and for the list of survivors.
func (r *result) String() string {
	how := string(r.Outcome)
	if r.Check != "" {
		how += " by " + r.Check
	}
	if len(r.Tests) > 0 {
		how += " (" + strings.Join(r.Tests, ", ") + ")"
	}
	if len(r.Doubtful) > 0 {
		how += ", after a failure of " + strings.Join(r.Doubtful, ", ")
	}
	return fmt.Sprintf("%s in %s: %s: %s, %.0f s", r.Mutant, r.Function, r.Change, how, r.Seconds)
}

// readResults returns the results in a file, by their ids. Of several for one mutant it returns the last. Without the
// file there are none.
func readResults(path string) (map[string]*result, error) {
	results := map[string]*result{}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return results, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for d := json.NewDecoder(file); ; {
		var r result
		switch err := d.Decode(&r); err {
		case nil:
			results[r.id()] = &r
		case io.EOF:
			return results, nil
		default:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// appendResult appends r to a file.
func appendResult(path string, r *result) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	e := json.NewEncoder(file)
	e.SetEscapeHTML(false)
	err = e.Encode(r)
	return cmp.Or(err, file.Close())
}

// summary counts the results by what has noticed the mutants.
func summary(results []*result) string {
	outcomes, by := map[outcome]int{}, map[string]int{}
	for _, r := range results {
		outcomes[r.Outcome]++
		if r.Outcome == noticed {
			by[r.Check]++
		}
	}
	found := outcomes[noticed] + outcomes[timedOut]
	all := found + outcomes[survived]
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d mutants were noticed", found, all)
	if all > 0 {
		fmt.Fprintf(&b, " (%.1f%%)", 100*float64(found)/float64(all))
	}
	sep := ": "
	for _, c := range checks {
		if n := by[c.name]; n > 0 {
			fmt.Fprintf(&b, "%s%d by %s", sep, n, c.name)
			sep = ", "
		}
	}
	if n := outcomes[timedOut]; n > 0 {
		fmt.Fprintf(&b, "%s%d by a timeout", sep, n)
	}
	fmt.Fprintf(&b, ".\n%d others did not compile, and %d had the machine code of the original.\n",
		outcomes[broken], outcomes[identical])
	return b.String()
}

// survivors returns the results of the mutants that no check has noticed.
func survivors(results []*result) []*result {
	var some []*result
	for _, r := range results {
		if r.Outcome == survived {
			some = append(some, r)
		}
	}
	return some
}
