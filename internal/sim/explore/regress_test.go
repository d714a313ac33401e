//go:build sim

package explore

import (
	"testing"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// The programs in this file are the smallest that have found a defect. Each is run with many schedules.

func runMany(t *testing.T, p *Program) {
	t.Helper()
	random := sched.NewRandom(p.Seed)
	for range 500 {
		if o := run(t, p, false); o.Failure != "" {
			report(t, run, p, o.Failure)
			return
		}
		p.Seed = random.Next()
	}
}

// A call that looks for a line moves what has arrived to the buffer. The system has no event for it any more.
func TestReadNoticesWhatAnotherCallHasBuffered(t *testing.T) {
	runMany(t, &Program{
		Seed:     0x31c6e07b8953470e,
		Schedule: sched.Strategy{Depth: 2, Length: 1000},
		Server:   Server{Loops: 1, Take: 1, Handlers: 3},
		Clients:  []Script{{{Connect, 0, 0}, {CSend, 26, 0}}},
		Users:    []Script{{{Serve, 4, 0}, {SReadLine, 920, 2}}},
	})
}

// The same, where a Write that waits has succeeded and what was queued behind it is lost.
func TestFailedSendBehindWriteResetsConnection(t *testing.T) {
	runMany(t, &Program{
		Seed:     0x47dd0fd13485e9e5,
		Schedule: sched.Strategy{Depth: -1},
		System:   System{Style: 1, SendBuffer: 300, FaultEvery: 30},
		Server:   Server{Loops: 3, Take: 1, Handlers: 3},
		Clients: []Script{
			{{Connect, 0, 0}, {CHalf, 0, 0}},
			{{Connect, 0, 0}, {CSend, 1, 0}, {CHalf, 0, 0}, {CDrain, 0, 0}},
		},
		Users: []Script{{{SHalfOpen, 66, 3}, {Serve, 51, 7}, {SWrite, 861, 0}}},
		Reacts: []Reaction{
			{Ready: []Script{{{SSend, 35, 0}}, {{SSend, 27, 0}}}},
			{Ready: []Script{{{Close, 40, 7}}, {}}},
		},
	})
}

// A send that fails for want of memory leaves the connection as it is. What was queued is lost, so closing the
// descriptor must not look like an end of the stream.
func TestFailedSendResetsConnection(t *testing.T) {
	runMany(t, &Program{
		Seed:     0x2aaf17144deabc09,
		Schedule: sched.Strategy{Depth: -1, Switch: 16},
		System:   System{SendBuffer: 64, Segments: 1, FaultEvery: 30},
		Server:   Server{Loops: 1, Take: -1, Handlers: 3},
		Clients:  []Script{{{Connect, 0, 0}, {CSend, 243, 0}, {CDrain, 0, 0}}},
		Reacts:   []Reaction{{Ready: []Script{{{SSend, 197, 0}}}, Written: Script{}}},
	})
}

// A call that waits for the end reads what came before a reset that a Write has met. Disconnected follows ReadyRead.
func TestEndDoesNotOvertakeWhatWasReadAhead(t *testing.T) {
	runMany(t, &Program{
		Seed:     0x9ca8a164477d7801,
		Schedule: sched.Strategy{Depth: 3, Length: 1000},
		Server:   Server{Loops: 1, Executor: 0x3, Take: 2, Handlers: 3},
		Clients:  []Script{{{Connect, 0, 0}, {CRecv, 2, 0}, {CSend, 1, 0}, {CReset, 0, 0}}},
		Users: []Script{
			{{SWaitEnd, 100, 2}},
			{{Sleep, 0, 0}, {SWrite, 227, 0}, {SWrite, 439, 0}},
		},
	})
}

// What Send queues while the end of the stream closes the socket is sent, or Send fails.
func TestSendDuringTheCloseAfterReadClosedIsNotLost(t *testing.T) {
	runMany(t, &Program{
		Seed:     0x5a179cba122d7ae2,
		Schedule: sched.Strategy{Depth: -1, Switch: 64},
		System:   System{SendBuffer: 64, ReceiveBuffer: 64, Segments: 50},
		Server:   Server{Loops: 3, Take: 2, Handlers: 3},
		Clients: []Script{
			{{Connect, 0, 0}, {CSend, 210, 0}},
			{},
			{{Connect, 0, 0}, {CSend, 40, 0}},
			{{Connect, 0, 0}, {CSend, 53, 0}, {CSend, 1, 0}, {CHalf, 0, 0}, {CDrain, 0, 0}},
		},
		Users: []Script{
			{{SResume, 1, 1}, {NextAsync, 72, 1}, {STryRead, 4, 5}, {NextAsync, 1, 1}, {SReadAll, 9, 1}},
			{},
			{{Sleep, 0, 0}, {SSend, 141, 0}},
		},
		Reacts: []Reaction{{Ready: []Script{{{SReadLines, 146, 7}, {SReadLine, 74, 7}}, {}, {}}}},
	})
}

// A Write that was cut off with something behind it reports what was sent then. The loop may send more before the
// connection ends.
func TestWriteThatWasCutOffDoesNotReportAllBytes(t *testing.T) {
	runMany(t, &Program{
		Seed:     0x5ff76408568ac010,
		Schedule: sched.Strategy{Depth: -1, Switch: 4},
		System:   System{SendBuffer: 64, ReceiveBuffer: 2000},
		Server:   Server{Loops: 1, Take: 1, Handlers: 3},
		Clients: []Script{
			{{Connect, 0, 0}, {CSend, 1, 0}},
			{{Connect, 0, 0}, {CDrain, 0, 0}},
		},
		Users: []Script{
			{},
			{{AcceptNet, 3000, 6}, {SWrite, 416, 3}, {SWrite, 70, 2}},
		},
		Reacts: []Reaction{{Ready: []Script{{{SWrite, 420, 0}}, {}}}},
	})
}
