package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A kind is a way to break a statement.
type kind string

const (
	negatedCondition  kind = "negated condition"  // of an if, a for, or a case of a switch without a value
	droppedCall       kind = "dropped call"       // a statement that is a call, defer or go
	droppedAssignment kind = "dropped assignment" // =, an operator with =, ++ or --
	otherConstant     kind = "other constant"     // true for false, n+1 for n, the next flag for a flag
	otherOperator     kind = "other operator"     // < for <=, && for ||, + for -
	missedLock        kind = "missed lock"        // no Lock, and none of the Unlocks that belong to it
	emptyCase         kind = "empty case"         // the case of a switch does nothing
	earlyReturn       kind = "early return"       // a function without results does nothing
)

// An edit replaces the bytes from:to of a file by text, which has as many line breaks.
type edit struct {
	from, to int
	text     string
}

// A mutant is the source of the library with one statement broken.
type mutant struct {
	source    *source
	line, col int
	kind      kind
	function  string // in which it is; "" for the declaration of a variable or constant
	edits     []edit // in the order of the file

	nth int // how many like it come before: of the same kind and change, in the same function
}

// name identifies the mutant among those of the same source.
func (m *mutant) name() string {
	return fmt.Sprintf("%s:%d:%d %s", m.source.path, m.line, m.col, m.kind)
}

// id identifies the mutant without its line, so that its result stays when the file is edited elsewhere.
func (m *mutant) id() string { return numbered(m.key(), m.nth) }

// key is what mutants of the same kind and change in a function have in common.
func (m *mutant) key() string { return mutantKey(m.name(), m.function, m.change()) }

// mutantKey returns the key of a mutant.
func mutantKey(name, function, change string) string {
	place, kind, _ := strings.Cut(name, " ")
	file, _, _ := strings.Cut(place, ":")
	return strings.Join([]string{file, kind, function, change}, "\n")
}

func numbered(key string, nth int) string { return fmt.Sprint(key, "\n", nth) }

// matches reports whether name is that of m, or a beginning of it that ends with a whole word or number.
func (m *mutant) matches(name string) bool {
	rest, ok := strings.CutPrefix(m.name(), name)
	return ok && (rest == "" || rest[0] == ':' || rest[0] == ' ')
}

// rank orders the mutants of a file and kind by chance. It depends on what is broken, not on the line, so that a change
// elsewhere in the file leaves most of a selection as it was.
func (m *mutant) rank(seed uint64) string {
	sum := sha256.Sum256(fmt.Append(nil, seed, m.source.path, m.kind, m.function, m.change()))
	return string(sum[:])
}

// text returns the mutated file.
func (m *mutant) text() string { return m.part(0, len(m.source.text)) }

// part returns what becomes of the bytes from:to of the file, among which are those of all edits.
func (m *mutant) part(from, to int) string {
	var b strings.Builder
	for _, e := range m.edits {
		b.WriteString(m.source.text[from:e.from])
		b.WriteString(e.text)
		from = e.to
	}
	b.WriteString(m.source.text[from:to])
	return b.String()
}

// A lineChange is a line before and after the mutation.
type lineChange struct {
	number  int
	was, is string
}

func (m *mutant) lineChanges() []lineChange {
	text, end := m.source.text, m.edits[len(m.edits)-1].to
	from := strings.LastIndexByte(text[:m.edits[0].from], '\n') + 1
	rest, _, _ := strings.Cut(text[end:], "\n")
	to := end + len(rest)
	was, is := strings.Split(text[from:to], "\n"), strings.Split(m.part(from, to), "\n")
	first := strings.Count(text[:from], "\n") + 1
	var changes []lineChange
	for i := range was {
		if was[i] != is[i] {
			changes = append(changes, lineChange{first + i, was[i], is[i]})
		}
	}
	return changes
}

// change describes the mutation in one line, by the first line that differs.
func (m *mutant) change() string {
	first := m.lineChanges()[0]
	is := "nothing"
	if s := strings.TrimSpace(first.is); s != "" {
		is = "`" + s + "`"
	}
	return "`" + strings.TrimSpace(first.was) + "` → " + is
}

// diff returns all lines that differ.
func (m *mutant) diff() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, in %s\n", m.name(), m.function)
	for _, c := range m.lineChanges() {
		fmt.Fprintf(&b, "%d\n-%s\n+%s\n", c.number, c.was, c.is)
	}
	return b.String()
}

// writeOverlay writes the mutated file to dir, and returns the path of a file for the -overlay flag of the go command.
// root is the directory of the module.
func (m *mutant) writeOverlay(root, dir string) (string, error) {
	mutated := filepath.Join(dir, filepath.Base(m.source.path))
	if err := os.WriteFile(mutated, []byte(m.text()), 0o600); err != nil {
		return "", err
	}
	original := filepath.Join(root, filepath.FromSlash(m.source.path))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutated}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o600)
}
