package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A table is the result of a mode.
type table struct {
	mode   mode
	rows   []row
	spent  time.Duration // on all samples
	spread float64       // the widest of all ratios after the last round
}

// A row has the samples of a server, one of each round.
type row struct {
	server  server
	samples []sample
}

func newTable(m mode, servers []server) *table {
	t := &table{mode: m}
	for _, s := range servers {
		t.rows = append(t.rows, row{server: s})
	}
	return t
}

// rounds returns the number of complete rounds.
func (t *table) rounds() int {
	if len(t.rows) == 0 {
		return 0
	}
	return len(t.rows[len(t.rows)-1].samples)
}

// samples returns the number of samples of all servers.
func (t *table) samples() (n int) {
	for _, r := range t.rows {
		n += len(r.samples)
	}
	return n
}

// reference returns the index of the row that the others are compared with: package net's for first answers, if it
// takes part, and otherwise the first.
func (t *table) reference() int {
	if t.mode.ramp {
		if i := slices.IndexFunc(t.rows, func(r row) bool { return r.server.name == "net" }); i >= 0 {
			return i
		}
	}
	return 0
}

// ratioFigures returns the figures that have a column of ratios.
func (t *table) ratioFigures() []figure {
	switch {
	case t.mode.idle > 0, t.mode.burst > 0:
		return nil
	case t.mode.ramp:
		return []figure{p999}
	default:
		return []figure{rate, cpu}
	}
}

// ratio compares row i with the reference. The reference itself has the ratio 1, without a spread.
func (t *table) ratio(i int, f figure) ratio {
	reference := t.reference()
	r := compare(f, t.rows[i].samples, t.rows[reference].samples)
	if i == reference {
		r.spread = math.NaN()
	}
	return r
}

// widestSpread returns the largest spread of all ratios of the table. An unknown spread is the largest.
func (t *table) widestSpread() (widest float64) {
	for i := range t.rows {
		for _, f := range t.ratioFigures() {
			r := t.ratio(i, f)
			if i == t.reference() || !r.known() {
				continue
			}
			if !isFinite(r.spread) {
				return math.Inf(1)
			}
			widest = max(widest, r.spread)
		}
	}
	return widest
}

// legend explains the columns of all tables but those of memory.
const legend = `Every server has one core and the load another; in "burst" they share both. Below each heading
is the number of rounds that all figures of the table are from.

| Column | Meaning |
|---|---|
| Messages/s | throughput: messages echoed, or pages sent, per second; median of the rounds |
| Ratio to X | the figure in the column to the left divided by that of server X: a ratio of medians |
| ±n% | spread: the 95% confidence interval of the ratio reaches n% above or below it; below 5 rounds, farther |
| p50, p99 | percentiles of the round-trip time, µs; medians of the rounds |
| p50, p99, p99.9 in "accept" | the same of the time from connecting to the first answer of a connection |
| p50 in "burst" | the same of the time from the first message of a connection to its answer |
| Longest, Late | the longest such time of all bursts, µs; bursts in which it exceeded 0.1 s |
| CPU | processor time of the server per message, including the kernel's work for it, µs; median of the rounds |

The server that the others are compared with has the ratio 1.00, without a spread. A single round has no spread.
`

// memoryLegend explains the figures of memory.
const memoryLegend = `Both figures are a growth per connection: memory with %d connections less
memory with %d, divided by %d. They do not include what a server allocates once. Every connection
has echoed one message and is idle. The figures are medians of the rounds.

- Heap: bytes of live heap objects, after a garbage collection. It includes the server's objects for a connection, its
  share of the tables and, where a goroutine reads each connection, the goroutine's buffer of 4 KiB. It does not include
  goroutine stacks. The server in C does not count its heap.
- Resident: bytes of the process's resident set. It includes goroutine stacks, and memory that the runtime has freed but
  not returned to the system. It does not include memory that was allocated but never touched.
- Neither includes the kernel's memory of a socket.

`

// report writes the tables as Markdown.
func report(tables []*table) string {
	var b strings.Builder
	b.WriteString("# Results\n\n")
	fmt.Fprintf(&b, "- Machine: %s, %s, %d cores\n", output("uname", "-sr"), processor(), runtime.NumCPU())
	fmt.Fprintf(&b, "- Go: %s\n- Date: %s\n", runtime.Version(), time.Now().Format(time.DateOnly))
	fmt.Fprintf(&b, "- Command: `%s`\n", commandLine(os.Args[1:]))
	fmt.Fprintf(&b, "- Peers:\n  %s\n\n", peerVersions())
	b.WriteString(legend)
	for _, t := range tables {
		if len(t.rows) > 0 {
			t.write(&b)
		}
	}
	return b.String()
}

// A column is a title and a cell for each row.
type column struct {
	title string
	cell  func(row int) string
}

func (t *table) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n", t.mode.name, plural(t.rounds(), "round"))
	if t.mode.idle > 0 {
		fmt.Fprintf(b, memoryLegend, warmConns+t.mode.idle, warmConns, t.mode.idle)
	}
	columns := t.columns()
	b.WriteString("| Server |")
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(columns)) + "\n")
	for i, r := range t.rows {
		fmt.Fprintf(b, "| %s |", r.server.name)
		for _, c := range columns {
			fmt.Fprintf(b, " %s |", c.cell(i))
		}
		b.WriteString("\n")
	}
}

// columns returns the columns of the table's mode.
func (t *table) columns() []column {
	switch {
	case t.mode.idle > 0:
		return []column{t.heapColumn(), t.medianColumn("Resident", resident)}
	case t.mode.burst > 0:
		return append([]column{t.medianColumn("p50", p50)}, t.burstColumns()...)
	case t.mode.ramp:
		return []column{t.medianColumn("p50", p50), t.medianColumn("p99", p99),
			t.medianColumn("p99.9", p999), t.ratioColumn(p999)}
	default:
		return []column{t.medianColumn("Messages/s", rate), t.ratioColumn(rate), t.medianColumn("p50", p50),
			t.medianColumn("p99", p99), t.medianColumn("CPU", cpu), t.ratioColumn(cpu)}
	}
}

func (t *table) medianColumn(title string, f figure) column {
	return column{title, func(row int) string { return f.text(f.median(t.rows[row].samples)) }}
}

// ratioColumn is for the right side of the column of the medians.
func (t *table) ratioColumn(f figure) column {
	title := "Ratio to " + t.rows[t.reference()].server.name
	return column{title, func(row int) string { return t.ratio(row, f).String() }}
}

// heapColumn takes account of servers that report no heap.
func (t *table) heapColumn() column {
	return column{"Heap", func(row int) string {
		if h := heap.median(t.rows[row].samples); h != 0 {
			return heap.text(h)
		}
		return "not counted"
	}}
}

// burstColumns are of all rounds together, since a single late burst is what they are to show.
func (t *table) burstColumns() []column {
	return []column{
		{"Longest", func(row int) string {
			longest := 0.0
			for _, s := range t.rows[row].samples {
				longest = max(longest, s.longest)
			}
			return fmt.Sprintf("%.0f", longest)
		}},
		{"Late", func(row int) string {
			late, runs := 0.0, 0.0
			for _, s := range t.rows[row].samples {
				late, runs = late+s.late, runs+s.runs
			}
			return fmt.Sprintf("%.0f of %.0f", late, runs)
		}},
	}
}

// commandLine returns the command with its arguments, quoted for a shell where they need it.
func commandLine(args []string) string {
	words := []string{"go", "run", "."}
	for _, arg := range args {
		if arg == "" || strings.ContainsAny(arg, " '\"$\\") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// peerVersions returns the modules that the other servers in Go are built with, one per line. This program links none
// of them, so that its own build information does not have their versions.
func peerVersions() string {
	list := output("go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/panjf2000/gnet/v2",
		"github.com/lesismal/nbio", "github.com/cloudwego/netpoll", "github.com/tidwall/evio")
	return strings.ReplaceAll(list, "\n", ",\n  ")
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
