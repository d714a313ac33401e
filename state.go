package tcpserver

import "github.com/pullaccept/tcpserver/internal/sched"

// This file has every state, bit and flag of a socket. What they guard is told here; who changes them is told where
// that happens. TcpSocket.end, the only way to StateUnconnected, is in close.go.

// SocketState is the state of a socket's connection. It only moves forward.
//
//	StateConnected ──Close, while the send queue is not empty──► StateClosing
//	      │                                                          │
//	      │ Close, Abort, a reset, a timeout, a panic,               │ the queue is sent, CloseTimeout, Abort, a reset
//	      │ the end of the stream in both directions                 │
//	      └───────────────────────► StateUnconnected ◄───────────────┘
type SocketState uint8

const (
	// StateUnconnected means that the connection has ended. It is the zero value.
	StateUnconnected SocketState = iota
	// StateConnected lasts from the accept until Close or the end of the connection.
	StateConnected
	// StateClosing means that the program has closed the socket while bytes were queued by Send. They are still being
	// sent.
	StateClosing
)

// String returns the name of the state without the prefix "State".
func (s SocketState) String() string {
	switch s {
	case StateUnconnected:
		return "Unconnected"
	case StateConnected:
		return "Connected"
	case StateClosing:
		return "Closing"
	}
	return "invalid"
}

// setState moves the state, and panics on a move that the drawing does not have. wmu is held.
func (s *TcpSocket) setState(to SocketState) {
	if to == StateConnected || s.state == StateUnconnected || s.state == to {
		panic("tcpserver: socket state " + s.state.String() + " to " + to.String())
	}
	s.state = to
}

// readiness is what is known of the descriptor without a system call, and the socket's strand (strand.go). They share a
// word so that the loop needs one atomic operation for both.
type readiness uint32

const (
	// readable means that recv may find something. Whoever is about to call recv clears it first, and sets it again
	// unless the result shows that the system holds no more. So no event is lost.
	readable      readiness = 1 << iota
	peerClosed              // the peer has finished sending: a short read no longer means that there is no more
	failed                  // the connection is broken
	wantWrite               // the send queue is not empty, and sending was tried after this was set
	inQueue                 // in the server's queue of pending connections
	handlersDue             // the loop was asked to run handlers
	flushDue                // the loop was asked to send from the queue
	shortReads              // recv may return less than the system holds: a unix socket, or one with urgent data
	halfOpen                // ReadClosed does not end the connection (SetAllowHalfOpen)
	leftOpen                // ReadClosed has returned, and the socket stays open for sending
	endFinished             // finishEnd has only waiters and handlers left: SetHandlers announces the end itself
	endHandled              // the strand has come to the end: no later event makes it run
	endTold                 // Disconnected was called: no handler is called any more
	readNext                // BytesWritten was called last: ReadyRead comes first now
	strandRead              // something may be readable, or is to be announced
	strandWritten           // bytes of the send queue were sent
	strandEnd               // the connection has ended
	strandRunning           // the handlers are running, or were asked to

	strandDue = strandRead | strandWritten | strandEnd
)

// atomicReadiness is the readiness of a socket. Any goroutine may change it.
type atomicReadiness struct{ v sched.Uint32 }

func (a *atomicReadiness) load() readiness { return readiness(a.v.Load()) }

// has reports whether any of the bits is set.
func (a *atomicReadiness) has(bits readiness) bool { return a.load()&bits != 0 }

// set sets bits and returns what was set before.
func (a *atomicReadiness) set(bits readiness) readiness { return readiness(a.v.Or(uint32(bits))) }

// setDue sets bits and, unless the strand has come to the end, due and strandRunning. It returns what was set before,
// and whether it has set all of it.
func (a *atomicReadiness) setDue(bits, due readiness) (was readiness, set bool) {
	for {
		was = a.load()
		is := was | bits
		if set = was&endHandled == 0; set {
			is |= due | strandRunning
		}
		if a.swap(was, is) {
			return was, set
		}
	}
}

// clear clears bits and returns what was set before.
func (a *atomicReadiness) clear(bits readiness) readiness { return readiness(a.v.And(^uint32(bits))) }

// swap replaces old by to, unless it has changed since.
func (a *atomicReadiness) swap(old, to readiness) bool {
	return a.v.CompareAndSwap(uint32(old), uint32(to))
}

// inputState is the progress of the receiving side. It is guarded by rmu.
//
//	inputOpen ──the end, a reset or an error──► inputEnded ──ReadyRead──► inputAnnounced ──ReadClosed──► inputTold
//	    │                                           │                      │         ▲                    │   │
//	    │                                           │                      │         └─other handlers set─┘   │
//	    └───────────── CloseRead, or TcpSocket.end ─┴──────────────────────┴────► inputFinished ◄─────────────┘
//
// It is also finished when ReadClosed has returned and the socket does not stay open (leaveOpen).
//
// Without handlers it stays at inputEnded; what was received before can still be read in every state.
type inputState uint8

const (
	inputOpen      inputState = iota
	inputEnded                // nothing more comes from the system
	inputAnnounced            // ReadyRead was called for the end
	inputTold                 // ReadClosed was called
	inputFinished             // nothing is announced any more
)

// closedState is the progress of the ClosedHandler of a period of listening. It is guarded by TcpServer.mu.
//
//	closedWaiting ──listening and the last socket have ended──► closedDue ──ClosedHandler has returned──► closedTold
//	     ▲                                                          │
//	     └──────────handlers were set for a socket that had none────┘
//
// A period without a ClosedHandler is forgotten in closedWaiting, unless another handler is running.
type closedState uint8

const (
	closedWaiting closedState = iota
	closedDue
	closedTold
)

// readFlags are flags of the receiving side, guarded by rmu.
type readFlags uint8

const (
	rClosed    readFlags = 1 << iota // by Close or Abort: reading returns ErrSocketClosed
	rPaused                          // by PauseReading
	rInHandler                       // a handler other than Disconnected is running
	rConsumed                        // something was taken since the handler was called
	rRefilled                        // a non-blocking method has called recv successfully since the handler was called
	rNew                             // what is in the buffer is to be announced
	rUncounted                       // handlersDone has run, and markLate has not since
	rReleased                        // the socket's handlers do not keep the poller any more
)

// writeFlags are flags of the sending side and of the end, guarded by wmu.
type writeFlags uint8

const (
	wClosed       writeFlags = 1 << iota // by Close or Abort
	wShut                                // by CloseWrite: an end of stream follows the queue
	wShutSent                            // the end of stream was sent
	wAbort                               // closing the descriptor resets the connection
	wLinger                              // closing the descriptor may block (SetLinger)
	wResetOnClose                        // closing the descriptor resets the connection, by SetLinger
	wTruncated                           // a deadline has cut off a Write: only another Write may follow
)
