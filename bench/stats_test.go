package main

import (
	"math"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{4, 1}, 2.5},
		{[]float64{9, 1, 5}, 5},
		{[]float64{8, 1, 4, 2}, 3},
	} {
		before := slices.Clone(test.values)
		if got := median(test.values); got != test.want {
			t.Errorf("median of %v is %v, not %v", test.values, got, test.want)
		}
		if !slices.Equal(test.values, before) {
			t.Errorf("median reordered %v to %v", before, test.values)
		}
	}
}

func TestRatioIsOfMediansAsPrinted(t *testing.T) {
	// The medians are 0.2414 and 0.2404, whose ratio is 1.0042, and are printed as 0.241 and 0.240.
	server := []sample{{cpu: 0.9}, {cpu: 0.2414}, {cpu: 0.1}}
	reference := []sample{{cpu: 0.1}, {cpu: 0.2404}, {cpu: 0.9}}
	if got := compare(cpu, server, reference).value; got != 0.241/0.240 {
		t.Errorf("the ratio is %v, not %v", got, 0.241/0.240)
	}
}

func TestRatioIsNotMedianOfRoundsRatios(t *testing.T) {
	// The rounds' ratios are 0.25, 4 and 3.
	server := []sample{{rate: 100}, {rate: 200}, {rate: 300}}
	reference := []sample{{rate: 400}, {rate: 50}, {rate: 100}}
	if got := compare(rate, server, reference).value; got != 2 {
		t.Errorf("the ratio is %v, not 200/100", got)
	}
}

func TestSpreadIsZeroIfRoundsDifferInSpeedAlone(t *testing.T) {
	a, b := []float64{20, 2, 200, 10, 6}, []float64{10, 1, 100, 5, 3}
	if got := spread(a, b); got != 0 {
		t.Errorf("the spread is %v, not 0", got)
	}
}

func TestSpreadReachesFartherEndOfInterval(t *testing.T) {
	for _, test := range []struct {
		a, b []float64
		want float64
	}{
		// A quarter of the resamples consists of either round alone: the interval is 1 to 3, the ratio 2.
		{[]float64{1, 3}, []float64{1, 1}, 0.5},
		// 7 of 27 resamples have the median 10, and 7 have 16: the interval is 10 to 16, the ratio 12.
		{[]float64{16, 10, 12}, []float64{1, 1, 1}, 4.0 / 12},
		// 6% of the resamples have the median 2, and 6% have 11: the interval is 2 to 11, the ratio 10.
		{[]float64{2, 9, 10, 10, 11}, []float64{1, 1, 1, 1, 1}, 0.8},
	} {
		if got := spread(test.a, test.b); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("the spread of %v over %v is %v, not %v", test.a, test.b, got, test.want)
		}
	}
}

func TestSpreadNarrowsAsRoundsAreAdded(t *testing.T) {
	round := []float64{90, 95, 100, 105, 110}
	var a, b []float64
	last := math.Inf(1)
	for range 4 {
		a = append(a, round...)
		b = append(b, 100, 100, 100, 100, 100)
		got := spread(a, b)
		if got > last {
			t.Errorf("%d rounds have the spread %v, fewer rounds %v", len(a), got, last)
		}
		last = got
	}
	if last > 0.051 {
		t.Errorf("20 rounds have the spread %v", last)
	}
}

func TestSpreadOfOneRoundIsUnknown(t *testing.T) {
	if got := spread([]float64{1}, []float64{1}); !math.IsNaN(got) {
		t.Errorf("the spread is %v", got)
	}
}

func TestRatioText(t *testing.T) {
	for _, test := range []struct {
		ratio ratio
		want  string
	}{
		{ratio{0.949, 0.036}, "0.95 ±4%"},
		{ratio{1.5, 0.1}, "1.50 ±10%"},
		{ratio{2, 0}, "2.00 ±0%"},
		{ratio{2, math.NaN()}, "2.00"},
		{ratio{2, math.Inf(1)}, "2.00"},
		{ratio{math.NaN(), 0.1}, "–"},
		{ratio{math.Inf(1), math.NaN()}, "–"},
	} {
		if got := test.ratio.String(); got != test.want {
			t.Errorf("%v is printed as %q, not %q", test.ratio, got, test.want)
		}
	}
}
