//go:build sim

package sim

import (
	"fmt"
	"syscall"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A Config says what the system is like. The zero value is like Linux, with buffers of 64 KiB.
type Config struct {
	Style Style

	SendBuffer, ReceiveBuffer int // in bytes, of each end of a connection; 0 means 64 KiB
	Files                     int // how many descriptors there can be; 0 means many
	Segments                  int // bytes are delivered in pieces of up to so many; 0 means as many as fit
	WindowStep                int // a receive buffer that was full takes nothing until it has room for so many bytes

	AbortInBacklog bool // accept reports ECONNABORTED for a connection that was reset in the backlog, as on the BSDs
	ResetDropsData bool // what was received before a reset can no longer be read, as on Windows
	HideUnacked    bool // the system does not tell what the peer has received, as Windows does not
	ResetIsTaken   bool // AFD's report of a reset takes the error away from recv, as under Wine

	Fault func(n int, call Call) syscall.Errno // called for each system call, which fails with a result other than 0
}

// A Style is the manner in which readiness is reported.
type Style uint8

// The styles of the systems that the library runs on.
const (
	Epoll  Style = iota // edges of a descriptor, with all that holds when they are reported
	Kqueue              // edges of reading and of writing, separately
	AFD                 // once, after it was asked for
)

// A Call is a system call that may fail.
type Call uint8

// The system calls, by what they are on Linux.
const (
	CallSocket Call = iota
	CallBind
	CallListen
	CallAccept
	CallRecv
	CallSend
	CallShutdown
	CallOption
	CallName
	CallDup
	CallWatch
	CallSelector
	CallWait
	CallUnread
	CallLinger
	CallClose
	calls
)

var callNames = [calls]string{
	"socket", "bind", "listen", "accept", "recv", "send", "shutdown", "setsockopt", "getsockname", "dup", "watch",
	"selector", "wait", "unread", "linger", "close",
}

func (c Call) String() string { return callNames[c] }

// Short is a fault of recv and send that is no error: they do less than they could.
const Short = syscall.Errno(1 << 20)

// A Kernel is the system of a run.
type Kernel struct {
	Config
	files     []*file // by descriptor; nil where there is none
	open      int
	bound     map[string]*listener
	port      uint16
	conns     []*Conn
	listeners int
	accepted  int
	wires     []*end // that have something to deliver
	edges     []func()
	carries   bool // a task carries what is in wires and edges

	calls   int
	perCall [calls]int
}

// Now is the system of the present run.
var now *Kernel

// Boot starts a system, in place of the one before.
func Boot(c Config) *Kernel {
	if c.SendBuffer == 0 {
		c.SendBuffer = 64 << 10
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = 64 << 10
	}
	if c.Files == 0 {
		c.Files = 1 << 16
	}
	now = &Kernel{Config: c, bound: map[string]*listener{}, port: 1023}
	return now
}

// Calls returns how many system calls were made.
func (k *Kernel) Calls() int { return k.calls }

// CallsOf returns how many system calls of a kind were made.
func (k *Kernel) CallsOf(c Call) int { return k.perCall[c] }

// OpenFiles returns how many descriptors are open.
func (k *Kernel) OpenFiles() int { return k.open }

// Conns returns all connections that there have been.
func (k *Kernel) Conns() []*Conn { return k.conns }

// SetFiles changes how many descriptors there can be.
func (k *Kernel) SetFiles(n int) { k.Files = n }

// A file is an open file description. Descriptors that were duplicated share it.
type file struct {
	descriptors int
	blocking    bool
	bound       *boundSocket // of a socket that is bound or listens
	conn        *end
	selector    *Selector
	watches     []*watch
}

// enter begins a system call. It returns the error with which the call fails by a fault, or 0.
func enter(c Call, fd int) syscall.Errno {
	sched.Point()
	k := now
	k.calls++
	k.perCall[c]++
	sched.Note("%v(%d)", c, fd)
	if k.Fault == nil || sched.IsOver() {
		return 0
	}
	e := k.Fault(k.calls, c)
	if e != 0 {
		sched.Hash(uint64(e))
		sched.Note("%v(%d) fails: %v", c, fd, e)
	}
	return e
}

// install returns a descriptor for f, the lowest that is free.
func (k *Kernel) install(f *file) (int, syscall.Errno) {
	if k.open >= k.Files {
		return 0, syscall.EMFILE
	}
	k.open++
	f.descriptors++
	const first = 3
	for fd := first; fd < len(k.files); fd++ {
		if k.files[fd] == nil {
			k.files[fd] = f
			return fd, 0
		}
	}
	for len(k.files) < first {
		k.files = append(k.files, nil)
	}
	k.files = append(k.files, f)
	return len(k.files) - 1, 0
}

// file returns the file of a descriptor. The library never uses one that is closed.
func (k *Kernel) file(fd int) *file {
	if fd < 0 || fd >= len(k.files) || k.files[fd] == nil {
		if sched.IsOver() {
			return &file{bound: &boundSocket{}, conn: newEnd(&Conn{}, false)}
		}
		sched.Fail("descriptor %d is used and not open", fd)
	}
	return k.files[fd]
}

// Close closes a descriptor, by a call that must not block.
func Close(fd int) {
	enter(CallClose, fd)
	if c := now.file(fd).conn; c != nil && c.lingers {
		sched.Fail("closing descriptor %d may block: it lingers", fd)
	}
	closeFile(fd)
}

// CloseBlocking closes a descriptor, by a call that may block.
func CloseBlocking(fd int) {
	enter(CallClose, fd)
	closeFile(fd)
}

func closeFile(fd int) {
	k := now
	f := k.file(fd)
	if sched.IsOver() {
		return
	}
	k.files[fd] = nil
	k.open--
	f.descriptors--
	if k.Style != Epoll {
		f.dropWatches(fd) // they belong to the descriptor; epoll's belong to the description
	}
	if f.descriptors > 0 {
		return
	}
	f.dropWatches(-1)
	switch {
	case f.conn != nil:
		f.conn.closed()
	case f.bound != nil:
		f.bound.closed()
	}
}

// Dup returns another descriptor of the same file.
func Dup(fd int) (int, syscall.Errno) {
	if e := enter(CallDup, fd); e != 0 {
		return 0, e
	}
	return now.install(now.file(fd))
}

// SetBlocking changes the mode of the open file description.
func SetBlocking(fd int, blocking bool) { now.file(fd).blocking = blocking }

// later delivers an edge some time from now.
func (k *Kernel) later(f func()) {
	k.edges = append(k.edges, f)
	k.carry()
}

// carry makes sure that a task carries what is on its way.
func (k *Kernel) carry() {
	if k.carries || len(k.wires) == 0 && len(k.edges) == 0 {
		return
	}
	k.carries = true
	sched.Go(k.carryAll)
}

// carryAll delivers what is on its way, in an order that the seed decides.
func (k *Kernel) carryAll() {
	for k == now && (len(k.wires) > 0 || len(k.edges) > 0) {
		i := sched.Intn(len(k.wires) + len(k.edges))
		if i < len(k.edges) {
			f := k.edges[i]
			k.edges = append(k.edges[:i], k.edges[i+1:]...)
			f()
		} else {
			k.wires[i-len(k.edges)].deliver()
		}
		sched.Point()
	}
	k.carries = false
}

func (k *Kernel) String() string {
	return fmt.Sprintf("%d descriptors, %d system calls", k.open, k.calls)
}
