package msgserver

import (
	"container/list"
	"context"
	"iter"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/pullaccept/tcpserver"
)

// A ServerLoop serves all clients on one goroutine, the one that called Run or Serve: every callback runs there, one
// after another. The loops of the poller only bring bytes to it, so that a client that is slow or silent holds up
// nobody. The zero value of each field but ProcessClientData is a good default. The fields are set before Run and not
// changed while it runs. The methods are called in callbacks, unless it says otherwise.
type ServerLoop[Data any] struct {
	// NewData makes what belongs to a new client. An error refuses the client; it is told to OnError, and no other
	// callback is called. nil: the zero Data.
	NewData func(socket *tcpserver.TcpSocket) (Data, error)

	// ProcessClientData handles the bytes at the begin of buf, as many as it likes, and returns how many these were; 0:
	// more are needed. It is called again while there are bytes and it handles some; while more than 256 KiB are
	// queued for the client, that waits. buf is valid during the call, and never longer than MaxBufferSize. An error
	// ends the client; what was written to it before is still sent.
	ProcessClientData func(data Data, buf []byte) (n int, err error)

	// ClientDisconnected is called once for each client that NewData has accepted. The socket is closed, or will be as
	// soon as the client has what was written to it, and the client is no longer among Clients.
	ClientDisconnected func(data Data)

	// OnError is told of clients that were refused, could not be processed, were dropped with ErrSlowClient, or made a
	// callback panic, which is a *tcpserver.PanicError. Where one client is concerned err is a *ClientError.
	// ClientWrite may still write to it then. An end of stream or a reset is no error. nil: it is written to os.Stderr.
	OnError func(err error)

	// Update is called after each batch of events, and at least every UpdateTime.
	Update func()

	ListenCount   int // connections that the system queues, for Run. 0: 10
	BufferSize    int // bytes of a buffer at first, which a client has only while there are bytes to process. 0: 128
	MaxBufferSize int // bytes of a client that may wait for more to come: of the longest message. 0: 64 KiB (65536)

	// UpdateTime is the longest time from Update to Update. 0: a second.
	UpdateTime time.Duration

	// ConnectLag is how long a client may take nothing of what is queued for it; the package's documentation says what
	// that means. 0: 500 ms.
	ConnectLag time.Duration

	// MaxSendBuffer is how many bytes ClientWrite may queue for one client, beyond what the system takes. A client for
	// which it would be more is dropped with ErrSlowClient. What is written at once may be as long. 0: 64 MiB.
	MaxSendBuffer int

	// Of the loop's goroutine.
	clients   map[*tcpserver.TcpSocket]*loopClient[Data]
	order     list.List           // of *loopClient[Data], in the order in which they came
	unsent    []*loopClient[Data] // with something in out
	admitting *loopClient[Data]   // for which NewData is running
	batch     []*loopClient[Data] // the events that are being handled
	// Run ends: no message waits for its client to take something any more.
	shuttingDown bool

	mu      sync.Mutex // guards the block below
	running bool
	wakeup  chan struct{}
	funcs   []func()                       // of Work
	events  []*loopClient[Data]            // with something in the block that mu guards; each once at most
	open    map[*loopClient[Data]]struct{} // those whose connection has not ended
	spare   [][]byte                       // empty buffers for in
}

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
// server is closed by somebody else: tcpserver.ErrServerClosed. At the end it closes the server, processes what has
// come, closes all clients, calls ClientDisconnected for each, and returns when all connections have ended. What was
// written is still sent, within the server's CloseTimeout.
func (l *ServerLoop[D]) Serve(ctx context.Context, server *tcpserver.TcpServer) error {
	if err := l.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrived, taken := make(chan struct{}), make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- watchArrivals(ctx, server, arrived, taken) }()
	err := l.runLoop(server, arrived, taken, ended)
	server.Close()
	l.shutdown(server.CloseTimeout)
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
	l.wakeup = make(chan struct{}, 1)
	l.clients = make(map[*tcpserver.TcpSocket]*loopClient[D])
	l.open = make(map[*loopClient[D]]struct{})
	l.order.Init()
	if len(l.funcs) > 0 {
		l.wake()
	}
	return nil
}

// watchArrivals tells the loop of connections. It waits until they are taken before it looks for others.
func watchArrivals(
	ctx context.Context, server *tcpserver.TcpServer, arrived chan<- struct{}, taken <-chan struct{},
) error {
	for {
		if err := server.WaitForNewConnection(ctx); err != nil {
			return err
		}
		select {
		case arrived <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runLoop is the loop, until accepting has ended.
func (l *ServerLoop[D]) runLoop(
	server *tcpserver.TcpServer, arrived <-chan struct{}, taken chan<- struct{}, ended <-chan error,
) error {
	every := orDefault(l.UpdateTime, time.Second)
	updates := time.NewTimer(every)
	defer updates.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-arrived:
			l.addAll(server)
			taken <- struct{}{}
		case <-l.wakeup:
			l.processEvents()
			l.runFuncs()
		case <-updates.C:
		}
		if l.Update != nil {
			l.guard(l.Update)
			l.flush()
		}
		updates.Reset(every)
	}
}

// addAll makes clients of the connections that have come.
func (l *ServerLoop[D]) addAll(server *tcpserver.TcpServer) {
	for range server.PendingConnections() {
		if socket := server.NextPendingConnection(); socket != nil {
			l.add(socket)
		}
	}
}

// runFuncs calls what Work has queued.
func (l *ServerLoop[D]) runFuncs() {
	l.mu.Lock()
	funcs := l.funcs
	l.funcs = nil
	l.mu.Unlock()
	for _, f := range funcs {
		l.guard(f)
		l.flush()
	}
}

// processEvents sees to the clients for which something has happened.
func (l *ServerLoop[D]) processEvents() {
	l.mu.Lock()
	l.batch, l.events = l.events, l.batch[:0]
	l.mu.Unlock()
	for i, c := range l.batch {
		l.batch[i] = nil
		l.process(c)
		l.flush()
	}
}

// shutdown processes what has come, ends all clients, and waits until their connections have ended, for about limit.
func (l *ServerLoop[D]) shutdown(limit time.Duration) {
	l.shuttingDown = true
	for _, c := range l.snapshot() {
		l.process(c)
		l.flush()
	}
	for l.order.Len() > 0 {
		l.remove(l.order.Front().Value.(*loopClient[D]))
		l.flush()
	}
	defer forceCloseAfter(limit, l.outputs())()
	for !l.endIfAllClosed() {
		<-l.wakeup
		l.runFuncs()
	}
	l.shuttingDown = false
}

// outputs returns those whose connection has not ended.
func (l *ServerLoop[D]) outputs() (all []*output) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		all = append(all, &c.output)
	}
	return all
}

// endIfAllClosed reports whether all connections have ended; then the loop may run again.
func (l *ServerLoop[D]) endIfAllClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = nil
	if len(l.open) > 0 {
		return false
	}
	l.running = false
	return true
}

// Work has f called on the loop's goroutine. Any goroutine may call it, also before Run; what is queued when Run ends
// waits for the next one. What f writes is sent after it.
func (l *ServerLoop[D]) Work(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.funcs = append(l.funcs, f)
	l.wake()
}

// wake wakes the loop, if there is one. mu is held.
func (l *ServerLoop[D]) wake() {
	select {
	case l.wakeup <- struct{}{}:
	default:
	}
}

// ClientWrite writes to a client. It never waits: what is written during a callback is sent together after it, and what
// the system does not take is queued. A client that takes nothing for ConnectLag, or for which more than MaxSendBuffer
// would be queued, is dropped with ErrSlowClient. What is written to a socket that is no client's, or not any more, is
// dropped.
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

// maxOut is how much is collected before it is sent.
const maxOut = 64 << 10

// client returns the client with that socket, also during its NewData.
func (l *ServerLoop[D]) client(socket *tcpserver.TcpSocket) *loopClient[D] {
	if c := l.admitting; c != nil && c.socket == socket && !c.removed {
		return c
	}
	return l.clients[socket]
}

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
	if len(c.out) == 0 || c.removed {
		return
	}
	err := c.output.send(c.out)
	c.out = c.out[:0]
	if err != nil {
		c.socket.Abort()
		l.fail(c, err)
	}
}

// CloseConnection ends the connection of a client: what was written to it is still sent, and ClientDisconnected is
// called before CloseConnection returns. false: it is no client, or not any more. In NewData it refuses the client.
func (l *ServerLoop[D]) CloseConnection(socket *tcpserver.TcpSocket) bool {
	c := l.client(socket)
	if c == nil {
		return false
	}
	l.remove(c)
	return true
}

// Clients are the data of the clients, in the order in which they came. A client may be closed meanwhile.
func (l *ServerLoop[D]) Clients() iter.Seq[D] {
	return func(yield func(D) bool) {
		for _, c := range l.snapshot() {
			if !c.removed && !yield(c.data) {
				return
			}
		}
	}
}

// snapshot returns the clients of this moment, in the order in which they came.
func (l *ServerLoop[D]) snapshot() (all []*loopClient[D]) {
	for e := l.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*loopClient[D]))
	}
	return all
}

// guard calls a callback whose panic ends no client.
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
