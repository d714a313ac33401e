package msgserver

import (
	"container/list"
	"context"
	"errors"
	"iter"
	"math"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/pullaccept/tcpserver"
)

// A ServerLoop serves all clients on one goroutine, the one that called Run or Serve: every callback runs there, one
// after another. The loops of the poller only bring bytes to it, so that a client that is slow or silent holds up nobody.
// The zero value of each field but ProcessClientData is a good default. The fields are set before Run and not changed
// while it runs. The methods are called in callbacks, unless it says otherwise.
type ServerLoop[Data any] struct {
	// NewData makes what belongs to a new client. An error refuses the client; it is told to OnError, and no other
	// callback is called. nil: the zero Data.
	NewData func(socket *tcpserver.TcpSocket) (Data, error)

	// ProcessClientData handles the bytes at the begin of buf, as many as it likes, and returns how many these were; 0:
	// more are needed. It is called again while there are bytes and it handles some. buf is valid during the call. An
	// error ends the client.
	ProcessClientData func(data Data, buf []byte) (n int, err error)

	// ClientDisconnected is called once for each client that NewData has accepted. The socket is closed, and the
	// client is no longer among Clients.
	ClientDisconnected func(data Data)

	// OnError is told of clients that were refused, could not be processed, or made a callback panic, which is a
	// *tcpserver.PanicError. An end of stream or a reset is no error. nil: it is written to os.Stderr.
	OnError func(err error)

	// Update is called after each batch of events, and at least every UpdateTime.
	Update func()

	ListenCount   int // connections that the system queues, for Run. 0: 10
	BufferSize    int // bytes of a buffer at first, which a client has only while there are bytes to process. 0: 128
	MaxBufferSize int // bytes of a client that may wait for more to come. 0: 64 KiB (65536)

	// UpdateTime is the longest time from Update to Update. 0: a second.
	UpdateTime time.Duration

	// Of the loop's goroutine.
	clients  map[*tcpserver.TcpSocket]*loopClient[Data]
	order    list.List            // of *loopClient[Data], in the order in which they came
	unsent   []*loopClient[Data]  // with something in out
	arriving *tcpserver.TcpSocket // for which NewData is running
	batch    []*loopClient[Data]  // the events that are being handled

	mu      sync.Mutex // guards the block below
	running bool
	wake    chan struct{}
	events  []*loopClient[Data] // with something in the block that mu guards; each once at most
	arrived bool                // there are connections to take
	open    int                 // sockets whose Disconnected is still to come
	spare   [][]byte            // empty buffers for in
}

// A loopClient is a client of a ServerLoop.
type loopClient[D any] struct {
	loop   *ServerLoop[D]
	socket *tcpserver.TcpSocket
	data   D

	// Of the loop's goroutine.
	rest []byte // what ProcessClientData wants more for
	out  []byte // what ClientWrite was given since the last Send
	elem *list.Element
	gone bool

	// Guarded by loop.mu.
	in     []byte // what has come
	queued bool   // in loop.events
	paused bool
	ended  bool
}

// maxSpare is how many buffers are kept for the next that has something to process.
const maxSpare = 64

var errNoProcess = errors.New("msgserver: ProcessClientData is nil")

// Run listens on TCP, and serves until ctx ends, whose error it returns. An error of listening is returned at once. It
// uses the process-wide poller.
func (l *ServerLoop[D]) Run(ctx context.Context, host string, port int) error {
	server := &tcpserver.TcpServer{Backlog: orDefault(l.ListenCount, 10)}
	if err := server.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
		return err
	}
	defer server.Close()
	return l.Serve(ctx, server)
}

// Serve takes the connections of a server that listens already, until ctx ends, whose error it returns, or until the
// server is closed by somebody else: tcpserver.ErrServerClosed. At the end it closes the server and all clients, calls
// ClientDisconnected for each, and returns when all connections have ended. What was written is still sent, within the
// server's CloseTimeout.
func (l *ServerLoop[D]) Serve(ctx context.Context, server *tcpserver.TcpServer) error {
	if err := l.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	taken := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- l.watch(ctx, server, taken) }()
	err := l.work(server, taken, ended)
	server.Close()
	l.finish()
	return err
}

func (l *ServerLoop[D]) begin() error {
	if l.ProcessClientData == nil {
		return errNoProcess
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		return ErrRunning
	}
	l.running = true
	l.wake = make(chan struct{}, 1)
	l.clients = make(map[*tcpserver.TcpSocket]*loopClient[D])
	l.order.Init()
	return nil
}

// watch tells the loop of connections. It waits until they are taken before it looks for others.
func (l *ServerLoop[D]) watch(ctx context.Context, server *tcpserver.TcpServer, taken <-chan struct{}) error {
	for {
		if err := server.WaitForNewConnection(ctx); err != nil {
			return err
		}
		l.mu.Lock()
		l.arrived = true
		l.nudge()
		l.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// work is the loop, until accepting has ended.
func (l *ServerLoop[D]) work(server *tcpserver.TcpServer, taken chan<- struct{}, ended <-chan error) error {
	every := orDefault(l.UpdateTime, time.Second)
	updates := time.NewTimer(every)
	defer updates.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-l.wake:
			l.handle(server, taken)
		case <-updates.C:
		}
		if l.Update != nil {
			l.guard(l.Update)
		}
		updates.Reset(every)
	}
}

// handle sees to a batch of events.
func (l *ServerLoop[D]) handle(server *tcpserver.TcpServer, taken chan<- struct{}) {
	l.mu.Lock()
	l.batch, l.events = l.events, l.batch[:0]
	arrived := l.arrived
	l.arrived = false
	l.mu.Unlock()
	if arrived {
		for range server.PendingConnections() {
			if socket := server.NextPendingConnection(); socket != nil {
				l.add(socket)
			}
		}
		taken <- struct{}{}
	}
	for i, c := range l.batch {
		l.batch[i] = nil
		l.process(c)
		l.flush()
	}
}

// finish ends all clients, and waits until their connections have ended.
func (l *ServerLoop[D]) finish() {
	for l.order.Len() > 0 {
		l.CloseConnection(l.order.Front().Value.(*loopClient[D]).socket)
	}
	l.flush()
	for {
		l.mu.Lock()
		l.events = nil
		if l.open == 0 {
			l.running = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		<-l.wake
	}
}

// nudge wakes the loop. mu is held.
func (l *ServerLoop[D]) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// add makes a client of a connection.
func (l *ServerLoop[D]) add(socket *tcpserver.TcpSocket) {
	c := &loopClient[D]{loop: l, socket: socket}
	if l.NewData != nil {
		l.arriving = socket
		var err error
		if failure := try(func() { c.data, err = l.NewData(socket) }); failure != nil {
			err = failure
		}
		refused := l.arriving == nil // by CloseConnection
		l.arriving = nil
		if err != nil {
			l.report(err)
		}
		if err != nil || refused {
			socket.Close()
			return
		}
	}
	l.clients[socket] = c
	c.elem = l.order.PushBack(c)
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: c.readyRead, Disconnected: c.disconnected})
	l.flush()
}

// readyRead runs on a loop of the poller.
func (c *loopClient[D]) readyRead(socket *tcpserver.TcpSocket) {
	p := socket.Peek(math.MaxInt)
	l := c.loop
	l.mu.Lock()
	if c.in == nil {
		c.in = l.buffer()
	}
	c.in = append(c.in, p...)
	if len(c.in) > l.limit() && !c.paused {
		c.paused = true
		socket.PauseReading()
	}
	c.post()
	l.mu.Unlock()
	socket.Discard(len(p))
}

func (c *loopClient[D]) disconnected(*tcpserver.TcpSocket, error) {
	l := c.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	c.ended = true
	c.post()
	if l.open == 0 {
		l.nudge() // finish may be waiting for it
	}
}

// post makes an event of what has changed. mu is held.
func (c *loopClient[D]) post() {
	if c.queued {
		return
	}
	c.queued = true
	c.loop.events = append(c.loop.events, c)
	if len(c.loop.events) == 1 {
		c.loop.nudge()
	}
}

// buffer returns an empty buffer. mu is held.
func (l *ServerLoop[D]) buffer() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return make([]byte, 0, orDefault(l.BufferSize, 128))
}

func (l *ServerLoop[D]) limit() int { return orDefault(l.MaxBufferSize, 64<<10) }

// process handles what has come from one client, and its end.
func (l *ServerLoop[D]) process(c *loopClient[D]) {
	l.mu.Lock()
	in, ended := c.in, c.ended
	c.in, c.queued = nil, false
	if c.paused {
		c.paused = false
		c.socket.ResumeReading()
	}
	l.mu.Unlock()
	if c.gone {
		return
	}
	buf := in
	if len(c.rest) > 0 {
		buf = append(c.rest, in...)
	}
	left, err := l.consume(c, buf)
	switch {
	case c.gone:
	case err != nil:
		l.report(err)
		l.remove(c)
	case ended:
		l.remove(c)
	default:
		c.keep(buf, left)
	}
	l.recycle(in)
}

// consume has the bytes of a client processed, and returns what is left.
func (l *ServerLoop[D]) consume(c *loopClient[D], buf []byte) ([]byte, error) {
	for len(buf) > 0 && !c.gone {
		var n int
		var err error
		if failure := try(func() { n, err = l.ProcessClientData(c.data, buf) }); failure != nil {
			err = failure
		}
		if err == nil && (n < 0 || n > len(buf)) {
			err = ErrBadCount
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		buf = buf[n:]
	}
	if len(buf) > l.limit() && !c.gone {
		return nil, ErrBufferFull
	}
	return buf, nil
}

// keep holds on to left, the end of buf, which is made of rest, or is a buffer that others use next.
func (c *loopClient[D]) keep(buf, left []byte) {
	switch {
	case len(left) == 0:
		c.rest = nil
	case len(c.rest) > 0:
		c.rest = buf[:copy(buf, left)]
	default:
		c.rest = append([]byte(nil), left...)
	}
}

// recycle takes a buffer back that is not in use any more.
func (l *ServerLoop[D]) recycle(b []byte) {
	if cap(b) == 0 || cap(b) > l.limit() {
		return
	}
	l.mu.Lock()
	if len(l.spare) < maxSpare {
		l.spare = append(l.spare, b[:0])
	}
	l.mu.Unlock()
}

// ClientWrite writes to a client. It never waits: what is written during a callback is sent together after it, and what
// the system does not take is queued. A client for which more is queued than the WriteBufferSize of its server, 1 MiB by
// default, is disconnected.
func (l *ServerLoop[D]) ClientWrite(socket *tcpserver.TcpSocket, buf []byte) {
	c := l.clients[socket]
	if c == nil {
		if socket == l.arriving {
			socket.Send(buf)
		}
		return
	}
	if len(c.out) == 0 {
		l.unsent = append(l.unsent, c)
		if c.out == nil {
			l.mu.Lock()
			c.out = l.buffer()
			l.mu.Unlock()
		}
	}
	c.out = append(c.out, buf...)
	if len(c.out) >= maxOut {
		l.send(c)
	}
}

// maxOut is how much is collected before it is sent.
const maxOut = 64 << 10

// flush sends what was written.
func (l *ServerLoop[D]) flush() {
	for i := 0; i < len(l.unsent); i++ {
		c := l.unsent[i]
		l.unsent[i] = nil
		l.send(c)
		l.recycle(c.out)
		c.out = nil
	}
	l.unsent = l.unsent[:0]
}

func (l *ServerLoop[D]) send(c *loopClient[D]) {
	if len(c.out) == 0 || c.gone {
		return
	}
	err := c.socket.Send(c.out)
	c.out = c.out[:0]
	if err == tcpserver.ErrWriteBufferFull {
		l.report(errSlow)
		c.socket.Abort()
		l.remove(c)
	}
}

// CloseConnection ends the connection of a client: what was written to it is still sent, and ClientDisconnected is
// called before CloseConnection returns. false: it is no client, or not any more. In NewData it refuses the client.
func (l *ServerLoop[D]) CloseConnection(socket *tcpserver.TcpSocket) bool {
	if socket == l.arriving && socket != nil {
		l.arriving = nil
		return true
	}
	c := l.clients[socket]
	if c == nil {
		return false
	}
	l.send(c)
	if !c.gone {
		l.remove(c)
	}
	return true
}

// remove ends a client.
func (l *ServerLoop[D]) remove(c *loopClient[D]) {
	c.gone = true
	c.rest = nil
	delete(l.clients, c.socket)
	l.order.Remove(c.elem)
	c.socket.Close()
	if l.ClientDisconnected != nil {
		l.guard(func() { l.ClientDisconnected(c.data) })
	}
}

// Clients are the data of the clients, in the order in which they came. A client may be closed meanwhile.
func (l *ServerLoop[D]) Clients() iter.Seq[D] {
	return func(yield func(D) bool) {
		var all []*loopClient[D]
		for e := l.order.Front(); e != nil; e = e.Next() {
			all = append(all, e.Value.(*loopClient[D]))
		}
		for _, c := range all {
			if !c.gone && !yield(c.data) {
				return
			}
		}
	}
}

func (l *ServerLoop[D]) guard(f func()) {
	if err := try(f); err != nil {
		l.report(err)
	}
}

// report tells OnError. If that panics too, the panic is written at least.
func (l *ServerLoop[D]) report(err error) {
	if l.OnError != nil {
		if err = try(func() { l.OnError(err) }); err == nil {
			return
		}
	}
	printError(nil, err)
}
