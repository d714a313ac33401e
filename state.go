package tcpserver

// SocketState is where a socket is in its life. It only moves forward.
//
//	StateConnected ──Close, while Send's queue is not empty──► StateClosing
//	      │                                                        │
//	      │ Close, Abort, a reset, a timeout, a panic,             │ the queue is sent, CloseTimeout, Abort, a reset
//	      │ the end of the stream in both directions               │
//	      └──────────────────────► StateUnconnected ◄──────────────┘
type SocketState uint8

const (
	// StateUnconnected: the connection has ended and the descriptor is given back.
	StateUnconnected SocketState = iota
	// StateConnected: from the start until Close or the connection's end.
	StateConnected
	// StateClosing: closed by the program, but bytes that Send queued are still being sent.
	StateClosing
)

// String returns the name of the state without "State".
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

// setState is the one place that moves the state. wmu is held.
func (s *TcpSocket) setState(to SocketState) {
	if to == StateConnected || s.state == StateUnconnected || s.state == to {
		panic("tcpserver: socket state " + s.state.String() + " to " + to.String())
	}
	s.state = to
}

// What is known of the descriptor without asking the system. The loop sets these bits.
const (
	// readable: something may be there to read. Whoever is about to try clears it first, and sets it again unless
	// the result shows that the system holds no more. So no event is lost.
	readable    uint32 = 1 << iota
	peerClosed         // the peer has finished sending; a short read no longer means that there is no more
	failed             // the connection is gone
	wantWrite          // out is not empty, and sending has been tried since this was set
	inQueue            // in the server's queue of pending connections
	handlersDue        // a turn for the handlers has been asked of the loop
	flushDue           // a turn for the send queue has been asked of the loop
	sawEOF             // recv has met the end of the stream before its event came (isUnconfirmed)
	halfOpen           // ReadClosed does not lead to the end of the connection (SetAllowHalfOpen)
	endTold            // Disconnected has been called: no other handler is called any more
	readNext           // BytesWritten was called last: it is ReadyRead's turn
	firstStrandBit
)

// The lane of a socket is what its handlers are to be told, and whether somebody is at it: a turn is running, or has
// been asked for, while laneRunning is set. That keeps handlers of one socket apart and in order. It shares a word
// with what is known of the descriptor, so that the loop needs one operation for both.
const (
	strandRead    uint32 = firstStrandBit << iota // something may have come, or is to be announced
	strandWritten                                 // bytes of the queue were sent
	strandEnd                                     // the connection has ended
	strandRunning

	strandDue = strandRead | strandWritten | strandEnd
)

const (
	rClosed     uint16 = 1 << iota // by the program: reading fails with ErrSocketClosed
	rEOF                           // nothing more will come from the system
	rEOFSeen                       // ReadyRead has been called since rEOF
	rClosedTold                    // ReadClosed has been called
	rShut                          // by CloseRead: the peer has not finished
	rPaused                        // by PauseReading
	rInHandler                     // a handler other than Disconnected is running
	rConsumed                      // something was taken since the handler was called
	rRefilled                      // a method that does not wait has taken from the system since the handler was called
	rNew                           // what is in the buffer is to be announced
)

const (
	wClosed       uint8 = 1 << iota // by the program
	wShut                           // by CloseWrite: the end of the stream follows the queue
	wShutSent                       // the end of the stream has been sent
	wAbort                          // closing the descriptor resets the connection
	wLinger                         // closing the descriptor may block (SetLinger)
	wResetOnClose                   // closing the descriptor resets the connection, by SetLinger
	wTruncated                      // the deadline of a Write has cut it off: only another Write may go on
	wHandlersDone                   // the server has been told that the socket's last handler has been called
)
