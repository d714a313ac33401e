package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// A figure is a value of a sample, and the number of decimals with which its median is printed.
type figure struct {
	of       func(sample) float64
	decimals int
}

var (
	rate     = figure{func(s sample) float64 { return s.rate }, 0}
	p50      = figure{func(s sample) float64 { return s.p50 }, 0}
	p99      = figure{func(s sample) float64 { return s.p99 }, 0}
	p999     = figure{func(s sample) float64 { return s.p999 }, 0}
	cpu      = figure{func(s sample) float64 { return s.cpu }, 3}
	heap     = figure{func(s sample) float64 { return s.heap }, 0}
	resident = figure{func(s sample) float64 { return s.resident }, 0}
)

// values returns the figure of each sample.
func (f figure) values(samples []sample) []float64 {
	all := make([]float64, len(samples))
	for i, s := range samples {
		all[i] = f.of(s)
	}
	return all
}

// median returns the median of the figure as it is printed: rounded to its decimals.
func (f figure) median(samples []sample) float64 {
	scale := math.Pow10(f.decimals)
	return math.Round(median(f.values(samples))*scale) / scale
}

// text formats a value of the figure.
func (f figure) text(value float64) string { return fmt.Sprintf("%.*f", f.decimals, value) }

// median returns the middle value, or the mean of the two in the middle. It returns 0 if there are no values.
func median(values []float64) float64 {
	return medianInPlace(slices.Clone(values))
}

// medianInPlace is median, and sorts the values.
func medianInPlace(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// A ratio compares a server with the reference of its table.
type ratio struct {
	value  float64 // the median of the server over the median of the reference
	spread float64 // how far the 95% confidence interval reaches from value, relative to it; NaN if unknown
}

// known reports whether both medians exist, so that there is a ratio.
func (r ratio) known() bool { return isFinite(r.value) }

// String returns the ratio and its spread, such as "0.95 ±4%". It leaves out an unknown spread.
func (r ratio) String() string {
	switch {
	case !r.known():
		return "–"
	case !isFinite(r.spread):
		return fmt.Sprintf("%.2f", r.value)
	default:
		return fmt.Sprintf("%.2f ±%.0f%%", r.value, 100*r.spread)
	}
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// compare returns the ratio of a figure's medians as they are printed, so that whoever divides two printed figures gets
// the printed ratio. Both servers have a sample of each round.
func compare(f figure, server, reference []sample) ratio {
	return ratio{
		value:  f.median(server) / f.median(reference),
		spread: spread(f.values(server), f.values(reference)),
	}
}

// resamples is how often the bootstrap draws the rounds, and resamplesOutside how many of the lowest and how many of
// the highest ratios are outside the 95% confidence interval.
const (
	resamples        = 2000
	resamplesOutside = resamples * 25 / 1000
)

// spread returns the distance between the ratio of the medians of a and b and the farther end of its 95% confidence
// interval, relative to the ratio. The interval is a bootstrap's: it draws as many rounds as there are, with
// replacement, and takes the ratio of their medians. A round's two values, a[i] and b[i], are drawn together, because
// what slows the machine down slows down both. Unlike the range of the ratios of single rounds, the interval is that of
// the ratio printed, and it narrows as rounds are added.
//
// The same values always have the same spread. It is NaN if there are fewer than two rounds, and
// too narrow if there are fewer than minRounds: with three, the true ratio is outside in one case of seven.
func spread(a, b []float64) float64 {
	n := len(a)
	if n < 2 {
		return math.NaN()
	}
	random := rand.New(rand.NewPCG(1, 1))
	drawnA, drawnB := make([]float64, n), make([]float64, n)
	ratios := make([]float64, resamples)
	for i := range ratios {
		for j := range n {
			k := random.IntN(n)
			drawnA[j], drawnB[j] = a[k], b[k]
		}
		ratios[i] = medianInPlace(drawnA) / medianInPlace(drawnB)
	}
	slices.Sort(ratios)
	low, high := ratios[resamplesOutside], ratios[resamples-1-resamplesOutside]
	center := median(a) / median(b)
	return max(high-center, center-low) / center
}
