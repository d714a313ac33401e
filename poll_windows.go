package tcpserver

import (
	"math"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Supported reports whether this platform has a poller; where it has none, Listen returns ErrUnsupported.
func Supported() bool { return true }

// isEOFConfirmed reports whether an end of stream that recv returned is one. was is the readiness before recv. Under
// Wine, AFD's poll takes the error of a reset away from the socket, and recv returns an end of stream: only the event
// distinguishes them. It has arrived if peerClosed is set, or if an event arrived after recv met the end first.
func (a *atomicReadiness) isEOFConfirmed(was readiness) bool {
	return a.set(sawEOF)&peerClosed != 0 || was&(sawEOF|readable) == sawEOF|readable
}

// The kernel's queue is a completion port. What completes there are polls of AFD, the driver below Winsock: a poll
// waits until a socket is ready, is over with that, and is begun again when somebody has found the socket drained
// (expect). No buffer of the program's is handed over, and what is not expected costs nothing.
//
// The call is not documented. It is the one that select is made of, and that libuv, Rust's mio and wepoll use; numbers
// and layouts are those of wepoll (github.com/piscisaureus/wepoll).
type selector struct {
	port windows.Handle
	buf  [256]packet

	mu      sync.Mutex // guards the block below
	watches []watch    // by slot
	helpers []windows.Handle
	pages   []*[opPage]op
	used    uint32 // operations that have ever been taken
	spare   uint32 // first free operation; 0: none
	pending int    // operations whose packet is still to come
}

// A watch is what is pending for a tenancy.
type watch struct {
	socket           sys.FD // what AFD knows, below the layers that others have put on Winsock
	gen              uint32
	read, write, end uint32 // operations; 0: none
}

// armed returns where the operation is kept that waits for ev: evRead, evWrite, or evError, which alone stays when
// something lies unread.
func (w *watch) armed(ev events) *uint32 {
	switch ev {
	case evRead:
		return &w.read
	case evWrite:
		return &w.write
	}
	return &w.end
}

// An op is a poll that is under way. The system writes into it until its packet is taken from the port: it lives in a
// page that the kernel holds until then, and does not move. Operations are numbered from 1.
type op struct {
	status windows.IO_STATUS_BLOCK
	poll   afdPoll
	_      [2 - unsafe.Sizeof(uintptr(0))/4]uint32 // of afdPollSize; C aligns to 8 bytes also on 32-bit systems
	key    slotKey
	ev     events
	next   uint32 // the next free operation
}

const opPage = 64

// afdPoll is AFD_POLL_INFO with one AFD_POLL_HANDLE_INFO.
type afdPoll struct {
	timeout   int64
	handles   uint32
	exclusive uint32
	socket    windows.Handle
	events    uint32
	status    uint32
}

const (
	ioctlAFDPoll = 0x12024
	afdPollSize  = 32

	afdReceive     = 0x1
	afdSend        = 0x4
	afdDisconnect  = 0x8
	afdAbort       = 0x10
	afdLocalClose  = 0x20
	afdAccept      = 0x80
	afdConnectFail = 0x100
)

// helperSlots is how many sockets share a handle of AFD: cancelling searches what is pending on the handle. The number
// is wepoll's.
const helperSlots = 32

// A packet is an OVERLAPPED_ENTRY. An operation's number comes as op from the system and as key from ourselves; 0
// wakes.
type packet struct {
	key uintptr
	op  uintptr
	_   uintptr // Internal
	_   uint32  // dwNumberOfBytesTransferred
}

// wakeKey is the key of what concerns no tenant. No slot has it.
var wakeKey = slotKey{slot: ^uint32(0)}

var (
	ntdll    = windows.NewLazySystemDLL("ntdll.dll")
	kernel32 = windows.NewLazySystemDLL("kernel32.dll")

	procNtDeviceIoControlFile       = ntdll.NewProc("NtDeviceIoControlFile")
	procNtCancelIoFileEx            = ntdll.NewProc("NtCancelIoFileEx")
	procGetQueuedCompletionStatusEx = kernel32.NewProc("GetQueuedCompletionStatusEx")
)

// open makes the port. It does not hold back threads: one that has taken a packet goes on to run other goroutines.
func (s *selector) open() (err error) {
	s.port, err = windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, math.MaxUint32)
	return os.NewSyscallError("CreateIoCompletionPort", err)
}

// close takes the packets that are still to come first.
func (s *selector) close() {
	s.mu.Lock()
	for _, h := range s.helpers {
		cancel(h, nil)
	}
	pending := s.pending
	s.mu.Unlock()
	for pending > 0 {
		for i := range s.wait() {
			s.event(i)
		}
		s.mu.Lock()
		pending = s.pending
		s.mu.Unlock()
	}
	for _, h := range s.helpers {
		windows.CloseHandle(h)
	}
	windows.CloseHandle(s.port)
}

func (s *selector) add(fd sys.FD, key slotKey) error {
	socket, err := baseSocket(fd)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if err = s.reach(key.slot); err == nil {
		s.watches[key.slot] = watch{socket: socket, gen: key.gen}
	}
	s.mu.Unlock()
	if err == nil {
		s.rearm(key, evRead)
	}
	return err
}

// reach makes what a slot needs. mu is held.
func (s *selector) reach(slot uint32) error {
	for uint32(len(s.watches)) <= slot {
		s.watches = append(s.watches, watch{})
	}
	for uint32(len(s.helpers)) <= slot/helperSlots {
		h, err := openAFD(s.port)
		if err != nil {
			return err
		}
		s.helpers = append(s.helpers, h)
	}
	return nil
}

// remove is for sockets that others may hold open: closing them ends nothing.
func (s *selector) remove(_ sys.FD, key slotKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.watches[key.slot]
	for _, n := range [...]uint32{w.read, w.write, w.end} {
		if n != 0 {
			cancel(s.helpers[key.slot/helperSlots], &s.op(n).status)
		}
	}
	w.gen++ // nothing is expected any more
}

func (s *selector) rearm(key slotKey, ev events) {
	s.mu.Lock()
	w := &s.watches[key.slot]
	armed := w.armed(ev)
	if w.gen != key.gen || *armed != 0 {
		s.mu.Unlock()
		return
	}
	n := s.take()
	*armed = n
	o := s.op(n)
	o.key, o.ev = key, ev
	o.poll = afdPoll{timeout: math.MaxInt64, handles: 1, socket: windows.Handle(w.socket), events: afdEvents(ev)}
	o.status.Status = windows.STATUS_PENDING
	helper := s.helpers[key.slot/helperSlots]
	s.mu.Unlock()

	status, _, _ := syscall.SyscallN(procNtDeviceIoControlFile.Addr(), uintptr(helper), 0, 0, uintptr(n),
		uintptr(unsafe.Pointer(&o.status)), ioctlAFDPoll,
		uintptr(unsafe.Pointer(&o.poll)), afdPollSize, uintptr(unsafe.Pointer(&o.poll)), afdPollSize)
	if isNTError(windows.NTStatus(status)) {
		s.refused(n, o)
	}
}

// refusedPause keeps a poll that the system refuses, for want of memory, say, from being tried over and over again.
const refusedPause = 10 * time.Millisecond

// refused makes of a poll that has failed one that finds the socket ready, a moment later: the tenant's own call will
// tell it what the matter is, or expect again.
func (s *selector) refused(n uint32, o *op) {
	time.AfterFunc(refusedPause, func() {
		s.mu.Lock()
		o.status.Status = 0
		o.poll.handles, o.poll.events = 1, afdEvents(o.ev)&(afdReceive|afdSend)
		s.mu.Unlock()
		if windows.PostQueuedCompletionStatus(s.port, 0, uintptr(n), nil) != nil {
			s.refused(n, o)
		}
	})
}

func isNTError(status windows.NTStatus) bool { return status >= 0xC0000000 }

// take returns a free operation. mu is held.
func (s *selector) take() uint32 {
	s.pending++
	if n := s.spare; n != 0 {
		s.spare = s.op(n).next
		return n
	}
	if int(s.used/opPage) == len(s.pages) {
		s.pages = append(s.pages, new([opPage]op))
	}
	s.used++
	return s.used
}

func (s *selector) op(n uint32) *op { return &s.pages[(n-1)/opPage][(n-1)%opPage] }

func (s *selector) poll() int { return s.ask(0) }
func (s *selector) wait() int { return s.ask(windows.INFINITE) }

func (s *selector) ask(milliseconds uint32) int {
	var n uint32
	ok, _, _ := syscall.SyscallN(procGetQueuedCompletionStatusEx.Addr(), uintptr(s.port),
		uintptr(unsafe.Pointer(&s.buf)), uintptr(len(s.buf)), uintptr(unsafe.Pointer(&n)), uintptr(milliseconds), 0)
	if ok == 0 {
		n = 0
	}
	return int(n)
}

func (s *selector) event(i int) (slotKey, events) {
	n := uint32(s.buf[i].key + s.buf[i].op)
	if n == 0 {
		return wakeKey, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.op(n)
	status, key := o.status.Status, o.key
	if isNTError(status) && status != windows.STATUS_CANCELLED {
		s.refused(n, o)
		return wakeKey, 0
	}
	var ev events
	if w := &s.watches[key.slot]; w.gen == key.gen {
		*w.armed(o.ev) = 0
		if status == 0 && o.poll.handles > 0 {
			ev = eventsOf(o.poll.events)
		}
	}
	o.next, s.spare = s.spare, n
	s.pending--
	if ev == 0 {
		return wakeKey, 0
	}
	return key, ev
}

func (s *selector) wake() { windows.PostQueuedCompletionStatus(s.port, 0, 0, nil) }

func afdEvents(ev events) uint32 {
	switch ev {
	case evRead:
		return afdReceive | afdAccept | afdDisconnect | afdAbort | afdLocalClose
	case evWrite:
		return afdSend | afdAbort | afdLocalClose
	}
	return afdAbort | afdLocalClose
}

// eventsOf returns 0 for a socket that was closed at this end.
func eventsOf(afd uint32) (ev events) {
	if afd&(afdReceive|afdAccept) != 0 {
		ev |= evRead
	}
	if afd&afdSend != 0 {
		ev |= evWrite
	}
	if afd&afdDisconnect != 0 {
		ev |= evRead | evHangup
	}
	if afd&(afdAbort|afdConnectFail) != 0 {
		ev |= evRead | evWrite | evHangup | evError
	}
	return ev
}

// openAFD opens a handle to poll with, whose packets go to port. Any name below the device will do.
func openAFD(port windows.Handle) (h windows.Handle, err error) {
	name, err := windows.NewNTUnicodeString(`\Device\Afd\TcpServer`)
	if err != nil {
		return 0, err
	}
	attributes := windows.OBJECT_ATTRIBUTES{ObjectName: name}
	attributes.Length = uint32(unsafe.Sizeof(attributes))
	var status windows.IO_STATUS_BLOCK
	err = windows.NtCreateFile(&h, windows.SYNCHRONIZE, &attributes, &status, nil, 0,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, windows.FILE_OPEN, 0, 0, 0)
	if err != nil {
		return 0, os.NewSyscallError("NtCreateFile", err)
	}
	if _, err = windows.CreateIoCompletionPort(h, port, 0, 0); err == nil {
		err = windows.SetFileCompletionNotificationModes(h, windows.FILE_SKIP_SET_EVENT_ON_HANDLE)
	}
	if err != nil {
		windows.CloseHandle(h)
		return 0, os.NewSyscallError("CreateIoCompletionPort", err)
	}
	return h, nil
}

// cancel has the operation completed that status belongs to, or with nil all of the handle.
func cancel(h windows.Handle, status *windows.IO_STATUS_BLOCK) {
	var result windows.IO_STATUS_BLOCK
	syscall.SyscallN(procNtCancelIoFileEx.Addr(), uintptr(h), uintptr(unsafe.Pointer(status)),
		uintptr(unsafe.Pointer(&result)))
}

// baseSocket returns the socket that AFD knows. It differs from fd where a layered service provider is installed; some
// of those hide it, but not from the second question (wepoll's issue 17).
func baseSocket(fd sys.FD) (sys.FD, error) {
	const (
		sioBaseHandle    = 0x48000022
		sioBSPHandlePoll = 0x4800001D
	)
	for {
		base, err := askHandle(fd, sioBaseHandle)
		if err == nil {
			return base, nil
		}
		below, belowErr := askHandle(fd, sioBSPHandlePoll)
		if belowErr != nil || below == fd {
			return 0, sys.SyscallError("WSAIoctl", err)
		}
		fd = below
	}
}

func askHandle(fd sys.FD, question uint32) (sys.FD, error) {
	var h windows.Handle
	var n uint32
	err := windows.WSAIoctl(windows.Handle(fd), question, nil, 0, (*byte)(unsafe.Pointer(&h)), uint32(unsafe.Sizeof(h)),
		&n, nil, 0)
	return sys.FD(h), err
}

// stir: poll is an ordinary system call.
func (s *selector) wakeMonitor() {}
