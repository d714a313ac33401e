package msgserver

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A peer is a model of a client's system. It acknowledges what fits into its buffer, and announces room in steps.
type peer struct {
	buffer, step int64
	read, taken  float64 // bytes
	stopped      bool
}

func (p *peer) pass(d time.Duration, rate float64) {
	if !p.stopped {
		p.read = min(p.read+rate*d.Seconds(), p.taken)
	}
	if room := float64(p.buffer) - (p.taken - p.read); room >= float64(p.step) {
		p.taken += room
	}
}

// Whatever the steps in which a client's system acknowledges, a client that reads at 100 kB/s or more is not dropped,
// and a client that has stopped reading is dropped in time.
func TestStallDetectorDropsOnlyStalledReaders(t *testing.T) {
	const tick = 60 * time.Millisecond
	for _, buffer := range []int64{4 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20, 6 << 20, 32 << 20} {
		for _, part := range []int64{1, 2, 16} {
			step := buffer / part
			if step > minCreditLimit && part < 16 {
				continue // no system does this
			}
			for _, rate := range []float64{100e3, 200e3, 500e3, 2e6, 100e6} {
				name := fmt.Sprintf("buffer %d, step %d, %.0f bytes per second", buffer, step, rate)
				p := &peer{buffer: buffer, step: step}
				stall := stallDetector{lag: defaultLag}
				p.pass(0, rate)
				stall.observe(int64(p.taken), buffer, 0)
				for range int(2 * time.Minute / tick) {
					p.pass(tick, rate)
					require.False(t, stall.observe(int64(p.taken), buffer, tick), name)
				}
				p.stopped = true
				passed := time.Duration(0)
				for ; !stall.observe(int64(p.taken), buffer, tick); passed += tick {
					require.Less(t, passed, time.Hour, name)
				}
				credit := minCreditLimit + max(buffer, maxAssumedWindow)/8
				most := time.Duration(credit / drainRate * int64(time.Second))
				assert.LessOrEqual(t, passed, defaultLag+most+10*tick, name)
			}
		}
	}
}

// A client that takes nothing from the start is dropped after ConnectLag. A client whose system has filled its buffer
// is dropped after the time in which it could have read that.
func TestStallDetectorDropsClientThatNeverReads(t *testing.T) {
	for taken, want := range map[int64]time.Duration{
		0:         500 * time.Millisecond,
		16 << 10:  500 * time.Millisecond,
		64 << 10:  time.Second,
		128 << 10: 2 * time.Second,
	} {
		stall := stallDetector{lag: defaultLag}
		stall.observe(taken, 0, 0)
		passed := time.Millisecond
		for ; !stall.observe(taken, 0, time.Millisecond); passed += time.Millisecond {
		}
		assert.InDelta(t, want, passed, float64(100*time.Millisecond), "%d", taken)
	}
}
