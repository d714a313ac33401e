package main

import (
	"fmt"
	"io"
	"time"
)

// minRounds is how many rounds a mode has before its spread can end it: the spread of fewer is itself too uncertain.
const minRounds = 5

// limits say when a mode has had enough rounds.
type limits struct {
	rounds int           // a mode has at most so many
	spread float64       // after minRounds, a mode ends when none of its ratios has a larger spread
	time   time.Duration // after this time, a mode ends with its first round
}

// enough reports whether t needs no further round.
func (l limits) enough(t *table, elapsed time.Duration) bool {
	switch rounds := t.rounds(); {
	case rounds == 0:
		return false
	case rounds >= l.maxRounds(t) || elapsed >= l.time:
		return true
	default:
		return rounds >= minRounds && t.spread <= l.spread
	}
}

// maxRounds returns how many rounds t has at most. A table without ratios has no spread, which more rounds would
// reduce.
func (l limits) maxRounds(t *table) int {
	if len(t.ratioFigures()) == 0 {
		return min(l.rounds, minRounds)
	}
	return l.rounds
}

// A schedule measures tables round by round.
type schedule struct {
	tables  []*table
	limits  limits
	measure func(server, mode) (sample, error)
	elapsed func() time.Duration // since the schedule began
	log     io.Writer            // gets the progress, a line for each sample
}

// run gives every table that needs one a round, in turn, until none needs another. Within a round it measures each
// server once, so that whatever else uses the machine for a while affects all servers alike. The rounds of a mode are
// spread over the run for the same reason.
func (s *schedule) run() error {
	for again := true; again; {
		again = false
		for _, t := range s.tables {
			if len(t.rows) == 0 || s.limits.enough(t, s.elapsed()) {
				continue
			}
			if err := s.round(t); err != nil {
				return err
			}
			again = true
		}
	}
	return nil
}

// round measures every server of t once.
func (s *schedule) round(t *table) error {
	round := t.rounds() + 1
	for i := range t.rows {
		r := &t.rows[i]
		begin := s.elapsed()
		fmt.Fprintf(s.log, "%s, round %d, %s (%s)\n", t.mode.name, round, r.server.name, s.progress(begin))
		sample, err := s.measure(r.server, t.mode)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", t.mode.name, r.server.name, err)
		}
		r.samples = append(r.samples, sample)
		t.spent += s.elapsed() - begin
	}
	t.spread = t.widestSpread()
	return nil
}

// progress returns the elapsed time and an estimate of the time left, such as "4m10s elapsed, 9m0s to 24m0s left".
func (s *schedule) progress(elapsed time.Duration) string {
	least, most, ok := s.remaining(elapsed)
	if !ok {
		return "time left unknown"
	}
	show := func(d time.Duration) string { return d.Round(time.Second).String() }
	if show(least) == show(most) {
		return fmt.Sprintf("%s elapsed, about %s left", show(elapsed), show(most))
	}
	return fmt.Sprintf("%s elapsed, %s to %s left", show(elapsed), show(least), show(most))
}

// remaining estimates the time left: least if every mode ends as soon as it can, most if every mode needs all the
// rounds that it can have. A sample of a mode that has not been measured yet is estimated at the mean of all samples.
// The estimate is not ok if there are none.
func (s *schedule) remaining(elapsed time.Duration) (least, most time.Duration, ok bool) {
	var spent time.Duration
	samples := 0
	for _, t := range s.tables {
		spent += t.spent
		samples += t.samples()
	}
	if samples == 0 {
		return 0, 0, false
	}
	mean := spent / time.Duration(samples)
	var due time.Duration // what follows even after the time is over
	for _, t := range s.tables {
		done := t.samples()
		each := mean
		if done > 0 {
			each = t.spent / time.Duration(done)
		}
		left := func(rounds int) time.Duration { return each * time.Duration(max(rounds*len(t.rows)-done, 0)) }
		due += left(max((done+len(t.rows)-1)/max(len(t.rows), 1), 1))
		maximum := s.limits.maxRounds(t)
		atLeast := min(maximum, minRounds)
		switch {
		case s.limits.enough(t, elapsed):
			continue
		case t.rounds() >= atLeast: // the spread is too large
			atLeast = min(maximum, t.rounds()+1)
		}
		least += left(atLeast)
		most += left(maximum)
	}
	// Once the time is over, each mode completes only the round it is in, or its first.
	limit := max(s.limits.time-elapsed, 0) + due
	return min(least, limit), min(most, limit), true
}
