//go:build !sim

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

// Supported reports whether this platform has a poller. If not, [TcpServer.Listen] returns [ErrUnsupported].
func Supported() bool { return true }

// isEOFConfirmed reports whether an end of stream that recv returned is one. Under Wine, AFD's poll takes the error of
// a reset away from the socket, and recv returns an end of stream: only the event distinguishes them. It has arrived if
// peerClosed is set. The events of polls that began after recv had met the end, and have evAfterEnd, come behind it.
func (a *atomicReadiness) isEOFConfirmed() bool { return a.has(peerClosed) }

// A selector is an I/O completion port on which polls of AFD complete, the driver below Winsock. A poll completes when
// the socket is ready; rearm starts the next one when somebody has found the socket drained. No buffer of the program
// is handed to the system, and a socket without a pending poll costs nothing.
//
// The call is not documented. select is implemented with it, and libuv, mio and wepoll use it; numbers and layouts are
// those of wepoll (github.com/piscisaureus/wepoll).
type selector struct {
	port windows.Handle
	buf  [256]packet

	mu      sync.Mutex // guards the block below
	watches []watch    // by slot
	helpers []windows.Handle
	pages   []*[opPage]op
	used    uint32 // operations that were ever taken
	spare   uint32 // the first free operation; 0 means none
	pending int    // operations whose packet has not been dequeued
}

// A watch has the pending operations of a slot.
type watch struct {
	socket           sys.FD // the base socket, below layered service providers
	gen              uint32
	read, write, end uint32 // operations; 0 means none
}

// armed returns the operation that waits for ev: evRead, with or without evAfterEnd, evWrite or evError. evError has
// one of its own, because it must be pending while there is unread input and nobody reads.
func (w *watch) armed(ev events) *uint32 {
	switch {
	case ev&evRead != 0:
		return &w.read
	case ev == evWrite:
		return &w.write
	}
	return &w.end
}

// An op is a pending poll. The system writes into it until its packet is dequeued. It lives in a page that the selector
// keeps, so it does not move. Operations are numbered from 1.
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

// helperSlots is how many sockets share a handle of AFD: cancelling searches all operations of the handle. The number
// is wepoll's.
const helperSlots = 32

// A packet is an OVERLAPPED_ENTRY. The number of an operation arrives as op from the system, and as key from refused.
// Zero wakes the loop.
type packet struct {
	key uintptr
	op  uintptr
	_   uintptr // Internal
	_   uint32  // dwNumberOfBytesTransferred
}

// wakeKey is the key of packets that concern no source. It is no slot's.
var wakeKey = slotKey{slot: ^uint32(0)}

var (
	ntdll    = windows.NewLazySystemDLL("ntdll.dll")
	kernel32 = windows.NewLazySystemDLL("kernel32.dll")

	procNtDeviceIoControlFile       = ntdll.NewProc("NtDeviceIoControlFile")
	procNtCancelIoFileEx            = ntdll.NewProc("NtCancelIoFileEx")
	procGetQueuedCompletionStatusEx = kernel32.NewProc("GetQueuedCompletionStatusEx")
)

// open opens the port without a limit on concurrent threads: a thread that has dequeued a packet may run other
// goroutines.
func (s *selector) open() (err error) {
	s.port, err = windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, math.MaxUint32)
	return os.NewSyscallError("CreateIoCompletionPort", err)
}

// close cancels the pending polls and dequeues their packets first.
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

// reach allocates what a slot needs. mu is held.
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

// remove is for sockets that others may keep open: closing ours does not end their polls.
func (s *selector) remove(_ sys.FD, key slotKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.watches[key.slot]
	for _, n := range [...]uint32{w.read, w.write, w.end} {
		if n != 0 {
			cancel(s.helpers[key.slot/helperSlots], &s.op(n).status)
		}
	}
	w.gen++ // rearm ignores the key from now on
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

// refusedPause limits how often a poll is tried that the system refuses, perhaps because memory has run out.
const refusedPause = 10 * time.Millisecond

// refused completes a poll that has failed as if the socket were ready, after a pause: the source's own system call
// will find the reason, or rearm.
func (s *selector) refused(n uint32, o *op) {
	time.AfterFunc(refusedPause, func() {
		s.mu.Lock()
		o.ev &^= evAfterEnd // it has not looked
		o.status.Status = 0
		o.poll.handles, o.poll.events = 1, afdEvents(o.ev)&(afdReceive|afdSend)
		s.mu.Unlock()
		if windows.PostQueuedCompletionStatus(s.port, 0, uintptr(n), nil) != nil {
			s.refused(n, o)
		}
	})
}

func isNTError(status windows.NTStatus) bool { return status >= 0xC0000000 }

// take returns the number of a free operation. mu is held.
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
			if ev != 0 {
				ev |= o.ev & evAfterEnd
			}
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
	switch {
	case ev&evRead != 0:
		return afdReceive | afdAccept | afdDisconnect | afdAbort | afdLocalClose
	case ev == evWrite:
		return afdSend | afdAbort | afdLocalClose
	}
	return afdAbort | afdLocalClose
}

// eventsOf returns 0 for a socket that was closed locally.
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

// openAFD opens a handle for polls that complete on port. Any name below the device works.
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

// cancel cancels the operation that status belongs to. If status is nil, it cancels all operations of the handle.
func cancel(h windows.Handle, status *windows.IO_STATUS_BLOCK) {
	var result windows.IO_STATUS_BLOCK
	syscall.SyscallN(procNtCancelIoFileEx.Addr(), uintptr(h), uintptr(unsafe.Pointer(status)),
		uintptr(unsafe.Pointer(&result)))
}

// baseSocket returns the socket that AFD knows. It differs from fd if a layered service provider is installed. Some of
// those hide it from the first ioctl, but not from the second (wepoll's issue 17).
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

// wakeMonitor does nothing: poll is an ordinary system call.
func (s *selector) wakeMonitor() {}
