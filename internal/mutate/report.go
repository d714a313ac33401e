package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

const (
	reportFile = "internal/mutate/survivors.md"
	reportHead = `# Survivors

What was broken in the core without a test that noticed. ` + "`go run ./internal/mutate -report`" + ` writes this file,
and keeps the reasons, which are written by hand.

`
)

// report returns the table of the survivors, with the reasons that a previous report has.
func report(results []*result, previous string) string {
	reasons := readReasons(previous)
	var b strings.Builder
	b.WriteString(reportHead + summary(results) + "\n| Mutant | Function | Change | Reason |\n|---|---|---|---|\n")
	for _, r := range survivors(results) {
		reason := ""
		key := mutantKey(r.Mutant, r.Function, r.Change)
		if left := reasons[key]; len(left) > 0 {
			reason, reasons[key] = left[0], left[1:]
		}
		for _, cell := range []string{r.Mutant, r.Function, r.Change, reason} {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// readReasons returns the reasons in a report. Equal changes in a function have theirs in the order of the file.
func readReasons(report string) map[string][]string {
	const bar = "\x00" // stands for one within a cell
	reasons := map[string][]string{}
	for line := range strings.Lines(report) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, bar), "|")
		if len(cells) != 6 {
			continue
		}
		for i, cell := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cell, bar, "|"))
		}
		key := mutantKey(cells[1], cells[2], cells[3])
		reasons[key] = append(reasons[key], cells[4])
	}
	return reasons
}

// writeReport writes the report on results to a file.
func writeReport(path string, results []*result) error {
	previous, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(report(results, string(previous))), 0o644)
}

// present returns the results that are known of the mutants of the sources.
func present(sources []*source, known map[string]*result) []*result {
	var results []*result
	for _, s := range sources {
		for _, m := range s.mutants {
			if r, ok := known[m.id()]; ok {
				r.Mutant = m.name() // its line may have moved
				results = append(results, r)
			}
		}
	}
	return results
}
