package tcpserver

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sys"
)

var (
	_ net.Conn     = (*TcpSocket)(nil)
	_ syscall.Conn = (*TcpSocket)(nil)
)

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
	peer sys.Addr

	config *socketConfig

	ready      atomicReadiness // what is known of the descriptor, and the lane (handlers.go)
	lastActive atomic.Uint32   // the wheel's tick when something moved last
	queued     uint32          // bytes of Send in out; guarded by wmu
	rflags     readFlags       // guarded by rmu
	wflags     writeFlags      // guarded by wmu
	state      SocketState     // guarded by wmu
	input      inputState      // guarded by rmu
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

func newSocket(config *socketConfig, fd sys.FD, peer sys.Addr) *TcpSocket {
	s := &TcpSocket{fd: fd, peer: peer, config: config, state: StateConnected}
	s.refs.Store(1)
	s.SetAllowHalfOpen(config.allowHalfOpen)
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
func (s *TcpSocket) Server() *TcpServer { return s.config.listener.server }

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
	if !s.config.addr.IsWildcard() {
		return s.config.netAddr()
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
	return opError(op, s.config.network, s.LocalAddr(), s.RemoteAddr(), err)
}
