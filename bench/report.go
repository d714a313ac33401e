package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A table is the result of a mode.
type table struct {
	mode mode
	rows []row
}

type row struct {
	server  server
	samples []sample
}

func newTable(m mode, servers []server) table {
	t := table{mode: m}
	for _, s := range servers {
		t.rows = append(t.rows, row{server: s})
	}
	return t
}

// median returns the median of one figure over the rounds.
func (r row) median(figure func(sample) float64) float64 {
	var all []float64
	for _, s := range r.samples {
		all = append(all, figure(s))
	}
	return median(all)
}

// ratio returns the median over the rounds of a figure as a part of what the first server of the table had in the same
// round.
func (t table) ratio(r row, figure func(sample) float64) float64 {
	var all []float64
	for i, s := range r.samples {
		all = append(all, figure(s)/figure(t.rows[0].samples[i]))
	}
	return median(all)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func rate(s sample) float64     { return s.rate }
func p50(s sample) float64      { return s.p50 }
func p99(s sample) float64      { return s.p99 }
func p999(s sample) float64     { return s.p999 }
func cpu(s sample) float64      { return s.cpu }
func heap(s sample) float64     { return s.heap }
func resident(s sample) float64 { return s.resident }

// report writes the tables as Markdown.
func report(tables []table) string {
	var b strings.Builder
	b.WriteString("# Results\n\n")
	fmt.Fprintf(&b, "%s, %s, %d cores, %s, %s. Command: `%s`.\n", output("uname", "-sr"), processor(), runtime.NumCPU(),
		runtime.Version(), time.Now().Format(time.DateOnly), strings.Join(append([]string{"go run ."}, os.Args[1:]...), " "))
	fmt.Fprintf(&b, "Peers: %s.\n", peerVersions())
	b.WriteString("\nMedians of the rounds; every server has one core, the load another. The times are microseconds: ")
	b.WriteString("of a round trip, and of the server's processor for a message. The ratios are medians of those of each round.\n")
	for _, t := range tables {
		if len(t.rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", t.mode.name)
		switch {
		case t.mode.idle > 0:
			t.writeMemory(&b)
		case t.mode.ramp:
			t.writeFirstAnswers(&b)
		case t.mode.burst > 0:
			t.writeBurst(&b)
		default:
			t.writeSpeed(&b)
		}
	}
	return b.String()
}

func (t table) writeSpeed(b *strings.Builder) {
	first := t.rows[0].server.name
	fmt.Fprintf(b, "| Server | Messages a second | To %s | p50 | p99 | CPU | To %[1]s |\n", first)
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range t.rows {
		fmt.Fprintf(b, "| %s | %.0f | %.2f | %.0f | %.0f | %.2f | %.2f |\n", r.server.name, r.median(rate), t.ratio(r, rate),
			r.median(p50), r.median(p99), r.median(cpu), t.ratio(r, cpu))
	}
}

func (t table) writeFirstAnswers(b *strings.Builder) {
	beside := t
	// Beside package net, if it takes part.
	if i := slices.IndexFunc(t.rows, func(r row) bool { return r.server.name == "net" }); i >= 0 {
		beside.rows = t.rows[i:]
	}
	fmt.Fprintf(b, "| Server | p50 | p99 | p99.9 | To %s |\n|---|---:|---:|---:|---:|\n", beside.rows[0].server.name)
	for _, r := range t.rows {
		fmt.Fprintf(b, "| %s | %.0f | %.0f | %.0f | %.2f |\n", r.server.name, r.median(p50), r.median(p99), r.median(p999),
			beside.ratio(r, p999))
	}
}

func (t table) writeBurst(b *strings.Builder) {
	b.WriteString("| Server | p50 | Longest | Late |\n|---|---:|---:|---:|\n")
	for _, r := range t.rows {
		most, late, runs := 0.0, 0.0, 0.0
		for _, s := range r.samples {
			most, late, runs = max(most, s.longest), late+s.late, runs+s.runs
		}
		fmt.Fprintf(b, "| %s | %.0f | %.0f | %.0f of %.0f |\n", r.server.name, r.median(p50), most, late, runs)
	}
}

func (t table) writeMemory(b *strings.Builder) {
	b.WriteString("| Server | Heap, bytes a connection | Resident, bytes a connection |\n|---|---:|---:|\n")
	for _, r := range t.rows {
		counted := "not counted"
		if h := r.median(heap); h > 0 {
			counted = fmt.Sprintf("%.0f", h)
		}
		fmt.Fprintf(b, "| %s | %s | %.0f |\n", r.server.name, counted, r.median(resident))
	}
}

// peerVersions names the modules that the servers are built with. None of them is linked into this program.
func peerVersions() string {
	list := output("go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/panjf2000/gnet/v2",
		"github.com/lesismal/nbio", "github.com/cloudwego/netpoll", "github.com/tidwall/evio")
	return strings.ReplaceAll(list, "\n", ", ")
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
