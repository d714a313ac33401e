package tcpserver

import (
	"io"
	"net"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sys"
)

var (
	_ net.Conn     = (*TcpSocket)(nil)
	_ syscall.Conn = (*TcpSocket)(nil)
)

// A TcpSocket is a connection that a [TcpServer] has accepted. It implements [net.Conn] and keeps every promise of
// that interface. In addition, it reports what has arrived ([TcpSocket.BytesAvailable], [TcpSocket.Peek],
// [TcpSocket.CanReadLine]), reads without waiting ([TcpSocket.TryRead], [TcpSocket.ReadAll], [TcpSocket.ReadLine]),
// writes without waiting ([TcpSocket.Send]), and calls handlers ([TcpSocket.SetHandlers]). These styles can be mixed.
// The zero value is not usable.
//
// Multiple goroutines may invoke methods on a TcpSocket simultaneously. Methods of a closed socket return an error or
// the zero value. An operation that fails returns a *[net.OpError]; [io.EOF], [ErrWouldBlock], [ErrWriteBufferFull]
// and the error of a context are returned bare.
//
// What the peer sent before its end of stream stays readable, even after the connection has ended. A socket without
// handlers does not close by itself when the peer finishes sending: Read returns io.EOF, and Write works until Close.
// A socket that is no longer referenced stays open: the garbage collector does not close it.
type TcpSocket struct {
	// The descriptor is open while refs counts a reference. end drops the socket's own reference after it has set
	// StateUnconnected under wmu and inputFinished under rmu. So reading under rmu while input is inputOpen, and
	// sending under wmu before StateUnconnected, need no reference. Everything else takes one with incref.
	fd   sys.FD
	refs sched.Uint32

	key  slotKey
	loop *loop
	peer sys.Addr

	config *socketConfig

	ready      atomicReadiness // what is known of the descriptor, and the strand (strand.go)
	lastActive sched.Uint32    // tick at which bytes moved last; kept only if there is an idle timeout
	queued     uint32          // bytes in out that Send has queued; guarded by wmu
	rflags     readFlags       // guarded by rmu
	wflags     writeFlags      // guarded by wmu
	state      SocketState     // guarded by wmu
	input      inputState      // guarded by rmu
	handlers   sched.Pointer[SocketHandlers]
	coldState  sched.Pointer[coldState] // nil until one of its fields is needed

	// Read side, guarded by rmu.
	rmu       sched.Mutex
	in        *chunk // bytes that were received and not taken; nil if there are none
	bytesRead uint64

	// Write side, guarded by wmu.
	wmu       sched.Mutex
	out       chunkRing
	bytesSent uint64
	written   uint32 // queued bytes that were sent and BytesWritten has not reported; at most math.MaxInt32
	wheelDue  uint32 // tick of the idle check; 0 means none

	user any // guarded by rmu
}

// newSocket returns a connected socket with one reference, its own. The caller sets loop and registers the
// descriptor.
func newSocket(config *socketConfig, fd sys.FD, peer sys.Addr) *TcpSocket {
	s := &TcpSocket{fd: fd, peer: peer, config: config, state: StateConnected}
	s.refs.Store(1)
	s.SetAllowHalfOpen(config.allowHalfOpen)
	if config.addr.Family == sys.FamilyUnix {
		s.ready.set(shortReads)
	}
	return s
}

// refsClosing is the high bit of refs. It is set when the connection has ended: incref then fails. The other bits
// count references.
const refsClosing = 1 << 31

// incref takes a reference on the descriptor, which decref must give back. It returns false if the connection has
// ended.
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

// decref gives a reference back. No lock may be held: the last reference closes the descriptor.
func (s *TcpSocket) decref() {
	if s.refs.Add(^uint32(0)) == refsClosing {
		s.destroy()
	}
}

// State returns the current state.
func (s *TcpSocket) State() SocketState {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.state
}

// Err returns why the connection ended. It returns nil while the connection has not ended, and after an orderly end:
// the end of the stream in both directions, or the program's own Close or Abort. Otherwise it returns [ErrReset],
// [ErrIdleTimeout], a *[PanicError], [os.ErrDeadlineExceeded] if [TcpServer.CloseTimeout] or the deadline of a Write
// cut off queued bytes, or an error of the system.
func (s *TcpSocket) Err() error {
	x := s.coldState.Load()
	if x == nil {
		return nil
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return x.err
}

// ErrorString returns the text of [TcpSocket.Err], or "" if that is nil.
func (s *TcpSocket) ErrorString() string { return errorString(s.Err()) }

func errorString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Server returns the server that accepted the socket. The server may be closed.
func (s *TcpSocket) Server() *TcpServer { return s.config.listener.server }

// SetUserData stores v with the socket, for the program's own use.
func (s *TcpSocket) SetUserData(v any) {
	s.rmu.Lock()
	s.user = v
	s.rmu.Unlock()
}

// UserData returns the value that [TcpSocket.SetUserData] stored last. The default is nil.
func (s *TcpSocket) UserData() any {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	return s.user
}

// BytesRead returns the total number of bytes that the socket has received from the system, including those that the
// program has not read yet.
func (s *TcpSocket) BytesRead() uint64 {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	return s.bytesRead
}

// BytesSent returns the total number of bytes that the system has taken for sending.
func (s *TcpSocket) BytesSent() uint64 {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.bytesSent
}

// LocalAddr returns the address of this end, a *[net.TCPAddr] or *[net.UnixAddr]. It is available after Close, too.
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

// keepLocalAddr stores the address of this end. A listener on a wildcard address does not know it, and the system
// reports it only while the descriptor is open. The caller holds rmu, and a reference on the descriptor.
func (s *TcpSocket) keepLocalAddr() {
	if x := s.cold(); x.local.Family == sys.FamilyNone {
		x.local, _ = sys.LocalAddr(s.fd)
	}
}

// RemoteAddr returns the address of the peer. If it is a *[net.TCPAddr], it is available after Close, too. If it is a
// *[net.UnixAddr], its name is empty unless the peer has a name and the connection has not ended.
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

// opError wraps err for the operation op on this socket. Errors that are part of ordinary reading and writing stay
// bare.
func (s *TcpSocket) opError(op string, err error) error {
	if err == nil || err == io.EOF || err == ErrWouldBlock || err == ErrWriteBufferFull {
		return err
	}
	return opError(op, s.config.network, s.LocalAddr(), s.RemoteAddr(), err)
}
