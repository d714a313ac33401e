package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

// tables of two modes: one server is half as fast as C.
func someTables() []table {
	speed := newTable(mode{name: "ping-pong 1"}, []server{{name: "C", program: "c"}, {name: "half", program: "half"}})
	for i, rates := range [][]float64{{100, 90, 500}, {50, 10, 400}} {
		for _, r := range rates {
			speed.rows[i].samples = append(speed.rows[i].samples, sample{rate: r, p50: 7, cpu: float64(2 + i)})
		}
	}
	memory := newTable(mode{name: "idle", idle: 10}, []server{{name: "C", program: "c"}})
	memory.rows[0].samples = []sample{{resident: 48}}
	accept := newTable(mode{name: "accept", ramp: true}, []server{{name: "C"}, {name: "net"}})
	accept.rows[0].samples = []sample{{p50: 1, p99: 2, p999: 3}, {p50: 1, p99: 2, p999: 3}}
	accept.rows[1].samples = []sample{{p50: 4, p99: 5, p999: 6}, {p50: 4, p99: 5, p999: 6}}
	burst := newTable(mode{name: "burst", burst: 10}, []server{{name: "net"}})
	burst.rows[0].samples = []sample{{p50: 4, longest: 500, late: 1, runs: 10}, {p50: 4, longest: 9, runs: 10}}
	return []table{speed, memory, accept, burst}
}

func TestReportHasMediansAndRatios(t *testing.T) {
	got := report(someTables())
	for _, want := range []string{
		"| C | 100 | 1.00 | 7 | 0 | 2.00 | 1.00 |",
		"| half | 50 | 0.50 | 7 | 0 | 3.00 | 1.50 |",
		"| C | not counted | 48 |",
		"| C | 1 | 2 | 3 | 0.50 |",
		"| net | 4 | 5 | 6 | 1.00 |",
		"| net | 4 | 500 | 1 of 20 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in the report:\n%s", want, got)
		}
	}
}

func TestChartIsXML(t *testing.T) {
	d := xml.NewDecoder(strings.NewReader(chart(someTables())))
	bars := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 2 {
		t.Errorf("%d bars, not 2", bars)
	}
}
