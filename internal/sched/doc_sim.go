//go:build sim

// Package sched is, with the tag sim, a scheduler that runs one goroutine at a time and decides at each operation of a
// lock, a condition, an atomic value or a timer which one runs next. The decisions follow from a seed, so a run can be
// repeated. [Simulate] is a run. It takes place in a bubble of testing/synctest: while all tasks wait, the clock of
// the bubble jumps to the next timer.
//
// This is controlled concurrency testing as in Shuttle, Coyote and loom. What it cannot see is a data race: the tasks
// are ordered by the handing over of the processor. The race detector sees those, in the ordinary tests.
package sched
