package tcpserver

import (
	"runtime"
	"time"
)

// A spinner decides whether a loop looks again and again for a moment before it sleeps. Where the next message comes
// that soon, sleeping and being woken would take longer, and often more of the processor too. Where it does not, the
// attempts become rare, maxTries in maxPenalty waits in the end: an idle program pays nothing.
type spinner struct {
	skip    uint16 // so many waits are not tried
	penalty uint16 // so many were skipped last; an attempt that succeeds halves it
	tries   uint8  // attempts in a row that have failed
	row     uint8  // attempts in a row that have succeeded
}

const (
	// spinTime is about what sleeping and being woken costs in a virtual machine (docs/performance.md), so that an
	// attempt wastes at most as much again.
	spinTime = 50 * time.Microsecond
	// maxLooks ends an attempt where the clock is too coarse to: twice what fits into the time on Linux.
	maxLooks   = 256
	maxTries   = 4 // a peer that was asleep itself needs longer at first
	maxPenalty = 1023
	// maxRow lets the runtime look after descriptors of its own: it does so when a goroutine sleeps.
	maxRow = 64
)

// spin looks for events without sleeping, and returns how many there are.
func (l *loop) spin() int {
	if !l.spinner.try() {
		return 0
	}
	begin := time.Now()
	for looks := 0; looks < maxLooks && time.Since(begin) < spinTime; looks++ {
		if n := l.selector.poll(); n > 0 {
			l.spinner.succeeded()
			return n
		}
		runtime.Gosched()
	}
	l.spinner.failed()
	return 0
}

// try reports whether this wait begins with an attempt; then succeeded or failed follows.
func (s *spinner) try() bool {
	if s.skip == 0 {
		return true
	}
	s.skip--
	return false
}

func (s *spinner) succeeded() {
	s.penalty /= 2
	s.tries = 0
	if s.row++; s.row == maxRow {
		s.row, s.skip = 0, 1
	}
}

func (s *spinner) failed() {
	s.row = 0
	if s.tries++; s.tries == maxTries {
		s.penalty = min(2*s.penalty+1, maxPenalty)
		s.tries, s.skip = 0, s.penalty
	}
}
