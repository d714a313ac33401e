//go:build !kqemu && !sim

package tcpserver

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// Supported reports whether this platform has a poller. If not, [TcpServer.Listen] returns [ErrUnsupported].
func Supported() bool { return true }

// isEOFConfirmed reports whether an end of stream that recv returned is one. Here it always is.
func (*atomicReadiness) isEOFConfirmed() bool { return true }

// A selector is an epoll instance. Every descriptor is registered once, edge-triggered and for both directions, and
// never modified. An idle loop is a parked goroutine, not a blocked thread: the runtime's own poller watches the epoll
// descriptor, and the loop waits there only if a poll has found nothing.
type selector struct {
	ep     int
	wakeFD int // an eventfd, edge-triggered and never read: every write adds 1 and is an event
	file   *os.File
	raw    syscall.RawConn
	look   func(uintptr) bool // poll, in the form that RawConn.Read takes; made once
	found  int
	buf    [256]unix.EpollEvent
}

// wakeKey is the key of the eventfd. It is no slot's.
var wakeKey = slotKey{slot: ^uint32(0)}

func (s *selector) open() (err error) {
	if s.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if s.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(s.ep)
		return os.NewSyscallError("eventfd", err)
	}
	if err = s.park(); err != nil {
		s.close()
	}
	return err
}

// park registers the epoll descriptor with the runtime's own poller.
func (s *selector) park() (err error) {
	if err = s.add(sys.FD(s.wakeFD), wakeKey); err != nil {
		return err
	}
	if err = unix.SetNonblock(s.ep, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	s.file = os.NewFile(uintptr(s.ep), "epoll")
	// Deadlines work only if the runtime watches the file.
	if err = s.file.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("parking an epoll descriptor: %w", err)
	}
	s.look = func(uintptr) bool { return s.poll() > 0 }
	s.raw, err = s.file.SyscallConn()
	return err
}

func (s *selector) close() {
	unix.Close(s.wakeFD)
	if s.file != nil {
		s.file.Close()
	} else {
		unix.Close(s.ep)
	}
}

func (s *selector) add(fd sys.FD, key slotKey) error {
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET,
		Fd:     int32(key.slot),
		Pad:    int32(key.gen),
	}
	_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.ep), unix.EPOLL_CTL_ADD, uintptr(fd),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	if e != 0 {
		return os.NewSyscallError("epoll_ctl", e)
	}
	return nil
}

func (s *selector) remove(fd sys.FD, _ slotKey) {
	unix.EpollCtl(s.ep, unix.EPOLL_CTL_DEL, int(fd), nil)
}

// rearm does nothing: epoll reports edges by itself.
func (s *selector) rearm(slotKey, events) {}

// poll is a raw system call: it cannot block, so the scheduler need not know of it. It does not wake the runtime's
// monitor either: see wakeMonitor.
func (s *selector) poll() int {
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.ep), uintptr(unsafe.Pointer(&s.buf)),
		uintptr(len(s.buf)), 0, 0, 0)
	if e != 0 {
		n = 0
	}
	s.found = int(n)
	return s.found
}

func (s *selector) wait() int {
	if err := s.raw.Read(s.look); err != nil {
		return 0
	}
	return s.found
}

func (s *selector) event(i int) (slotKey, events) {
	e := &s.buf[i]
	var ev events
	if e.Events&unix.EPOLLIN != 0 {
		ev |= evRead
	}
	if e.Events&unix.EPOLLOUT != 0 {
		ev |= evWrite
	}
	if e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		ev |= evRead | evHangup
	}
	if e.Events&unix.EPOLLPRI != 0 {
		ev |= evUrgent // EPOLLIN is set too if there is anything to read
	}
	if e.Events&unix.EPOLLERR != 0 {
		ev |= evRead | evWrite | evHangup | evError
	}
	return slotKey{uint32(e.Fd), uint32(e.Pad)}, ev
}

func (s *selector) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(s.wakeFD, one[:])
}

// wakeMonitor makes an ordinary system call that does nothing: runtime.entersyscall wakes the monitor.
func (s *selector) wakeMonitor() { syscall.Syscall(unix.SYS_GETPID, 0, 0, 0) }
