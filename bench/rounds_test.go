package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// testSchedule returns a schedule whose clock goes on by a second with each sample. The figures of a mode named
// "steady" have no spread, those of any other have one of half the ratio and more.
func testSchedule(l limits, modes ...mode) (s *schedule, order *[]string) {
	s = &schedule{limits: l, log: io.Discard}
	order = new([]string)
	round := map[string]int{}
	for _, m := range modes {
		s.tables = append(s.tables, newTable(m, []server{{name: "C"}, {name: "net"}}))
	}
	s.elapsed = func() time.Duration { return time.Duration(len(*order)) * time.Second }
	s.measure = func(srv server, m mode) (sample, error) {
		*order = append(*order, m.name+" "+srv.name)
		got := sample{rate: 1, p999: 1, cpu: 1}
		if srv.name == "net" {
			round[m.name]++
			if m.name != "steady" && round[m.name]%2 == 0 {
				got.rate = 3
			}
		}
		return got, nil
	}
	return s, order
}

func TestRoundsInterleaveServersAndModes(t *testing.T) {
	s, order := testSchedule(limits{rounds: 2, time: time.Hour}, mode{name: "a"}, mode{name: "b"})
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	want := []string{"a C", "a net", "b C", "b net", "a C", "a net", "b C", "b net"}
	if !slices.Equal(*order, want) {
		t.Errorf("measured %q, not %q", *order, want)
	}
}

func TestModeIsRepeatedUntilItsSpreadIsSmall(t *testing.T) {
	for _, test := range []struct {
		name   string
		mode   mode
		limits limits
		want   int
	}{
		{"a small spread ends it", mode{name: "steady"}, limits{15, 0.1, time.Hour}, minRounds},
		{"a large spread does not", mode{name: "uneven"}, limits{15, 0.1, time.Hour}, 15},
		{"unless that is allowed", mode{name: "uneven"}, limits{15, 10, time.Hour}, minRounds},
		{"one round is one round", mode{name: "steady"}, limits{1, 0.1, time.Hour}, 1},
		{"no time is one round", mode{name: "uneven"}, limits{15, 0.1, 0}, 1},
		{"the round is completed when time is over", mode{name: "uneven"}, limits{15, 0.1, 13 * time.Second}, 7},
		{"memory has no ratio", mode{name: "uneven", idle: 1}, limits{15, 0.1, time.Hour}, minRounds},
		{"a burst has no ratio", mode{name: "uneven", burst: 1}, limits{15, 0.1, time.Hour}, minRounds},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := testSchedule(test.limits, test.mode)
			if err := s.run(); err != nil {
				t.Fatal(err)
			}
			if got := s.tables[0].rounds(); got != test.want {
				t.Errorf("%d rounds, not %d", got, test.want)
			}
		})
	}
}

func TestRemainingTime(t *testing.T) {
	s, _ := testSchedule(limits{15, 0.1, time.Hour},
		mode{name: "steady"}, mode{name: "uneven"}, mode{name: "idle", idle: 1})
	check := func(least, most time.Duration) {
		t.Helper()
		gotLeast, gotMost, ok := s.remaining(s.elapsed())
		if !ok || gotLeast != least || gotMost != most {
			t.Errorf("%v to %v (%v), not %v to %v", gotLeast, gotMost, ok, least, most)
		}
	}
	if _, _, ok := s.remaining(0); ok {
		t.Error("there is an estimate without a sample")
	}
	s.round(s.tables[0])
	// Two samples a round: 4, 5 and 5 rounds at least, 14, 15 and 5 at most.
	check(28*time.Second, 68*time.Second)
	for range minRounds - 1 {
		s.round(s.tables[0])
	}
	// The first mode has ended.
	check(20*time.Second, 40*time.Second)
	for range minRounds {
		s.round(s.tables[1])
		s.round(s.tables[2])
	}
	// Only the second one goes on, for 1 round at least, 10 at most.
	check(2*time.Second, 20*time.Second)
	s.limits.time = s.elapsed() + 7*time.Second
	check(2*time.Second, 7*time.Second)
}

func TestProgressNamesModeRoundServerAndTimes(t *testing.T) {
	s, _ := testSchedule(limits{2, 0.1, time.Hour}, mode{name: "steady"})
	var log bytes.Buffer
	s.log = &log
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"steady, round 1, C (time left unknown)",
		"steady, round 1, net (1s elapsed, about 3s left)",
		"steady, round 2, C (2s elapsed, about 2s left)",
		"steady, round 2, net (3s elapsed, about 1s left)",
	}
	if got := strings.Split(strings.TrimSpace(log.String()), "\n"); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestErrorNamesModeAndServer(t *testing.T) {
	s, _ := testSchedule(limits{1, 0.1, time.Hour}, mode{name: "pipelined"})
	s.measure = func(server, mode) (sample, error) { return sample{}, io.ErrUnexpectedEOF }
	if got := fmt.Sprint(s.run()); got != "pipelined, C: unexpected EOF" {
		t.Error(got)
	}
}
