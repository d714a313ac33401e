package soak

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

var quits = flag.Int("quits", 500, "how often TestQuitsLeaveNothing quits, with all toolkits together")

// A toolkit imitates how a user interface runs functions on its thread, and what it does with them once it has ended.
type toolkit struct {
	name  string
	waits bool                         // a call waits until the function has run
	next  func(queued int) int         // which of the queued functions runs next
	late  func(d *desktop, run func()) // what a call does when the loop has ended
}

func inOrder(int) int                { return 0 }
func inAnyOrder(queued int) int      { return rand.IntN(queued) }
func neverRun(*desktop, func())      {}
func runAtOnce(_ *desktop, f func()) { f() }
func hang(d *desktop, _ func())      { <-d.released }

// toolkits do what the documentation of these packages, or their source, says.
var toolkits = []toolkit{
	{name: "Fyne", next: inOrder, late: runAtOnce},
	{name: "miqt", next: inOrder, late: neverRun},
	{name: "Wails", next: inAnyOrder, late: neverRun},
	{name: "gocui", next: inAnyOrder, late: hang},
	{name: "tview", waits: true, next: inOrder, late: hang},
	{name: "bubbletea", waits: true, next: inOrder, late: neverRun},
	{name: "sdl", waits: true, next: inOrder, late: func(*desktop, func()) { panic("the toolkit has ended") }},
}

// A desktop is a program that runs a toolkit's loop on a goroutine.
type desktop struct {
	toolkit
	mu       sync.Mutex // guards the block below
	queue    []func()
	ended    bool
	posted   *sync.Cond // on mu
	released chan struct{}

	quitting bool          // the loop ends after the function that runs
	inLoop   atomic.Bool   // the loop runs a function
	closed   atomic.Bool   // the server was closed on the loop: no handler may follow
	calls    atomic.Int64  // of the toolkit after its end
	handled  atomic.Int64  // calls of handlers
	wrong    atomic.Int64  // those of them on another goroutine, or after closed
	loopDone chan struct{} // closed when the loop has ended

	server  *tcpserver.TcpServer
	sockets map[*tcpserver.TcpSocket]bool
}

func newDesktop(kind toolkit) *desktop {
	d := &desktop{
		toolkit: kind, released: make(chan struct{}), loopDone: make(chan struct{}),
		sockets: make(map[*tcpserver.TcpSocket]bool),
	}
	d.posted = sync.NewCond(&d.mu)
	d.server = &tcpserver.TcpServer{Executor: d.exec, NewConnectionHandler: d.connected}
	d.server.Unref() // the loop may end before the server does
	return d
}

// exec is the toolkit's way to run a function on its thread.
func (d *desktop) exec(f func()) {
	ran := make(chan struct{})
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		d.calls.Add(1)
		d.late(d, f)
		return
	}
	d.queue = append(d.queue, func() { defer close(ran); f() })
	d.posted.Signal()
	d.mu.Unlock()
	if d.waits {
		select {
		case <-ran:
		case <-d.released: // it never will
		}
	}
}

// loop runs what is queued until the program quits. What is queued then never runs.
func (d *desktop) loop() {
	defer close(d.loopDone)
	for !d.quitting {
		d.mu.Lock()
		for len(d.queue) == 0 {
			d.posted.Wait()
		}
		i := d.next(len(d.queue))
		f := d.queue[i]
		d.queue = append(d.queue[:i], d.queue[i+1:]...)
		d.mu.Unlock()
		d.inLoop.Store(true)
		f()
		d.inLoop.Store(false)
	}
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
}

// entered counts the call of a handler.
func (d *desktop) entered() {
	d.handled.Add(1)
	if !d.inLoop.Load() || d.closed.Load() {
		d.wrong.Add(1)
	}
}

func (d *desktop) connected(server *tcpserver.TcpServer) {
	d.entered()
	socket := server.NextPendingConnection()
	if socket == nil {
		return
	}
	d.sockets[socket] = true
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			d.entered()
			socket.Send(socket.ReadAll())
		},
		BytesWritten: func(*tcpserver.TcpSocket, int) { d.entered() },
		Disconnected: func(socket *tcpserver.TcpSocket, _ error) {
			d.entered()
			delete(d.sockets, socket)
		},
	})
}

// closeAndQuit closes everything on the loop, and has the loop end at once.
func (d *desktop) closeAndQuit() {
	d.server.Close()
	for socket := range d.sockets {
		socket.SetHandlers(nil)
		socket.Close()
	}
	d.closed.Store(true)
	d.quitting = true
}

// quitAfterClose has the loop end when the library has called its last handler.
func (d *desktop) quitAfterClose() {
	d.server.CloseAsync(func(*tcpserver.TcpServer, error) {
		d.closed.Store(true)
		d.quitting = true
	})
	d.server.CloseConnections()
}

// talk connects, and sends and receives as long as the server lets it.
func talk(addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return // the program has quit already
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	for line := make([]byte, 100); err == nil; {
		if _, err = conn.Write(line); err == nil {
			_, err = io.ReadFull(conn, line)
		}
	}
}

// TestQuitsLeaveNothing quits programs at random moments, while clients connect, send and receive. A program that
// closes its server and its connections before it quits sees no handler after that, whatever its toolkit does. If it
// quits when CloseAsync calls back, the toolkit is not called either once it has ended.
func TestQuitsLeaveNothing(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), servertest.OpenFiles()
	handled := make(map[string]int64)
	for i := range *quits {
		kind := toolkits[i%len(toolkits)]
		orderly := i/len(toolkits)%2 == 0 || kind.name == "sdl" // a late call of that one panics
		handled[kind.name] += quitOnce(t, kind, orderly, time.Duration(rand.IntN(2000))*time.Microsecond)
	}
	require.False(t, servertest.Leaked(goroutines, files))
	for _, kind := range toolkits {
		require.NotZero(t, handled[kind.name], kind.name)
	}
}

// quitOnce runs a program, quits it after some time, and returns how many handlers were called.
func quitOnce(t *testing.T, kind toolkit, orderly bool, after time.Duration) int64 {
	const clients = 3
	d := newDesktop(kind)
	addr := servertest.Listen(t, d.server).Addr().String()
	go d.loop()
	var gone sync.WaitGroup
	for range clients {
		gone.Go(func() { talk(addr) })
	}
	time.Sleep(after)
	if orderly {
		d.exec(d.quitAfterClose)
	} else {
		d.exec(d.closeAndQuit)
	}
	servertest.Receive(t, d.loopDone)
	gone.Wait()
	for end := time.Now().Add(time.Minute); d.server.ConnectionCount() > 0; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "%s: a connection is left", kind.name)
	}
	close(d.released)
	require.Zero(t, d.wrong.Load(), "%s, orderly %v: handlers after the end, or elsewhere", kind.name, orderly)
	if orderly {
		require.Zero(t, d.calls.Load(), "%s: the toolkit was called after its end", kind.name)
	}
	return d.handled.Load()
}
