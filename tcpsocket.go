package tcpserver

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver/internal/sys"
)

var (
	_ net.Conn     = (*TcpSocket)(nil)
	_ syscall.Conn = (*TcpSocket)(nil)
)

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

// A TcpSocket is an accepted connection. It is a net.Conn, with everything that the standard library promises of
// one, and it can be asked what has come (BytesAvailable, Peek, CanReadLine), be read without waiting (TryRead,
// ReadAll, ReadLine), be written to without waiting (Send), and it calls handlers (SetHandlers). The ways may be
// mixed. Sockets come from a TcpServer; the zero value is of no use.
//
// Multiple goroutines may invoke methods on a TcpSocket simultaneously. Methods of a socket that is closed return
// an error or the zero value.
//
// What the peer sent before its end of stream stays readable, also when the connection has ended since. Without
// handlers nothing closes by itself: after the peer's end of stream Read returns io.EOF and Write goes on working
// until Close. A socket that is dropped without Close stays open.
type TcpSocket struct {
	// The descriptor is open while refs > 0. The socket's own reference is dropped by end, which holds rmu and wmu
	// in turn before: reading under rmu while rEOF and rClosed are clear, and sending under wmu before
	// StateUnconnected, need no reference of their own. Everything else takes one (use).
	fd   sys.FD
	refs atomic.Uint32

	key  slotKey
	loop *loop
	ln   *listener
	peer sys.Addr

	bits       atomic.Uint32 // what is known of the descriptor, and the lane (handlers.go)
	lastActive atomic.Uint32 // the wheel's tick when something moved last
	queued     uint32        // bytes of Send in out; guarded by wmu
	rflags     uint16        // guarded by rmu
	wflags     uint8         // guarded by wmu
	state      SocketState   // guarded by wmu
	handlers   atomic.Pointer[SocketHandlers]
	coldState  atomic.Pointer[coldState] // nil until one of its fields is needed

	// Read side, guarded by rmu.
	rmu       sync.Mutex
	in        *chunk // what was read and not taken; nil when there is nothing
	bytesRead uint64

	// Write side, guarded by wmu.
	wmu       sync.Mutex
	out       chunkRing
	bytesSent uint64
	written   uint32 // of the queued bytes, those sent and not yet announced; it stops at its maximum
	wheelDue  uint32 // the tick of the idle check; 0: none

	user any // guarded by rmu
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

func newSocket(ln *listener, fd sys.FD, peer sys.Addr) *TcpSocket {
	s := &TcpSocket{fd: fd, ln: ln, peer: peer, state: StateConnected}
	s.refs.Store(1)
	s.SetAllowHalfOpen(ln.allowHalfOpen)
	return s
}

// The high bit of refs says that the connection has ended and no more references are given out; the others count.
const refsClosing = 1 << 31

// use takes a reference on the descriptor; false: it is closed.
func (s *TcpSocket) incref() bool {
	for {
		n := s.refs.Load()
		if n&refsClosing != 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// unuse gives a reference back. It is not called with a lock held: the last one closes the descriptor.
func (s *TcpSocket) decref() {
	if s.refs.Add(^uint32(0)) == refsClosing {
		s.destroy()
	}
}

// setState is the one place that moves the state. wmu is held.
func (s *TcpSocket) setState(to SocketState) {
	if to == StateConnected || s.state == StateUnconnected || s.state == to {
		panic("tcpserver: socket state " + s.state.String() + " to " + to.String())
	}
	s.state = to
}

// Close ends the connection. It returns at once: what Send has queued is still sent, for at most the server's
// CloseTimeout, and the peer then gets an end of stream. What was not read is dropped, and calls that wait return
// ErrSocketClosed. If a Write waits, or the deadline of the last one has cut it off, the stream is incomplete: nothing
// more is sent, and the peer gets a reset. Of the handlers only Disconnected is still called, when all is sent. The
// second Close returns ErrSocketClosed.
//
// Unlike Qt, bytes that the peer has sent and nobody has read do not turn the end of stream into a reset.
func (s *TcpSocket) Close() error {
	s.wmu.Lock()
	if s.wflags&wClosed != 0 {
		s.wmu.Unlock()
		return s.opError(opClose, ErrSocketClosed)
	}
	s.wflags |= wClosed
	s.wmu.Unlock()
	s.dropInput()
	s.close(true)
	return nil
}

// close ends the connection when the queue is sent, what waits in Write included. If drop is true, a Write that waits
// is cut off instead, and the connection ends at once.
func (s *TcpSocket) close(drop bool) {
	s.wmu.Lock()
	flushing := !s.out.empty() && !(drop && s.out.hasWriter())
	if flushing && s.state == StateConnected {
		s.setState(StateClosing)
		s.startCloseTimer()
	}
	s.wmu.Unlock()
	s.wakeWriters()
	if !flushing {
		s.end(nil)
	}
}

// Abort ends the connection at once: what Send has queued is dropped and the peer gets a reset. It may follow a
// Close. It returns nil.
//
// Unlike Qt, the reset is real: QAbstractSocket::abort sends an end of stream like any close.
func (s *TcpSocket) Abort() error {
	s.abort(nil)
	return nil
}

func (s *TcpSocket) abort(cause error) {
	s.wmu.Lock()
	s.wflags |= wClosed | wAbort
	s.wmu.Unlock()
	s.dropInput()
	s.end(cause)
}

// evict is the end of a socket whose poller is closed.
func (s *TcpSocket) onPollerClose() { s.abort(nil) }

// dropInput makes reading fail from now on. The chunk is left to the garbage collector: somebody may still look at
// what Peek returned.
func (s *TcpSocket) dropInput() {
	s.rmu.Lock()
	s.rflags |= rClosed
	s.in = nil
	s.rmu.Unlock()
	s.wakeReaders()
}

// startCloseTimer limits how long the socket goes on sending after Close. wmu is held.
func (s *TcpSocket) startCloseTimer() {
	if d := s.ln.closeTimeout; d > 0 {
		s.cold().closeTimer = time.AfterFunc(d, func() { s.end(os.ErrDeadlineExceeded) })
	}
}

// end is the one way to StateUnconnected. cause is nil for an orderly end. A second call does nothing.
func (s *TcpSocket) end(cause error) {
	s.wmu.Lock()
	if s.state == StateUnconnected {
		s.wmu.Unlock()
		return
	}
	s.setState(StateUnconnected)
	if cause != nil {
		s.cold().err = cause
	}
	if !s.out.empty() || s.wflags&wTruncated != 0 {
		s.wflags |= wAbort // so that the peer does not take what it got for the whole
	}
	s.out.clear()
	s.queued = 0
	x := s.coldState.Load()
	if x != nil {
		x.writeBy.set(time.Time{})
		if x.closeTimer != nil {
			x.closeTimer.Stop()
		}
	}
	s.wmu.Unlock()

	s.rmu.Lock()
	s.rflags |= rEOF | rEOFSeen | rClosedTold
	if x != nil {
		x.readBy.set(time.Time{})
	}
	if s.ln.addr.IsWildcard() {
		s.keepLocalAddr()
	}
	s.rmu.Unlock()

	if s.ln.dispatch == nil {
		s.loop.poller.retain() // until gone: the loop still calls Disconnected
	}
	s.refs.Or(refsClosing)
	s.ln.server.connectionEnded(s)
	s.decref()
	s.wakeWriters()
	s.wakeReaders()
	if s.handlers.Load() != nil {
		s.notify(strandEnd)
	} else {
		s.handlersDone()
	}
}

// gone tells the server and the poller, once, that no handler of the socket is to be called any more.
func (s *TcpSocket) handlersDone() {
	s.wmu.Lock()
	told := s.wflags&wHandlersDone != 0
	s.wflags |= wHandlersDone
	s.wmu.Unlock()
	if told {
		return
	}
	s.ln.server.memberDone(s.ln)
	if s.ln.dispatch == nil {
		s.loop.poller.release()
	}
}

// destroy gives back the descriptor and the slot.
func (s *TcpSocket) destroy() {
	s.wmu.Lock()
	flags := s.wflags
	s.wmu.Unlock()
	known := s.bits.Load() & (readable | peerClosed | failed)
	switch {
	case flags&wAbort != 0:
		sys.SetLinger(s.fd, 0)
	case known != peerClosed && known&failed == 0 && flags&wResetOnClose == 0:
		s.drainAndShutdown() // the end of the peer's stream has not been read
	}
	s.loop.remove(s.key)
	if flags&(wLinger|wAbort) == wLinger {
		closeLingering(s.fd)
	} else {
		sys.Close(s.fd)
	}
	s.ln.server.descriptorFreed()
	s.loop.poller.release()
}

// maxLingering is how many descriptors are closed at a time by a call that may block, each of which holds a thread.
const maxLingering = 16

var lingering = make(chan struct{}, maxLingering)

// closeLingering closes a descriptor whose closing may block. If too many do, the system sends in the background what
// it has taken, as it does without SetLinger.
func closeLingering(fd sys.FD) {
	select {
	case lingering <- struct{}{}:
		go func() {
			sys.CloseBlocking(fd)
			<-lingering
		}()
	default:
		sys.SetLinger(fd, -1)
		sys.Close(fd)
	}
}

// hangUpGently sends the end of the stream before the descriptor is closed: closing one with unread input makes the
// system send a reset, and drop what it has not sent yet. What has come is thrown away, as far as it has come.
func (s *TcpSocket) drainAndShutdown() {
	c := newChunk(maxSend)
	defer c.free()
	for range 4 {
		if n, _ := sys.Recv(s.fd, c.data); n < len(c.data) {
			break
		}
	}
	sys.CloseWrite(s.fd)
}

// finishedBoth ends the connection when both directions have seen the end of their stream: nothing can come or go
// any more. With handlers ReadClosed comes first, which leads here again.
func (s *TcpSocket) endIfBothClosed() {
	s.rmu.Lock()
	read := s.rflags&rEOF != 0 && (s.rflags&(rClosedTold|rShut) != 0 || s.handlers.Load() == nil)
	s.rmu.Unlock()
	s.wmu.Lock()
	write := s.wflags&wShutSent != 0
	s.wmu.Unlock()
	if read && write {
		s.end(nil)
	}
}

// State returns the present state.
func (s *TcpSocket) State() SocketState {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.state
}

// Err returns why the connection ended: nil while it has not, and after an orderly end, which is the end of the
// stream in both directions or the program's own Close or Abort. Otherwise ErrReset, ErrIdleTimeout, a *PanicError,
// os.ErrDeadlineExceeded when CloseTimeout or the deadline of a Write has cut off queued bytes, or an error of the
// system.
func (s *TcpSocket) Err() error {
	x := s.coldState.Load()
	if x == nil {
		return nil
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return x.err
}

// ErrorString returns the text of Err, or "".
func (s *TcpSocket) ErrorString() string { return errorString(s.Err()) }

func errorString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Server returns the server that accepted the socket. It may be closed.
func (s *TcpSocket) Server() *TcpServer { return s.ln.server }

// SetUserData keeps v with the socket, for the program's own use. The zero value is nil.
func (s *TcpSocket) SetUserData(v any) {
	s.rmu.Lock()
	s.user = v
	s.rmu.Unlock()
}

// UserData returns what SetUserData was given last.
func (s *TcpSocket) UserData() any {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	return s.user
}

// BytesRead returns how many bytes have been taken from the system so far, whether the program has read them yet
// or not.
func (s *TcpSocket) BytesRead() uint64 {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	return s.bytesRead
}

// BytesSent returns how many bytes the system has taken so far.
func (s *TcpSocket) BytesSent() uint64 {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.bytesSent
}

// LocalAddr returns the address of this end, a *net.TCPAddr or *net.UnixAddr. It stays valid after Close.
func (s *TcpSocket) LocalAddr() net.Addr {
	if !s.ln.addr.IsWildcard() {
		return s.ln.netAddr()
	}
	open := s.incref()
	s.rmu.Lock()
	if open {
		s.keepLocalAddr()
	}
	local := s.cold().local
	s.rmu.Unlock()
	if open {
		s.decref()
	}
	return local.NetAddr("")
}

// keepLocalAddr asks the system for the address of this end, which a listener on all addresses does not know. The
// descriptor is held open and rmu is held.
func (s *TcpSocket) keepLocalAddr() {
	if x := s.cold(); x.local.Family == sys.FamilyNone {
		x.local, _ = sys.LocalAddr(s.fd)
	}
}

// RemoteAddr returns the address of the peer, a *net.TCPAddr, which stays valid after Close, or a *net.UnixAddr, whose
// name is empty unless the peer has one and the connection has not ended.
//
// Unlike Qt, an IPv4 peer of a dual-stack server has its IPv4 address.
func (s *TcpSocket) RemoteAddr() net.Addr {
	path := ""
	if s.peer.Family == sys.FamilyUnix && s.incref() {
		path = sys.PeerPath(s.fd)
		s.decref()
	}
	return s.peer.NetAddr(path)
}

// opError wraps err for an operation on this socket. What a program meets all the time stays bare.
func (s *TcpSocket) opError(op string, err error) error {
	if err == nil || err == io.EOF || err == ErrWouldBlock || err == ErrWriteBufferFull {
		return err
	}
	return opError(op, s.ln.network, s.LocalAddr(), s.RemoteAddr(), err)
}
