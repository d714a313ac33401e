package tcpserver

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSpinnerRarelySpinsAfterMisses(t *testing.T) {
	var s spinner
	tried := 0
	for range 1 << 20 {
		if s.try() {
			tried++
			s.failed()
		}
	}
	assert.Less(t, tried, 1<<20/200)
	assert.Greater(t, tried, 1<<20/300, "the spinner must notice when messages come faster")
}

func TestSpinnerKeepsSpinningAfterHits(t *testing.T) {
	var s spinner
	for range 1000 {
		if s.try() {
			s.failed()
		}
	}
	for !s.try() {
	}
	s.succeeded()
	slept := 0
	for range 64 * 100 {
		if s.try() {
			s.succeeded()
		} else {
			slept++
		}
	}
	assert.InDelta(t, 100, slept, 2, "the loop must sleep now and then nevertheless")
}

func TestSpinnerToleratesSingleMiss(t *testing.T) {
	var s spinner
	for range 100 {
		assert.True(t, s.try())
		s.failed()
		assert.True(t, s.try())
		s.succeeded()
	}
}
