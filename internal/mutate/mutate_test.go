package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parse returns the sources of a package that has these files.
func parse(t *testing.T, texts map[string]string) []*source {
	t.Helper()
	sources, err := parsePackage(texts)
	require.NoError(t, err)
	return sources
}

// mutate returns the lines that mutants of one kind have in place of a function's body.
func mutate(t *testing.T, k kind, body ...string) []string {
	t.Helper()
	const before, after = "package p\n\nfunc (x *T) f() {\n", "\n}\n"
	var bodies []string
	for _, m := range parse(t, map[string]string{"x.go": before + strings.Join(body, "\n") + after})[0].mutants {
		if m.kind == k {
			text := strings.TrimSuffix(m.text()[strings.Index(m.text(), "f() {")+len("f() {"):], after)
			bodies = append(bodies, strings.TrimPrefix(text, "\n"))
		}
	}
	return bodies
}

func TestConditionsAreNegated(t *testing.T) {
	for was, is := range map[string]string{
		"if a < b { g(a) }":          "if !(a < b) { g(a) }",
		"if !ok() { g(a) }":          "if ok() { g(a) }",
		"if a, ok := g(); ok {}":     "if a, ok := g(); !(ok) {}",
		"for x.next() {}":            "for !(x.next()) {}",
		"for i := 0; i < n; i++ {}":  "for i := 0; !(i < n); i++ {}",
		"switch { case x.is(a): }":   "switch { case !(x.is(a)): }",
		"for { if a ||\nb { g() } }": "for { if !(a ||\nb) { g() } }",
	} {
		assert.Equal(t, []string{is}, mutate(t, negatedCondition, was))
	}
	assert.Empty(t, mutate(t, negatedCondition,
		"if a == b { g() }", // the other operator does the same
		"for {}", "switch a { case b: }", "select { case <-c: }"))
}

func TestCallsAreDropped(t *testing.T) {
	for was, is := range map[string]string{
		"g(1, 2)":                      "",
		"a := g(); x.y.g(a)":           "a := g(); ",
		"defer g()":                    "",
		"go g()":                       "",
		"defer func() {\n\ta = 1\n}()": "\n\n",
		"defer func() { g() }()":       "",
	} {
		assert.Equal(t, is, mutate(t, droppedCall, was)[0])
	}
	assert.Equal(t, []string{"\ng(b)", "g(a)\n"}, mutate(t, droppedCall, "g(a)", "g(b)"))
	assert.Empty(t, mutate(t, droppedCall, "<-c", "x.mu.Lock()", "defer x.mu.RUnlock()"))
}

func TestAssignmentsAreDropped(t *testing.T) {
	for _, was := range []string{
		"x.y = z", "x.y, x.z = z, y", "x.y |= z", "x.y &^= z", "x.y++", "a -= 1", "x.y[0] = z", "*x = y",
		"x = T{\n\ty: z,\n}",
	} {
		assert.Equal(t, []string{strings.Repeat("\n", strings.Count(was, "\n"))}, mutate(t, droppedAssignment, was))
	}
	assert.Equal(t, []string{"if ; a == b { g() }"}, mutate(t, droppedAssignment, "if a++; a == b { g() }"))
	assert.Empty(t, mutate(t, droppedAssignment, "a := b", "for ; a; a++ {}"))
}

func TestConstantsAreReplaced(t *testing.T) {
	for was, is := range map[string]string{
		"x.y = true":   "x.y = false",
		"g(false)":     "g(true)",
		"a = 0":        "a = 1",
		"a = 1":        "a = 0",
		"a = 2":        "a = 3",
		"a = 0xff":     "a = 256",
		"x.true = y":   "",
		"a = `1` + ``": "",
	} {
		if is == "" {
			assert.Empty(t, mutate(t, otherConstant, was))
			continue
		}
		assert.Equal(t, []string{is}, mutate(t, otherConstant, was))
	}
}

func TestFlagsAreReplacedByOthersOfTheirType(t *testing.T) {
	sources := parse(t, map[string]string{
		"flags.go": `package p

const (
	a flag = 1 << iota
	b
	c
	other kind = iota
	ab = a | b
)

const one flag = 1
`,
		"use.go": `package p

var v = x.b &^ (a | c | ab | other | one)
`,
	})
	var changes []string
	for _, s := range sources {
		for _, m := range s.mutants {
			if m.kind == otherConstant {
				changes = append(changes, fmt.Sprint(m.name(), " ", m.edits[0].text))
			}
		}
	}
	assert.Equal(t, []string{
		"flags.go:11:18 other constant 0",
		"use.go:3:17 other constant b",
		"use.go:3:21 other constant a",
	}, changes)
}

func TestOperatorsAreReplaced(t *testing.T) {
	for was, is := range map[string]string{
		"g(a < b)": "g(a <= b)", "g(a <= b)": "g(a < b)",
		"g(a > b)": "g(a >= b)", "g(a >= b)": "g(a > b)",
		"g(a == b)": "g(a != b)", "g(a != b)": "g(a == b)",
		"g(a && b)": "g(a || b)", "g(a || b)": "g(a && b)",
		"g(a + b)": "g(a - b)", "g(a - b)": "g(a + b)",
		"a += b": "a -= b", "a -= b": "a += b",
		"a |= b": "a &^= b", "a &^= b": "a |= b",
		"a++": "a--", "a--": "a++",
	} {
		assert.Equal(t, []string{is}, mutate(t, otherOperator, was))
	}
	assert.Equal(t, []string{"g(a || b && c)", "g(a && b || c)"}, mutate(t, otherOperator, "g(a && b && c)"))
	assert.Empty(t, mutate(t, otherOperator, "a = -b", "a := b * c", "for ; ; a++ {}"))
}

func TestLockIsMissedWithItsUnlocks(t *testing.T) {
	for _, c := range []struct {
		about string
		body  []string
		want  []string
	}{
		{"a pair", []string{"x.mu.Lock()", "g()", "x.mu.Unlock()"}, []string{"\ng()\n"}},
		{"a deferred call", []string{"x.mu.RLock()", "defer x.mu.RUnlock()", "g()"}, []string{"\n\ng()"}},
		{"an early return", []string{"x.mu.Lock()", "if a { x.mu.Unlock(); return }", "x.mu.Unlock()"},
			[]string{"\nif a { ; return }\n"}},
		{"two pairs", []string{"x.mu.Lock()", "x.mu.Unlock()", "x.mu.Lock()", "x.mu.Unlock()"},
			[]string{"\n\nx.mu.Lock()\nx.mu.Unlock()", "x.mu.Lock()\nx.mu.Unlock()\n\n"}},
		{"two mutexes", []string{"x.mu.Lock()", "y.mu.Lock()", "y.mu.Unlock()", "x.mu.Unlock()"},
			[]string{"\ny.mu.Lock()\ny.mu.Unlock()\n", "x.mu.Lock()\n\n\nx.mu.Unlock()"}},
		{"unlocked for a moment", []string{"x.mu.Lock()", "defer x.mu.Unlock()", "x.mu.Unlock()", "x.mu.Lock()"},
			[]string{"\n\n\n"}},
		{"two functions", []string{"x.mu.Lock()", "go func() { x.mu.Lock(); x.mu.Unlock() }()", "x.mu.Unlock()"},
			[]string{"\ngo func() { x.mu.Lock(); x.mu.Unlock() }()\n",
				"x.mu.Lock()\ngo func() { ;  }()\nx.mu.Unlock()"}},
		{"only locked", []string{"x.mu.Lock()"}, nil},
		{"only unlocked", []string{"x.mu.Unlock()"}, nil},
		{"locked by the caller", []string{"x.mu.Unlock()", "x.mu.Lock()"}, nil},
	} {
		assert.Equal(t, c.want, mutate(t, missedLock, c.body...), c.about)
	}
}

func TestCasesAreEmptied(t *testing.T) {
	assert.Equal(t, []string{
		"switch a {\ncase 1:\n\n\ndefault: g()\ncase 3:\n}",
		"switch a {\ncase 1:\ng()\nreturn\ndefault: \ncase 3:\n}",
	}, mutate(t, emptyCase, "switch a {", "case 1:", "g()", "return", "default: g()", "case 3:", "}"))
	assert.Empty(t, mutate(t, emptyCase, "select { case <-c: g() }"))
}

func TestFunctionsReturnEarly(t *testing.T) {
	assert.Equal(t, []string{" return;\ng()\nh()"}, mutate(t, earlyReturn, "g()", "h()"))
	assert.Equal(t, []string{"a = func() { return; g(); h() }"}, mutate(t, earlyReturn, "a = func() { g(); h() }"))
	assert.Empty(t, mutate(t, earlyReturn, "a = func() int { g(); return 1 }"))
}

func TestMessagesAreNotMutated(t *testing.T) {
	for _, body := range []string{
		`panic("a" + g(1))`, `if a < 1 { panic("impossible") }`, `x.logError("a", 1 + 2)`, `logger.Error("a", 1)`,
		`log.Print(true)`, `slog.Error("a", 1)`,
	} {
		for _, k := range []kind{negatedCondition, droppedCall, otherConstant, otherOperator} {
			assert.Empty(t, mutate(t, k, body))
		}
	}
	texts := "package p\nfunc (T) String() string { g(1); return a }\nfunc (T) Error() string { g(1); return a }\n"
	assert.Empty(t, parse(t, map[string]string{"x.go": texts})[0].mutants)
}

// core returns the sources of the package that the tool is for.
func core(t *testing.T) []*source {
	t.Helper()
	sources, err := readPackage(filepath.Join("..", ".."), ".")
	require.NoError(t, err)
	return sources
}

func names(mutants []*mutant) []string {
	var all []string
	for _, m := range mutants {
		all = append(all, m.name())
	}
	return all
}

func TestMutantsOfTheCore(t *testing.T) {
	all := order(core(t), 1)
	require.Greater(t, len(all), 1000)
	seen := map[string]bool{}
	for _, m := range all {
		for _, name := range []string{m.name(), m.id()} {
			require.False(t, seen[name], "two have the name %s", name)
			seen[name] = true
		}
		require.NotEmpty(t, m.lineChanges(), m.name())
		require.Equal(t, strings.Count(m.source.text, "\n"), strings.Count(m.text(), "\n"), m.name())
	}
}

func TestSelectionDependsOnTheSeedOnly(t *testing.T) {
	first := names(order(core(t), 1))
	assert.Equal(t, first, names(order(core(t), 1)))
	second := names(order(core(t), 2))
	assert.NotEqual(t, first[:100], second[:100])
	slices.Sort(first)
	slices.Sort(second)
	assert.Equal(t, first, second)
}

func TestSelectionIsSpreadOverFilesAndKinds(t *testing.T) {
	sources := core(t)
	statements := 0
	for _, s := range sources {
		statements += s.statements
	}
	const n = 300
	files, kinds := map[*source]int{}, map[kind]int{}
	for _, m := range order(sources, 1)[:n] {
		files[m.source]++
		kinds[m.kind]++
	}
	for _, s := range sources {
		assert.InDelta(t, float64(n*s.statements)/float64(statements), files[s], 2, s.path)
	}
	for k, number := range kinds {
		assert.InDelta(t, n/len(kinds), number, 4, k)
	}
}

func TestSelectionSurvivesMovedLines(t *testing.T) {
	changes := func(before string) []string {
		var all []string
		text := "package p\n" + before + "func f() { a(1); b(2); c(3); d(4) }\nfunc g() { a(1); b(2) }\n"
		for _, m := range order(parse(t, map[string]string{"x.go": text}), 1) {
			all = append(all, fmt.Sprint(m.kind, m.function, m.change()))
		}
		return all
	}
	assert.Equal(t, changes(""), changes("// A comment.\n\n"))
}

func TestResultsStayWhenTheFileIsEditedElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results")
	mutants := func(before string) []*mutant {
		text := before + "func f() { a(1); a(1); b(2) }\nfunc g() { a(1) }\n"
		return order(parse(t, map[string]string{"x.go": "package p\n" + text}), 1)
	}
	_, first, err := tryOut(t, mutants(""), file, 1, 50, 50)
	require.NoError(t, err)
	tested, second, err := tryOut(t, mutants("\n\n\n"), file, 1, 50, 50)
	require.NoError(t, err)
	assert.Empty(t, tested)
	require.Len(t, second, len(first))
	for i, name := range first {
		name = strings.NewReplacer("x.go:2", "x.go:5", "x.go:3", "x.go:6").Replace(name)
		assert.Equal(t, name, second[i], "its line has moved")
	}
}

func TestNameSelectsMutants(t *testing.T) {
	m := parse(t, map[string]string{"dir/x.go": "package p\nfunc f() { g(0) }\n"})[0].mutants[0]
	require.Equal(t, "dir/x.go:2:12 dropped call", m.name())
	for _, name := range []string{"dir/x.go", "dir/x.go:2", "dir/x.go:2:12", "dir/x.go:2:12 dropped", m.name()} {
		assert.True(t, m.matches(name), name)
	}
	for _, name := range []string{"x.go", "dir/x", "dir/x.go:2:1", "dir/x.go:2:12 drop", "dir/x.go:22"} {
		assert.False(t, m.matches(name), name)
	}
}

func TestDiffHasTheLinesThatDiffer(t *testing.T) {
	m := parse(t, map[string]string{"dir/x.go": "package p\n\nfunc f() { g() }\n"})[0].mutants[0]
	assert.Equal(t, "dir/x.go:3:12 dropped call, in f\n3\n-func f() { g() }\n+func f() {  }\n", m.diff())
}

func TestOverlayReplacesTheFile(t *testing.T) {
	dir := t.TempDir()
	m := parse(t, map[string]string{"dir/x.go": "package p\n\nfunc f() { g() }\n"})[0].mutants[0]
	path, err := m.writeOverlay("root", dir)
	require.NoError(t, err)
	mutated := filepath.Join(dir, "x.go")
	overlay, err := os.ReadFile(path)
	require.NoError(t, err)
	original := filepath.Join("root", "dir", "x.go")
	assert.JSONEq(t, fmt.Sprintf(`{"Replace":{%q:%q}}`, original, mutated), string(overlay))
	text, err := os.ReadFile(mutated)
	require.NoError(t, err)
	assert.Equal(t, m.text(), string(text))
}

// A fakeLab decides what becomes of a mutant by its name.
type fakeLab struct {
	outcome func(*mutant) outcome
	stop    int // after so many mutants
	tested  chan string
}

var errStopped = errors.New("stopped")

func (l *fakeLab) test(_ context.Context, m *mutant) (*result, error) {
	l.tested <- m.name()
	if len(l.tested) > l.stop {
		return nil, errStopped
	}
	return &result{Mutant: m.name(), Function: m.function, Change: m.change(), Nth: m.nth, Outcome: l.outcome(m)}, nil
}

// tryOut tests n of the mutants, but ends with an error after stop. It returns the names of those that it has tested,
// and of those that count.
func tryOut(t *testing.T, mutants []*mutant, file string, jobs, n, stop int) (tested, counted []string, err error) {
	t.Helper()
	known, err := readResults(file)
	require.NoError(t, err)
	lab := fakeLab{tested: make(chan string, len(mutants)), stop: stop, outcome: func(m *mutant) outcome {
		switch m.line % 3 {
		case 0:
			return broken
		case 1:
			return survived
		}
		return noticed
	}}
	s := session{try: lab.test, jobs: jobs, known: known, results: file, progress: io.Discard}
	results, err := s.run(t.Context(), mutants, n)
	for _, r := range results {
		if r.counts() {
			counted = append(counted, r.Mutant)
		}
	}
	close(lab.tested)
	for name := range lab.tested {
		tested = append(tested, name)
	}
	slices.Sort(counted)
	return tested, counted, err
}

func TestSessionTestsAsManyMutantsAsCount(t *testing.T) {
	mutants := order(core(t), 1)
	_, want, err := tryOut(t, mutants, filepath.Join(t.TempDir(), "results"), 1, 50, len(mutants))
	require.NoError(t, err)
	require.Len(t, want, 50)
	for range 10 {
		_, counted, err := tryOut(t, mutants, filepath.Join(t.TempDir(), "results"), 8, 50, len(mutants))
		require.NoError(t, err)
		require.Equal(t, want, counted)
	}
}

func TestSessionResumes(t *testing.T) {
	mutants := order(core(t), 1)
	file := filepath.Join(t.TempDir(), "results")
	first, _, err := tryOut(t, mutants, file, 1, 50, 20)
	require.ErrorIs(t, err, errStopped)
	require.Len(t, first, 21)
	second, counted, err := tryOut(t, mutants, file, 1, 50, len(mutants))
	require.NoError(t, err)
	require.Len(t, counted, 50)
	assert.Equal(t, first[20], second[0], "the one that had not ended")
	third, again, err := tryOut(t, mutants, file, 1, 50, len(mutants))
	require.NoError(t, err)
	assert.Empty(t, third)
	assert.Equal(t, counted, again)
}

func TestSessionEndsWithoutMutants(t *testing.T) {
	mutants := order(core(t), 1)[:10]
	tested, _, err := tryOut(t, mutants, filepath.Join(t.TempDir(), "results"), 4, 50, len(mutants))
	require.NoError(t, err)
	assert.Len(t, tested, 10)
}

func TestLastResultOfAMutantCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results")
	r := &result{Mutant: "x.go:1:2 kind", Change: "a"}
	for _, r.Outcome = range []outcome{survived, noticed} {
		require.NoError(t, appendResult(file, r))
	}
	require.NoError(t, appendResult(file, &result{Mutant: "x.go:1:2 kind", Change: "b", Outcome: broken}))
	results, err := readResults(file)
	require.NoError(t, err)
	require.Len(t, results, 2)
	assert.Equal(t, noticed, results[r.id()].Outcome)
}

func TestReportKeepsReasons(t *testing.T) {
	at := func(place, function string, o outcome) *result {
		return &result{Mutant: place + " other operator", Function: function, Change: "`a || b` → `a && b`", Outcome: o}
	}
	before := []*result{
		at("x.go:1:1", "f", survived), at("x.go:2:1", "f", survived), at("x.go:3:1", "g", survived),
		at("x.go:4:1", "h", noticed), at("x.go:5:1", "h", timedOut), at("x.go:6:1", "h", broken),
	}
	page := report(before, "")
	assert.Contains(t, page, "2 of 5 mutants were noticed (40.0%): ")
	for _, function := range []string{"f", "f", "g"} {
		end := "| " + function + " | `a \\|\\| b` → `a && b` |"
		require.Contains(t, page, end+"  |")
		page = strings.Replace(page, end+"  |", end+" Because of "+function+" \\| x. |", 1)
	}
	page = strings.Replace(page, "of f", "of f first", 1)
	assert.Equal(t, page, report(before, page))

	moved := report([]*result{at("x.go:7:1", "f", survived), at("x.go:9:1", "f", survived)}, page)
	assert.Regexp(t, `(?m)^\| x\.go:7:1 .* Because of f first \\\| x\. \|$`, moved)
	assert.Regexp(t, `(?m)^\| x\.go:9:1 .* Because of f \\\| x\. \|$`, moved)
	assert.NotContains(t, moved, "of g")
}

func TestVerdictNamesTests(t *testing.T) {
	failure := "ok\n--- FAIL: TestA (0.01s)\n    --- FAIL: TestA/sub (0.00s)\n--- FAIL: ExampleB_c (0.00s)\nFAIL\n"
	want := verdict{failed: true, tests: []string{"TestA", "ExampleB_c"}}
	assert.Equal(t, want, newVerdict([]byte(failure), nil, 1))
	assert.Equal(t, want, newVerdict([]byte(failure), context.Canceled, -1))

	timeout := "--- FAIL: TestA (9s)\npanic: test timed out after 9s\n\trunning tests:\n" +
		"\t\tTestB/sub#01 (1s)\n\t\tTestB/other (1s)\n\t\tTestC (1s)\n\nmain.go:1\n"
	got := newVerdict([]byte(timeout), nil, 2)
	assert.True(t, got.hung)
	assert.Equal(t, []string{"TestA", "TestB", "TestC"}, got.tests)
	assert.True(t, newVerdict(nil, context.DeadlineExceeded, -1).hung)

	assert.True(t, newVerdict([]byte("panic: x"), nil, 2).sure)
	assert.True(t, newVerdict([]byte("WARNING: DATA RACE\n"), nil, 1).sure)
}

// scriptVariable makes the test binary play tests. Its value is the path of a script.
const scriptVariable = "MUTATE_TEST_SCRIPT"

func TestMain(m *testing.M) {
	script := os.Getenv(scriptVariable)
	if script == "" {
		os.Exit(m.Run())
	}
	os.Exit(playTests(script))
}

// playTests plays a run of tests. The first line of the script has its exit code, or "hang", and the name of the test
// that fails; the next run finds the other lines.
func playTests(script string) int {
	text, err := os.ReadFile(script)
	if err != nil {
		return 3
	}
	line, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(script, []byte(rest), 0o600); err != nil {
		return 3
	}
	status, failed, _ := strings.Cut(line, " ")
	if failed != "" {
		fmt.Printf("--- FAIL: %s (0.00s)\n", failed)
	}
	if status == "hang" {
		time.Sleep(time.Hour)
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		return 3
	}
	return code
}

func TestFailureMustRepeat(t *testing.T) {
	for _, c := range []struct {
		about    string
		runs     []string
		exact    bool
		failed   bool
		doubtful []string
	}{
		{about: "passes", runs: []string{"0"}},
		{about: "fails again at once", runs: []string{"1 TestA", "1 TestA"}, failed: true},
		{about: "fails again later", runs: []string{"1 TestA", "0", "1 TestA"}, failed: true},
		{about: "fails by chance", runs: []string{"1 TestA", "0", "0", "0"}, doubtful: []string{"TestA"}},
		{about: "fails by chance, and another one does not",
			runs:   []string{"1 TestA", "0", "0", "1 TestB", "1 TestB"},
			failed: true, doubtful: []string{"TestA"}},
		{about: "fails always by chance",
			runs:     []string{"1 TestA", "0", "0", "1 TestB", "0", "0", "1 TestC", "0", "0"},
			doubtful: []string{"TestA", "TestB", "TestC"}},
		{about: "fails while others hang", runs: []string{"hang TestA", "1 TestA"}, failed: true},
		{about: "leaks", runs: []string{"1", "1"}, failed: true},
		{about: "crashes", runs: []string{"2 TestA"}, failed: true},
		{about: "fails in the simulation", runs: []string{"1 TestA"}, exact: true, failed: true},
	} {
		t.Run(c.about, func(t *testing.T) {
			binary, err := os.Executable()
			require.NoError(t, err)
			script := filepath.Join(t.TempDir(), "script")
			require.NoError(t, os.WriteFile(script, []byte(strings.Join(c.runs, "\n")), 0o600))
			t.Setenv(scriptVariable, script)
			t.Setenv("GORACE", "atexit_sleep_ms=0") // in place of a second
			s := &suite{check: check{exact: c.exact}, timeout: minTimeout}
			v, doubtful, err := s.notices(t.Context(), binary)
			require.NoError(t, err)
			assert.Equal(t, c.failed, v.failed)
			assert.Equal(t, c.doubtful, doubtful)
			rest, err := os.ReadFile(script)
			require.NoError(t, err)
			assert.Empty(t, string(rest), "runs that did not take place")
		})
	}
}

func TestOutputKeepsTheEnd(t *testing.T) {
	var out output
	for range 5 {
		n, err := out.Write(make([]byte, maxTail))
		require.NoError(t, err)
		require.Equal(t, maxTail, n)
	}
	out.Write([]byte("end"))
	assert.LessOrEqual(t, len(out.tail), 2*maxTail+3)
	assert.Equal(t, "end", string(out.tail[len(out.tail)-3:]))
}
