package msgserver

import (
	"container/list"
	"context"
	"iter"
	"net"
	"strconv"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
)

// A ServerLoop serves all clients on one goroutine, the one that called [ServerLoop.Run] or [ServerLoop.Serve]: every
// callback runs there, one after another. The event loops of the poller only read and queue bytes, so that a slow or
// silent client delays no other. The zero value of every field except ProcessClientData is a good default. The fields
// must be set before Run and not changed while it runs. Unless documented otherwise, the methods may be called only in
// callbacks.
type ServerLoop[Data any] struct {
	// NewData returns the data of a new client. If it returns an error, the client is refused: OnError is called with
	// the error, and no other callback is called for the client. If nil, the data is the zero Data.
	NewData func(socket *tcpserver.TcpSocket) (Data, error)

	// ProcessClientData handles some of the bytes at the beginning of buf and returns how many it has handled, or 0 if
	// it needs more. It is called again as long as bytes are left and it handles some; while more than 256 KiB are
	// queued for the client, these calls wait. buf is valid only during the call and is never longer than
	// MaxBufferSize. An error ends the client; what was written to it before is still sent. ProcessClientData must not
	// be nil.
	ProcessClientData func(data Data, buf []byte) (n int, err error)

	// ClientDisconnected is called once for each client that NewData has accepted. The socket is closed, or will be
	// once the client has taken what was written to it, and Clients no longer returns the client.
	ClientDisconnected func(data Data)

	// OnError is called when NewData refuses a client, when a client's bytes cannot be processed, when a client is
	// dropped with ErrSlowClient, and when a callback panics, with a *tcpserver.PanicError. An error that concerns one
	// client is a *ClientError; ClientWrite may still write to that client. An end of stream or a reset is not an
	// error. If nil, errors are written to os.Stderr.
	OnError func(err error)

	// Update is called after each batch of events, and at least every UpdateTime.
	Update func()

	// ListenCount is the backlog that Run listens with. The default is 10.
	ListenCount int

	// BufferSize is the initial size of a buffer, in bytes. A client has one only while it has bytes to process. The
	// default is 128.
	BufferSize int

	// MaxBufferSize is how many bytes of a client may wait for more to arrive: the size of the longest message. The
	// default is 64 KiB (65536).
	MaxBufferSize int

	// UpdateTime is the longest time from one Update to the next. The default is one second.
	UpdateTime time.Duration

	// ConnectLag is how long a client may take none of the data that is queued for it, as the package documentation
	// describes. The default is 500 ms.
	ConnectLag time.Duration

	// MaxSendBuffer is how many bytes ClientWrite may queue for one client, beyond what the system takes. A client for
	// which more would be queued is dropped with ErrSlowClient. A single write may be as long. The default is 64 MiB.
	MaxSendBuffer int

	// Used only on the loop's goroutine.
	clients   map[*tcpserver.TcpSocket]*loopClient[Data]
	order     list.List           // of *loopClient[Data], in the order of their connections
	unsent    []*loopClient[Data] // with something in out
	admitting *loopClient[Data]   // for which NewData is running
	batch     []*loopClient[Data] // the events that are being handled
	updates   *updateTimer        // nil without Update
	// Serve is ending: messages no longer wait for their client to take something.
	shuttingDown bool

	mu      sched.Mutex // guards the block below
	wakeup  sched.Cond  // on mu; signalled when the loop may have something to do
	taken   sched.Cond  // on mu; signalled when the new connections are clients
	running bool
	arrived bool                // there are new connections
	ended   error               // why accepting has ended; nil until then
	funcs   []func()            // queued by Work
	events  []*loopClient[Data] // clients to process, each at most once
	open    list.List           // of *loopClient[Data], whose connection has not ended, in the order of the connections
	spare   [][]byte            // empty buffers
}

// Run listens on the TCP address of host and port and serves as [ServerLoop.Serve] does. If it cannot listen, it
// returns that error at once. It uses the process-wide poller.
func (l *ServerLoop[D]) Run(ctx context.Context, host string, port int) error {
	server := &tcpserver.TcpServer{Backlog: orDefault(l.ListenCount, 10)}
	if err := server.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
		return err
	}
	defer server.Close()
	return l.Serve(ctx, server)
}

// Serve serves the connections of a server that is already listening. It returns the error of ctx when ctx ends, or
// [tcpserver.ErrServerClosed] when the server is closed elsewhere. Before it returns, it closes the server, processes
// what has been received, closes all clients, calls ClientDisconnected for each, and waits until all connections have
// ended. What was written is still sent, within the server's CloseTimeout. Serve returns an error at once if the loop
// is already running, which is [ErrRunning], or if ProcessClientData is nil. After it has returned, it may be called
// again.
func (l *ServerLoop[D]) Serve(ctx context.Context, server *tcpserver.TcpServer) error {
	if err := l.begin(); err != nil {
		return err
	}
	ctx, cancel := sched.WithCancel(ctx)
	defer cancel()
	sched.Go(func() { l.watchArrivals(ctx, server) })
	if l.updates = nil; l.Update != nil {
		l.updates = startUpdates(l.UpdateTime, &l.wakeup)
		defer l.updates.timer.Stop()
	}
	defer func() { // also if a callback calls runtime.Goexit
		server.Close()
		l.awaitArrivalsEnd()
		l.end(server.CloseTimeout)
	}()
	return l.runLoop(server)
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
	l.running, l.ended = true, nil
	if l.wakeup.L == nil { // the timer of an earlier run may still look at it
		l.wakeup.L, l.taken.L = &l.mu, &l.mu
	}
	l.clients = make(map[*tcpserver.TcpSocket]*loopClient[D])
	l.order.Init()
	return nil
}

// watchArrivals tells the loop about new connections, and why accepting has ended. It waits until these are taken
// before it looks for others.
func (l *ServerLoop[D]) watchArrivals(ctx context.Context, server *tcpserver.TcpServer) {
	for {
		err := server.WaitForNewConnection(ctx)
		l.mu.Lock()
		l.arrived, l.ended = err == nil, err
		l.wakeup.Signal()
		for l.arrived {
			l.taken.Wait()
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// setTaken makes watchArrivals look for further connections.
func (l *ServerLoop[D]) setTaken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrived = false
	l.taken.Signal()
}

// awaitArrivalsEnd waits until watchArrivals, whose server is closed, has ended.
func (l *ServerLoop[D]) awaitArrivalsEnd() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.ended == nil {
		l.arrived = false
		l.taken.Signal()
		l.wakeup.Wait()
	}
}

// end calls shutdown, again if a callback calls runtime.Goexit there.
func (l *ServerLoop[D]) end(limit time.Duration) {
	finished := false
	defer func() {
		if !finished {
			l.end(limit)
		}
	}()
	l.shutdown(limit)
	finished = true
}

// runLoop is the loop. It returns why accepting has ended.
func (l *ServerLoop[D]) runLoop(server *tcpserver.TcpServer) error {
	for {
		arrived, err := l.await()
		if err != nil {
			return err
		}
		if arrived {
			l.addAll(server)
			l.setTaken()
		}
		l.processEvents()
		l.runFuncs()
		l.update()
	}
}

// update calls Update, if there is one, and sets the timer for the next call.
func (l *ServerLoop[D]) update() {
	if l.updates != nil {
		l.guard(l.Update)
		l.flush()
		l.updates.timer.Reset(l.updates.every)
	}
}

// updateIfDue calls Update if UpdateTime has passed, so that a long batch of events does not hold it up.
func (l *ServerLoop[D]) updateIfDue() {
	l.mu.Lock()
	due := l.updates.take()
	l.mu.Unlock()
	if due {
		l.update()
	}
}

// await waits until there is something to do. It reports whether there are new connections, and why accepting has
// ended.
func (l *ServerLoop[D]) await() (arrived bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.updates.take() && !l.arrived && l.ended == nil && len(l.events) == 0 && len(l.funcs) == 0 {
		l.wakeup.Wait()
	}
	return l.arrived, l.ended
}

// addAll turns the pending connections into clients.
func (l *ServerLoop[D]) addAll(server *tcpserver.TcpServer) {
	for range server.PendingConnections() {
		if socket := server.NextPendingConnection(); socket != nil {
			l.add(socket)
		}
	}
}

// runFuncs calls the functions that Work has queued.
func (l *ServerLoop[D]) runFuncs() {
	l.mu.Lock()
	funcs := l.funcs
	l.funcs = nil
	l.mu.Unlock()
	defer func() { // also if one of them calls runtime.Goexit
		l.mu.Lock()
		defer l.mu.Unlock()
		l.funcs = append(funcs, l.funcs...)
	}()
	for len(funcs) > 0 {
		f := funcs[0]
		funcs = funcs[1:]
		l.guard(f)
		l.flush()
		l.updateIfDue()
	}
}

// processEvents processes the clients that have events.
func (l *ServerLoop[D]) processEvents() {
	l.mu.Lock()
	l.batch, l.events = l.events, l.batch[:0]
	l.mu.Unlock()
	for i, c := range l.batch {
		l.batch[i] = nil
		l.process(c)
		l.flush()
		l.updateIfDue()
	}
}

// shutdown processes what has been received, removes all clients, and waits until their connections have ended, for
// about limit.
func (l *ServerLoop[D]) shutdown(limit time.Duration) {
	l.shuttingDown = true
	clients := l.snapshot()
	for _, c := range clients {
		l.process(c)
		l.flush()
	}
	for l.order.Len() > 0 {
		l.remove(l.order.Front().Value.(*loopClient[D]))
		l.flush()
	}
	if len(clients) > 0 {
		l.update()
	}
	defer forceCloseAfter(limit, l.outputs())()
	for !l.awaitEnd() {
		l.runFuncs()
		l.update()
	}
	l.shuttingDown = false
}

// outputs returns the outputs of all connections that have not ended.
func (l *ServerLoop[D]) outputs() (all []*output) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.open.Front(); e != nil; e = e.Next() {
		all = append(all, &e.Value.(*loopClient[D]).output)
	}
	return all
}

// awaitEnd waits until all connections have ended, and returns true: the loop may run again. It returns false if
// functions are queued or an update is due before.
func (l *ServerLoop[D]) awaitEnd() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open.Len() > 0 && len(l.funcs) == 0 && !l.updates.take() {
		l.wakeup.Wait()
	}
	if l.open.Len() > 0 {
		return false
	}
	l.events = nil
	l.running = false
	return true
}

// Work calls f on the loop's goroutine, without waiting for it. It may be called from any goroutine, and before Run.
// Functions that are still queued when Run ends wait for the next Run. What f writes is sent after f returns. Work may
// be used as the server's Executor.
func (l *ServerLoop[D]) Work(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.funcs = append(l.funcs, f)
	l.wakeup.Signal()
}

// ClientWrite writes to a client. It never waits: everything that is written during a callback is sent together after
// it, and what the system does not take is queued. A client that takes nothing for ConnectLag, or for which more than
// MaxSendBuffer would be queued, is dropped with [ErrSlowClient]; if that is known at once, OnError and
// ClientDisconnected are called before ClientWrite returns. If socket does not belong to a client, or no longer does,
// buf is discarded.
func (l *ServerLoop[D]) ClientWrite(socket *tcpserver.TcpSocket, buf []byte) {
	c := l.client(socket)
	if c == nil {
		return
	}
	if len(c.out)+len(buf) > c.max {
		l.send(c) // the queue may have no room for both at once, but for one after the other
		if c.removed {
			return
		}
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

// maxOut is how many bytes ClientWrite collects before it sends them.
const maxOut = 64 << 10

// client returns the client of socket, also during its NewData, or nil.
func (l *ServerLoop[D]) client(socket *tcpserver.TcpSocket) *loopClient[D] {
	if c := l.admitting; c != nil && c.socket == socket && !c.removed {
		return c
	}
	return l.clients[socket]
}

// flush sends what ClientWrite has collected.
func (l *ServerLoop[D]) flush() {
	for i := 0; i < len(l.unsent); i++ {
		c := l.unsent[i]
		if c == nil {
			continue // a callback has called runtime.Goexit in an earlier flush
		}
		l.unsent[i] = nil
		l.send(c)
		l.recycle(c.out)
		c.out = nil
	}
	l.unsent = l.unsent[:0]
}

func (l *ServerLoop[D]) send(c *loopClient[D]) {
	if len(c.out) == 0 || c.removed {
		return
	}
	err := c.output.send(c.out)
	c.out = c.out[:0]
	switch {
	case err == nil:
	case c == l.admitting:
		c.abortWith(err) // it fails when NewData has accepted it
	default:
		c.socket.Abort()
		l.fail(c, err)
	}
}

// CloseConnection closes the connection of a client. What was written to it is still sent. ClientDisconnected is called
// before CloseConnection returns. It reports false if socket does not belong to a client, or no longer does. In NewData
// it refuses the client.
func (l *ServerLoop[D]) CloseConnection(socket *tcpserver.TcpSocket) bool {
	c := l.client(socket)
	if c == nil {
		return false
	}
	l.remove(c)
	return true
}

// Clients returns an iterator over the data of the clients, in the order of their connections. Clients may be closed
// during the iteration.
func (l *ServerLoop[D]) Clients() iter.Seq[D] {
	return func(yield func(D) bool) {
		for _, c := range l.snapshot() {
			if !c.removed && !yield(c.data) {
				return
			}
		}
	}
}

// snapshot returns the present clients, in the order of their connections.
func (l *ServerLoop[D]) snapshot() (all []*loopClient[D]) {
	for e := l.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*loopClient[D]))
	}
	return all
}

// guard calls a callback that concerns no client, and reports its panic.
func (l *ServerLoop[D]) guard(f func()) {
	if err := try(f); err != nil {
		l.report(err)
	}
}

// report passes err to OnError. If that panics, the panic is written to os.Stderr.
func (l *ServerLoop[D]) report(err error) {
	if l.OnError != nil {
		if err = try(func() { l.OnError(err) }); err == nil {
			return
		}
	}
	printError(nil, err)
}
