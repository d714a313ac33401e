package main

import "math/bits"

// A histogram counts durations in buckets whose width is at most 1/32 of the duration.
type histogram struct {
	buckets [64 * subBuckets]uint32
	count   uint64
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
)

// bucketOf returns the bucket of a duration in nanoseconds.
func bucketOf(ns int64) int {
	v := uint64(max(ns, 0))
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// valueOf returns the middle of a bucket, in nanoseconds.
func valueOf(bucket int) float64 {
	if bucket < 2*subBuckets {
		return float64(bucket)
	}
	shift := bucket>>subBits - 1
	low := uint64(bucket-shift<<subBits) << shift
	return float64(low) + float64(uint64(1)<<shift)/2
}

func (h *histogram) add(ns int64) {
	h.buckets[bucketOf(ns)]++
	h.count++
}

// quantile returns the duration that the fraction q of all durations does not exceed, in microseconds.
func (h *histogram) quantile(q float64) float64 {
	rest := uint64(q * float64(h.count))
	for i, n := range &h.buckets {
		if uint64(n) >= rest && n > 0 {
			return valueOf(i) / 1e3
		}
		rest -= min(rest, uint64(n))
	}
	return 0
}
