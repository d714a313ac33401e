package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// tableOf returns a table whose rows have these samples.
func tableOf(m mode, servers []server, samples ...[]sample) *table {
	t := newTable(m, servers)
	for i := range samples {
		t.rows[i].samples = samples[i]
	}
	return t
}

// testTables returns a table of each kind, of three rounds where the kind has ratios.
func testTables() []*table {
	servers := []server{{name: "C", program: "c"}, {name: "half", program: "tcpserver"}}
	return []*table{
		tableOf(mode{name: "ping-pong 1"}, servers,
			[]sample{{rate: 100, p50: 7, cpu: 2}, {rate: 90, p50: 7, cpu: 2}, {rate: 500, p50: 7, cpu: 2}},
			[]sample{{rate: 50, p50: 7, cpu: 3}, {rate: 45, p50: 7, cpu: 3}, {rate: 250, p50: 7, cpu: 3}}),
		tableOf(mode{name: "accept", ramp: true}, []server{{name: "C"}, {name: "net"}},
			[]sample{{p50: 1, p99: 2, p999: 3}}, []sample{{p50: 4, p99: 5, p999: 6}}),
		tableOf(mode{name: "burst", burst: 10}, []server{{name: "net"}},
			[]sample{{p50: 4, longest: 500, late: 1, runs: 10}, {p50: 4, longest: 9, runs: 10}}),
		tableOf(mode{name: "idle", idle: 10}, servers,
			[]sample{{resident: 48}}, []sample{{heap: 160.4, resident: 200}}),
	}
}

func TestReportHasMediansRatiosAndRounds(t *testing.T) {
	got := report(testTables())
	for _, want := range []string{
		"## ping-pong 1\n\n3 rounds\n\n| Server | Messages/s | Ratio to C | p50 | p99 | CPU | Ratio to C |\n",
		"\n| C | 100 | 1.00 | 7 | 0 | 2.000 | 1.00 |\n",
		"\n| half | 50 | 0.50 ±0% | 7 | 0 | 3.000 | 1.50 ±0% |\n",
		"## accept\n\n1 round\n\n| Server | p50 | p99 | p99.9 | Ratio to net |\n",
		"\n| C | 1 | 2 | 3 | 0.50 |\n",
		"\n| net | 4 | 5 | 6 | 1.00 |\n",
		"\n| net | 4 | 500 | 1 of 20 |\n",
		"memory with 110 connections less\nmemory with 100, divided by 10. ",
		"\n| C | not counted | 48 |\n| half | 160 | 200 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in the report:\n%s", want, got)
		}
	}
}

func TestCommandLineIsQuotedForShell(t *testing.T) {
	got := commandLine([]string{"-modes", "ping-pong 1,http", "-out", "it's", ""})
	if want := `go run . -modes 'ping-pong 1,http' -out 'it'\''s' ''`; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func TestReportLinesFitInto120Columns(t *testing.T) {
	for line := range strings.Lines(report(testTables())) {
		line = strings.TrimSpace(line)
		if len([]rune(line)) > 120 && !strings.HasPrefix(line, "- Command:") {
			t.Errorf("a line of %d columns: %s", len([]rune(line)), line)
		}
	}
}

// unevenTable has medians whose ratio changes in the second decimal if they are not rounded first.
func unevenTable() *table {
	servers := []server{{name: "C"}, {name: "a"}, {name: "b"}, {name: "c"}}
	var samples [][]sample
	for i := range servers {
		x := float64(i + 1)
		samples = append(samples, []sample{{rate: 7.4 * x, cpu: 0.0144 / x}, {rate: 9.3 * x, cpu: 0.0123 / x},
			{rate: 2.6 / x, cpu: 0.0235 * x}, {rate: 4.4, cpu: 0.0077}})
	}
	return tableOf(mode{name: "ping-pong 1"}, servers, samples...)
}

func TestDividingColumnsGivesRatios(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(report([]*table{unevenTable()})), "\n")
	rows = rows[len(rows)-4:]
	cells := func(row string) []string { return strings.Split(row, " | ") }
	number := func(cell string) float64 {
		n, err := strconv.ParseFloat(cell, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	reference := cells(rows[0])
	for _, row := range rows {
		for _, i := range []int{1, 5} {
			c := cells(row)
			want := fmt.Sprintf("%.2f", number(c[i])/number(reference[i]))
			if got, _, _ := strings.Cut(strings.Trim(c[i+1], " |"), " "); got != want {
				t.Errorf("%s / %s is printed as %s, not %s", c[i], reference[i], got, want)
			}
		}
	}
}

func TestWidestSpreadIsOfAllRatios(t *testing.T) {
	results := tableOf(mode{}, []server{{name: "C"}, {name: "even"}, {name: "uneven"}},
		[]sample{{rate: 1, cpu: 1}, {rate: 1, cpu: 1}},
		[]sample{{rate: 2, cpu: 1}, {rate: 2, cpu: 1}},
		[]sample{{rate: 2, cpu: 1}, {rate: 2, cpu: 3}}) // processor time 2 ± 1
	if got := results.widestSpread(); got != 0.5 {
		t.Errorf("the widest spread is %v, not 0.5", got)
	}
	results.rows = results.rows[:2]
	if got := results.widestSpread(); got != 0 {
		t.Errorf("the widest spread is %v, not 0", got)
	}
	for i := range results.rows {
		results.rows[i].samples = results.rows[i].samples[:1]
	}
	if got := results.widestSpread(); !math.IsInf(got, 1) {
		t.Errorf("the widest spread of one round is %v", got)
	}
}

// parseChart returns the character data of the chart's elements, and the number of elements of each name.
func parseChart(t *testing.T, svg string) (texts []string, elements map[string]int) {
	elements = map[string]int{}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		switch token := token.(type) {
		case xml.StartElement:
			elements[token.Name.Local]++
		case xml.CharData:
			texts = append(texts, string(token))
		}
		if errors.Is(err, io.EOF) {
			return texts, elements
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestChartHasRatiosOfTable(t *testing.T) {
	results := unevenTable()
	texts, elements := parseChart(t, chart([]*table{results}))
	if elements["rect"] != 4 || elements["line"] != 3 {
		t.Errorf("%d bars and %d lines of spreads, not 4 and 3", elements["rect"], elements["line"])
	}
	all := strings.Join(texts, "\n") + "\n"
	for i, r := range results.rows {
		if want := r.server.name + "\n" + results.ratio(i, rate).String() + "\n"; !strings.Contains(all, want) {
			t.Errorf("%q is not in the chart:\n%s", want, all)
		}
	}
}

func TestChartHasThroughputAlone(t *testing.T) {
	texts, elements := parseChart(t, chart(testTables()))
	if elements["rect"] != 2 || elements["g"] != 1 {
		t.Errorf("%d bars in %d panels, not 2 in 1:\n%s", elements["rect"], elements["g"], texts)
	}
}
