//go:build sim

package explore

import (
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// A Program is everything that a run depends on.
type Program struct {
	Seed     uint64 // of what is chosen while it runs
	Schedule sched.Strategy
	Stalls   bool
	System   System
	Server   Server
	Clients  []Script
	Users    []Script   // each runs on a goroutine of its own
	UI       Script     // runs on the thread of the executor
	Reacts   []Reaction // of the handlers: the n-th connection has the n-th, and so on in turns
}

// A System is the configuration of the simulated system.
type System struct {
	Style                     sim.Style
	SendBuffer, ReceiveBuffer int
	Segments                  int
	Files                     int
	Abort, Drop, Taken        bool // AbortInBacklog, ResetDropsData, ResetIsTaken
	FaultEvery                int  // on average, a system call of so many fails; 0 means none
	FaultAt                   int  // the number of the one that fails; 0 means none
	Fault                     syscall.Errno
}

// A Server is the configuration of the server.
type Server struct {
	Loops          int
	OwnPoller      bool
	Executor       ExecutorKind
	Take           int // how many connections NewConnectionHandler takes; -1 means all
	Handlers       int // of three sockets, so many have handlers from the beginning
	MaxPending     int // 0 means the default
	MaxConnections int
	Backlog        int
	OverflowDrop   bool
	Filter         bool
	HalfOpen       bool
	Idle, Close    time.Duration
	Slow           time.Duration // how long NewConnectionHandler and ClosedHandler take
	ReadBuffer     int
	WriteBuffer    int
}

// An ExecutorKind is what runs the handlers.
type ExecutorKind uint8

// The kinds of executors.
const (
	NoExecutor ExecutorKind = iota
	QueueRun                // a Queue and its Run
	QueueWake               // a Queue, its Wake and RunPending
	Inline                  // calls the function at once
	Blocking                // returns when the function has run
	Shuffled                // runs functions late and in any order
	Dying                   // runs some functions and then none
	executors
)

// A Script is what a client or a goroutine of the program does.
type Script []Op

// has reports whether one of the acts is in the script.
func (s Script) has(acts ...Act) bool {
	return slices.ContainsFunc(s, func(o Op) bool { return slices.Contains(acts, o.Do) })
}

// An Op is a step. What N and T mean depends on Do; T mostly chooses a connection.
type Op struct {
	Do   Act
	N, T int
}

// A Reaction is what the handlers of a socket do.
type Reaction struct {
	Ready   []Script // one for each call of ReadyRead, and again from the beginning
	Written Script   // in each call
	Closed  Script
	End     Script
}

// An Act is something that a program can do.
type Act uint8

// The acts of clients.
const (
	Connect Act = iota
	CSend
	CRecv
	CDrain
	CHalf
	CClose
	CReset
	CVanish
	CSleep

	// Of the program with the server.
	Next
	Accept
	AcceptNet
	WaitNew
	Connections
	AcceptAsync
	NextAsync
	Serve
	Pause
	Resume
	MaxPending
	MaxConnections
	Close
	CloseAsync
	Shutdown
	Listen
	Bind
	ListenBound
	ListenAsync
	HandOver
	CloseConnections
	Look
	Wait
	RefUnref
	Files
	Sleep
	ClosePoller
	CountAsync

	// Of the program with a socket.
	SRead
	STryRead
	SReadLine
	SReadLines
	SReadAll
	SPeek
	SDiscard
	SLook
	SSend
	SWrite
	SWaitRead
	SWaitWritten
	SWaitEnd
	SClose
	SAbort
	SCloseWrite
	SCloseRead
	SPause
	SResume
	SHandlers
	SNoHandlers
	SReadDeadline
	SWriteDeadline
	SIdle
	SReadSize
	SWriteSize
	SHalfOpen
	SLinger
	SRaw
	SRawRead
	SRawWrite
	SOptions
	SWorker
	SPanic
	SGoexit
	acts
)

var actNames = strings.Fields(`
	Connect CSend CRecv CDrain CHalf CClose CReset CVanish CSleep Next Accept AcceptNet WaitNew Connections
	AcceptAsync NextAsync Serve Pause Resume MaxPending MaxConnections Close CloseAsync Shutdown Listen Bind
	ListenBound ListenAsync HandOver CloseConnections Look Wait RefUnref Files Sleep ClosePoller CountAsync SRead
	STryRead SReadLine SReadLines SReadAll SPeek SDiscard SLook SSend SWrite SWaitRead SWaitWritten SWaitEnd
	SClose SAbort SCloseWrite SCloseRead SPause SResume SHandlers SNoHandlers SReadDeadline SWriteDeadline SIdle
	SReadSize SWriteSize SHalfOpen SLinger SRaw SRawRead SRawWrite SOptions SWorker SPanic SGoexit`)

func (a Act) String() string { return actNames[a] }
