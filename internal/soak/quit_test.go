package soak

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
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

// talkers is how many clients talk to a program.
const talkers = 3

// A wayToQuit is how a program ends.
type wayToQuit int

const (
	atOnce     wayToQuit = iota // closes everything and quits
	withResets                  // resets the connections and quits when CloseAsync calls back
	gracefully                  // lets what was sent arrive, and quits then
	waysToQuit
)

// A desktop is a program that runs a toolkit's loop on a goroutine.
type desktop struct {
	toolkit
	mu       sync.Mutex // guards the block below
	queue    []func()
	ended    bool
	posted   *sync.Cond // on mu
	released chan struct{}

	way      wayToQuit
	greeting int64         // how many bytes a client gets first
	quitting bool          // the loop ends after the function that runs
	loopID   atomic.Value  // the goroutine of the loop, while it runs a function; "" otherwise
	closed   atomic.Bool   // the server was closed on the loop: no handler may follow
	calls    atomic.Int64  // of the toolkit after its end
	handled  atomic.Int64  // calls of handlers
	wrong    atomic.Int64  // those of them on another goroutine, after closed, or after the last handler of their owner
	written  atomic.Int64  // calls of BytesWritten
	loopDone chan struct{} // closed when the loop has ended
	greeted  chan struct{} // closed when all clients were sent the greeting

	server   *tcpserver.TcpServer
	sent     int                           // greetings
	periods  int                           // how often ClosedHandler was called
	sockets  map[*tcpserver.TcpSocket]bool // those whose Disconnected was not called
	leftOver int                           // sockets when the server was closed
}

// goroutine returns the name of the calling goroutine.
func goroutine() string {
	stack := make([]byte, len("goroutine 18446744073709551615 "))
	id, _, _ := strings.Cut(strings.TrimPrefix(string(stack[:runtime.Stack(stack, false)]), "goroutine "), " ")
	return id
}

func newDesktop(kind toolkit, way wayToQuit) *desktop {
	d := &desktop{
		toolkit: kind, way: way, greeting: shortGreeting, released: make(chan struct{}), loopDone: make(chan struct{}),
		greeted: make(chan struct{}), sockets: make(map[*tcpserver.TcpSocket]bool),
	}
	d.posted = sync.NewCond(&d.mu)
	d.server = &tcpserver.TcpServer{
		Executor: d.exec, NewConnectionHandler: d.connected, ClosedHandler: d.listenerClosed,
		WriteBufferSize: 2 * longGreeting,
	}
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
		d.loopID.Store(goroutine())
		f()
		d.loopID.Store("")
	}
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
}

// entered counts the call of a handler, which is wrong if its owner has ended.
func (d *desktop) entered(open bool) {
	d.handled.Add(1)
	if d.loopID.Load() != goroutine() || d.closed.Load() || !open {
		d.wrong.Add(1)
	}
}

func (d *desktop) connected(server *tcpserver.TcpServer) {
	d.entered(d.periods == 0)
	socket := server.NextPendingConnection()
	if socket == nil {
		return
	}
	d.sockets[socket] = true
	socket.Send(make([]byte, d.greeting))
	if d.sent++; d.sent == talkers {
		close(d.greeted)
	}
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			d.entered(d.sockets[socket])
			socket.Send(socket.ReadAll())
		},
		BytesWritten: func(socket *tcpserver.TcpSocket, _ int) {
			d.entered(d.sockets[socket])
			d.written.Add(1)
		},
		Disconnected: func(socket *tcpserver.TcpSocket, _ error) {
			d.entered(d.sockets[socket])
			delete(d.sockets, socket)
		},
	})
}

// listenerClosed is called last, unless the program quits at once: then it need not be.
func (d *desktop) listenerClosed(*tcpserver.TcpServer, error) {
	d.periods++
	if d.way != atOnce {
		d.entered(len(d.sockets) == 0)
	}
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

// quitAfterClose has the loop end when the library has called its last handler. Ending it takes a while.
func (d *desktop) quitAfterClose() {
	d.server.CloseAsync(func(*tcpserver.TcpServer, error) {
		d.closed.Store(true)
		d.quitting = true
		d.leftOver = len(d.sockets)
		if rand.IntN(10) == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	})
	if d.way == withResets {
		d.server.CloseConnections()
		return
	}
	for socket := range d.sockets {
		socket.Close()
	}
}

// The greeting is what a client gets first. The system does not take a long one at once from a client that does not
// read.
const (
	shortGreeting = 1
	longGreeting  = 8 << 20
)

// talk connects, and sends and receives as long as the server lets it. It returns why it does not any more, or nil if
// the program may not have taken the connection.
func (d *desktop) talk(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil // the program has quit already
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	line := make([]byte, 100)
	// It sends first: Linux forgets a connection whose handshake ends while the listener is being closed, so that a
	// client which only reads notices nothing until a keep-alive probe.
	if _, err = conn.Write(line); err != nil {
		return err
	}
	if d.greeting == longGreeting {
		<-d.greeted // the program does not quit before
	}
	n, err := io.CopyN(io.Discard, conn, d.greeting)
	if n == 0 {
		return nil
	}
	for err == nil {
		if _, err = io.ReadFull(conn, line); err == nil {
			_, err = conn.Write(line)
		}
	}
	return err
}

// TestQuitsLeaveNothing quits programs at random moments, while clients connect, send and receive. A program that
// closes its server and its connections before it quits sees no handler after that, whatever its toolkit does. If it
// quits when CloseAsync calls back, every connection was told its end before, and the toolkit is not called once it has
// ended.
func TestQuitsLeaveNothing(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), servertest.OpenFiles()
	handled := make(map[string]int64)
	late := make(map[*desktop]int64) // calls of the toolkit after its end that are allowed
	for i := range *quits {
		kind, way := toolkits[i%len(toolkits)], wayToQuit(i/len(toolkits))%waysToQuit
		if kind.name == "sdl" && way == atOnce {
			way = gracefully // a late call of that one panics
		}
		d := newDesktop(kind, way)
		if i%50 == 0 {
			d.greeting = longGreeting
		}
		d.quitOnce(t, time.Duration(rand.IntN(2000))*time.Microsecond)
		handled[kind.name] += d.handled.Load()
		if late[d] = 0; way == atOnce {
			late[d] = 1 + talkers // for the server, and for each connection whose loop had begun to announce something
		}
	}
	require.False(t, servertest.Leaked(goroutines, files))
	for _, kind := range toolkits {
		require.NotZero(t, handled[kind.name], kind.name)
	}
	for d, allowed := range late {
		require.Zero(t, d.wrong.Load(), "%s, way %d: handlers after the end, or elsewhere", d.name, d.way)
		require.LessOrEqual(t, d.calls.Load(), allowed, "%s, way %d: calls of the toolkit after its end", d.name, d.way)
	}
}

// quitOnce runs the program, and quits it after some time.
func (d *desktop) quitOnce(t *testing.T, after time.Duration) {
	addr := servertest.Listen(t, d.server).Addr().String()
	go d.loop()
	var gone sync.WaitGroup
	reasons := make(chan error, talkers)
	for range talkers {
		gone.Go(func() { reasons <- d.talk(addr) })
	}
	switch {
	case d.greeting == longGreeting:
		servertest.Receive(t, d.greeted)
		servertest.Eventually(t, func() bool { return d.written.Load() > 0 })
	case rand.IntN(2) == 0: // when the clients are at work, however slow the system is
		servertest.Eventually(t, func() bool { return d.handled.Load() > 0 })
	}
	time.Sleep(after)
	if d.way == atOnce {
		d.exec(d.closeAndQuit)
	} else {
		d.exec(d.quitAfterClose)
	}
	servertest.Receive(t, d.loopDone)
	gone.Wait()
	d.check(t, reasons)
	for end := time.Now().Add(time.Minute); d.server.ConnectionCount() > 0; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "%s: a connection is left", d.name)
	}
	close(d.released)
}

// check checks what the program and its clients have seen of the end.
func (d *desktop) check(t *testing.T, reasons <-chan error) {
	if d.way != atOnce {
		require.Equal(t, 1, d.periods, "%s: calls of ClosedHandler", d.name)
		require.Zero(t, d.leftOver, "%s: connections whose Disconnected was not called", d.name)
	}
	if d.way == withResets && servertest.ResetsAreSeen() {
		for range talkers {
			err := <-reasons
			require.NotErrorIs(t, err, io.EOF, d.name)
			require.NotErrorIs(t, err, io.ErrUnexpectedEOF, d.name)
		}
	}
}
