package main

import (
	"math"
	"testing"
)

func TestBucketValueIsWithinOneThirtySecond(t *testing.T) {
	for ns := int64(1); ns < 1e10; ns += ns/7 + 1 {
		if got := valueOf(bucketOf(ns)); math.Abs(got-float64(ns)) > float64(ns)/32 {
			t.Fatalf("bucket of %d ns has the value %g", ns, got)
		}
	}
}

func TestQuantilesOfUniformDurations(t *testing.T) {
	var h histogram
	for ns := int64(1000); ns <= 100_000; ns += 1000 {
		h.add(ns)
	}
	for _, want := range []struct{ q, us float64 }{{0.5, 50}, {0.99, 99}, {1, 100}} {
		if got := h.quantile(want.q); math.Abs(got-want.us) > want.us/16 {
			t.Errorf("quantile %g is %g µs, want %g", want.q, got, want.us)
		}
	}
}
