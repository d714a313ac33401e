package tcpserver_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// In the tests of this file some clients do their worst, each in one way. The server stays within a bound that the test
// states, and serves a client beside them.

// A besieged server counts what its handlers are called for. It has one loop, where a client could hold up another most
// easily.
type besieged struct {
	*tcpserver.TcpServer
	taken, reads, writes, ended atomic.Int64 // sockets, and calls of ReadyRead, BytesWritten and Disconnected

	mu      sync.Mutex
	sockets []*tcpserver.TcpSocket
}

// besiege starts server, whose sockets have the given handlers.
func besiege(t *testing.T, server *tcpserver.TcpServer, readyRead func(*tcpserver.TcpSocket)) *besieged {
	t.Helper()
	b := &besieged{TcpServer: server}
	handlers := &tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			b.reads.Add(1)
			readyRead(socket)
		},
		BytesWritten: func(socket *tcpserver.TcpSocket, _ int) {
			b.writes.Add(1)
			socket.ResumeReading()
		},
		Disconnected: func(*tcpserver.TcpSocket, error) { b.ended.Add(1) },
	}
	server.Poller = pollerWithLoops(t, 1)
	server.NewConnectionHandler = func(server *tcpserver.TcpServer) {
		if socket := server.NextPendingConnection(); socket != nil {
			b.taken.Add(1)
			b.mu.Lock()
			b.sockets = append(b.sockets, socket)
			b.mu.Unlock()
			socket.SetHandlers(handlers)
		}
	}
	listen(t, server)
	return b
}

// each returns the sockets that were taken.
func (b *besieged) each() []*tcpserver.TcpSocket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sockets)
}

// calls returns how many handlers were called.
func (b *besieged) calls() int64 { return b.reads.Load() + b.writes.Load() + b.ended.Load() }

// mustRest waits until no handler is called for a while.
func (b *besieged) mustRest(t *testing.T) {
	t.Helper()
	for end, before := time.Now().Add(patience), int64(-1); b.calls() != before; {
		require.True(t, time.Now().Before(end), "handlers are called although nothing happens")
		before = b.calls()
		time.Sleep(quiet)
	}
}

// behaving connects a client that behaves, and waits until it is served.
func behaving(t *testing.T, server *besieged) *net.TCPConn {
	t.Helper()
	conn := dial(t, server.TcpServer)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	mustEcho(t, conn)
	return conn
}

// echoPolitely echoes what arrives, and stops reading while the send queue has no room.
func echoPolitely(socket *tcpserver.TcpSocket) {
	received := socket.Peek(64 << 10)
	if socket.Send(received) == nil {
		socket.Discard(len(received))
	} else {
		socket.PauseReading()
	}
}

// together calls do on several goroutines until stop is called.
func together(n int, do func(i int)) (stop func()) {
	var ending atomic.Bool
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for !ending.Load() {
				do(i)
			}
		})
	}
	return func() {
		ending.Store(true)
		all.Wait()
	}
}

// An unfinished line costs the smallest chunk, and at most one call of ReadyRead for each byte.
func TestSlowSendersCostOneSmallChunkEach(t *testing.T) {
	const clients, rounds = 100, 10
	server := besiege(t, new(tcpserver.TcpServer), func(socket *tcpserver.TcpSocket) {
		if line, ok := socket.ReadLine(); ok {
			socket.Send(line)
		}
	})
	slow := dialMany(t, server.TcpServer, clients)
	good := dial(t, server.TcpServer)
	until(t, func() bool { return server.taken.Load() == clients+1 })
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	for range rounds {
		for _, conn := range slow {
			writeString(t, conn, "x")
		}
		writeString(t, good, "hello\n")
		mustRead(t, good, "hello\n")
	}
	until(t, func() bool {
		unread := 0
		for _, socket := range server.each() {
			unread += int(socket.BytesRead())
		}
		return unread == clients*rounds+rounds*len("hello\n")
	})
	server.mustRest(t)
	require.LessOrEqual(t, server.reads.Load(), int64(clients*rounds+rounds*len("hello\n")))
	const chunk = 1<<10 + 256 // with what describes it
	const others = 16 << 10   // whatever else was allocated meanwhile; a chunk of the next size would take 3 KiB more
	until(t, func() bool { return heapInUse() <= heap+clients*chunk+others })
	require.False(t, leaked(goroutines, openFiles()))
	for _, conn := range slow {
		writeString(t, conn, "\n")
		mustRead(t, conn, strings.Repeat("x", rounds)+"\n")
	}
}

// A client that sends without end, and never reads, has at most the two buffers of its socket; then TCP holds it back.
// One that sends as fast as the server reads holds up nobody.
func TestFloodsStayWithinBuffersAndDelayNobody(t *testing.T) {
	const clients, unread, unsent = 4, 16 << 10, 64 << 10
	for name, readyRead := range map[string]func(*tcpserver.TcpSocket){
		"of a client that is held back": echoPolitely,
		"of a client that is read": func(socket *tcpserver.TcpSocket) {
			p := socket.Peek(64 << 10)
			if len(p) == len("hello") {
				socket.Send(p)
			}
			socket.Discard(len(p))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := besiege(t, &tcpserver.TcpServer{ReadBufferSize: unread, WriteBufferSize: unsent}, readyRead)
			good := behaving(t, server)
			conns := dialMany(t, server.TcpServer, clients)
			until(t, func() bool { return server.taken.Load() == clients+1 })
			p := make([]byte, 128<<10)
			before := heapInUse()
			stop := together(clients, func(i int) {
				conns[i].SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
				conns[i].Write(p)
			})
			for range 50 {
				mustEcho(t, good)
				for _, socket := range server.each() {
					require.LessOrEqual(t, socket.BytesToWrite(), unsent)
				}
			}
			// As much again is what a chunk may have beyond what it holds.
			until(t, func() bool { return heapInUse() <= before+2*clients*(unread+unsent)+mib/4 })
			stop()
			runtime.KeepAlive(p)
		})
	}
}

// However many clients connect and leave, the queue stays within its limit, each connection that is taken ends, and
// nothing of it is left.
func TestClientsThatLeaveAtOnceLeaveNothing(t *testing.T) {
	server := besiege(t, new(tcpserver.TcpServer), echoBack)
	good := behaving(t, server)
	files := openFiles()
	var left atomic.Int64
	stop := together(4, func(i int) {
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		if i%2 == 0 {
			conn.Write([]byte("bye"))
		}
		if i/2 == 0 {
			conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
		left.Add(1)
	})
	for left.Load() < 500 && !t.Failed() {
		mustEcho(t, good)
		require.LessOrEqual(t, server.PendingConnections(), server.MaxPendingConnections())
	}
	stop()
	until(t, func() bool { return server.ConnectionCount() == 1 && server.ended.Load() == server.taken.Load()-1 })
	require.LessOrEqual(t, uint64(server.taken.Load()), server.Stats().Accepted)
	until(t, func() bool { return openFiles() <= files })
	server.mustRest(t)
	mustEcho(t, good)
}

// Connections that are reset in the backlog take no place in the queue for longer than it takes to see that.
func TestResetsInBacklogLeaveNothing(t *testing.T) {
	server := besiege(t, new(tcpserver.TcpServer), echoBack)
	good := behaving(t, server)
	server.PauseAccepting()
	server.SetMaxPendingConnections(3)
	for i := range 100 {
		conn := dial(t, server.TcpServer)
		switch i % 3 {
		case 1:
			writeString(t, conn, "lost")
		case 2:
			writeString(t, conn, "lost")
			require.NoError(t, conn.CloseWrite())
		}
		reset(t, conn)
	}
	last := dial(t, server.TcpServer)
	files := openFiles()
	server.ResumeAccepting()
	mustEcho(t, last)
	mustEcho(t, good)
	require.NoError(t, server.Err())
	until(t, func() bool { return server.ConnectionCount() == 2 && server.ended.Load() == server.taken.Load()-2 })
	require.Zero(t, server.PendingConnections())
	until(t, func() bool { return openFiles() <= files+1 })
	server.mustRest(t)
}

// A client that never reads has a full send queue, and makes no work. Its reset frees it.
func TestClientsThatNeverReadHoldTheirQueueAndMakeNoWork(t *testing.T) {
	const clients, unsent = 8, 64 << 10
	flood := make([]byte, 8<<10)
	server := besiege(t, &tcpserver.TcpServer{WriteBufferSize: unsent}, func(socket *tcpserver.TcpSocket) {
		if p := socket.ReadAll(); string(p) == "hello" {
			socket.Send(p)
			return
		}
		for socket.Send(flood) == nil {
		}
	})
	good := behaving(t, server)
	before := heapInUse()
	deaf := dialMany(t, server.TcpServer, clients)
	for _, conn := range deaf {
		writeString(t, conn, "more")
	}
	full := func(socket *tcpserver.TcpSocket) bool { return socket.BytesToWrite() > unsent-len(flood) }
	until(t, func() bool {
		sockets := server.each()
		return len(sockets) == clients+1 && !slices.ContainsFunc(sockets[1:], func(s *tcpserver.TcpSocket) bool {
			return !full(s)
		})
	})
	for range 20 {
		mustEcho(t, good)
	}
	until(t, func() bool { return heapInUse() <= before+clients*(2*unsent+8<<10)+mib/4 })
	server.mustRest(t)
	for _, conn := range deaf {
		reset(t, conn)
	}
	until(t, func() bool { return server.ConnectionCount() == 1 && server.ended.Load() == clients })
	until(t, func() bool { return heapInUse() <= before+mib })
	mustEcho(t, good)
}

// A hundred thousand packets of one byte take at most as many calls, no memory, and delay nobody. On a slow system they
// are as many as it can send for a while.
func TestOneByteAPacketTakesOneCallAtMost(t *testing.T) {
	const packets, rounds, enough = 100_000, 100, 15 * time.Second
	server := besiege(t, new(tcpserver.TcpServer), echoPolitely)
	good := behaving(t, server)
	conn := dial(t, server.TcpServer)
	want := randomBytes(1, packets)
	echoed := make(chan []byte, 1)
	before, begin := heapInUse(), time.Now()
	go func() {
		got, _ := io.ReadAll(conn)
		echoed <- got
	}()
	sent := 0
	for sent < packets && time.Since(begin) < enough {
		_, err := conn.Write(want[sent : sent+1])
		require.NoError(t, err)
		if sent++; sent%(packets/rounds) == 0 {
			mustEcho(t, good)
		}
	}
	require.NoError(t, conn.CloseWrite())
	require.True(t, bytes.Equal(want[:sent], receive(t, echoed)))
	require.LessOrEqual(t, server.reads.Load(), int64(sent+1+(rounds+1)*len("hello")))
	until(t, func() bool { return heapInUse() <= before+mib })
	server.mustRest(t)
}

// A client that half-closes and stays is closed as soon as all that it sent is read. If a part of a line is left, it
// makes no work, and ends with its IdleTimeout.
func TestClientsThatHalfCloseAndStay(t *testing.T) {
	const clients = 50
	readLine := func(socket *tcpserver.TcpSocket) {
		if line, ok := socket.ReadLine(); ok {
			socket.Send(line)
		}
	}
	for name, c := range map[string]struct {
		server *tcpserver.TcpServer
		sends  string
		end    func(*testing.T, *besieged)
	}{
		"all read": {new(tcpserver.TcpServer), "hello\n", func(*testing.T, *besieged) {}},
		"part of a line": {new(tcpserver.TcpServer), "hello\npart", func(t *testing.T, b *besieged) {
			b.mustRest(t)
			require.Equal(t, clients, b.ConnectionCount())
			for _, socket := range b.each() {
				socket.SetIdleTimeout(300 * time.Millisecond)
			}
		}},
		"half open": {&tcpserver.TcpServer{AllowHalfOpen: true}, "hello\n", func(t *testing.T, b *besieged) {
			b.mustRest(t)
			require.Equal(t, clients, b.ConnectionCount(), "only the program closes them")
			b.CloseConnections()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := besiege(t, c.server, readLine)
			files := openFiles()
			conns := dialMany(t, server.TcpServer, clients)
			for _, conn := range conns {
				writeString(t, conn, c.sends)
				require.NoError(t, conn.CloseWrite())
				mustRead(t, conn, "hello\n")
			}
			c.end(t, server)
			until(t, func() bool { return server.ended.Load() == clients })
			require.LessOrEqual(t, server.reads.Load(), int64(5*clients), "the line, the part and the end")
			require.Zero(t, server.ConnectionCount())
			until(t, func() bool { return openFiles() <= files+clients }) // theirs
		})
	}
}

// Whatever a client goes on sending after the server has ended the connection, it is not read: the client finds out
// after as much as the systems have room for. Disconnected stays the last call.
func TestClientsThatSendAfterTheEndAreNotRead(t *testing.T) {
	const clients = 20
	for name, end := range map[string]func(*tcpserver.TcpSocket){
		"Close":            func(socket *tcpserver.TcpSocket) { socket.Close() },
		"Close with queue": func(socket *tcpserver.TcpSocket) { socket.Send(make([]byte, mib)); socket.Close() },
		"Abort":            func(socket *tcpserver.TcpSocket) { socket.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			config := &tcpserver.TcpServer{CloseTimeout: 50 * time.Millisecond, WriteBufferSize: large}
			server := besiege(t, config, end)
			files := openFiles()
			conns := dialMany(t, server.TcpServer, clients)
			ends := make(chan error, clients)
			for _, conn := range conns {
				go func() {
					var err error
					p := make([]byte, 1000)
					for sent := 0; err == nil && sent < large; sent += len(p) {
						conn.SetWriteDeadline(time.Now().Add(patience))
						_, err = conn.Write(p)
					}
					ends <- err
				}()
			}
			for range clients {
				err := receive(t, ends)
				require.Error(t, err)
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			}
			until(t, func() bool { return server.ended.Load() == clients })
			require.EqualValues(t, clients, server.reads.Load())
			require.Zero(t, server.ConnectionCount())
			server.mustRest(t)
			for _, socket := range server.each() {
				require.LessOrEqual(t, socket.BytesRead(), uint64(64<<10))
			}
			until(t, func() bool { return openFiles() <= files+clients }) // theirs
		})
	}
}

// While the queue is full, further clients wait outside: they take nothing of the server, and no client that was taken
// notices them.
func TestClientsWaitOutsideAFullQueue(t *testing.T) {
	const clients, limit = 60, 2
	server := besiege(t, new(tcpserver.TcpServer), echoBack)
	good := behaving(t, server)
	require.NoError(t, server.Close())
	server.NewConnectionHandler = nil
	server.SetMaxPendingConnections(limit)
	listen(t, server.TcpServer)
	goroutines, files := runtime.NumGoroutine(), openFiles()
	conns := make(chan net.Conn, clients)
	for range clients {
		go func() {
			conn, err := net.Dial("tcp", server.Addr().String())
			if err != nil {
				t.Error(err)
			}
			conns <- conn
		}()
	}
	waiting := map[string]net.Conn{}
	for range clients {
		conn := receive(t, conns)
		require.NotNil(t, conn)
		defer conn.Close()
		waiting[conn.LocalAddr().String()] = conn
	}
	untilPending(t, server.TcpServer, limit)
	for range 50 {
		mustEcho(t, good)
		require.Equal(t, limit, server.PendingConnections())
	}
	require.False(t, leaked(goroutines, files+clients+limit), "of the clients' and the queue's own")
	server.mustRest(t)
	for range clients {
		socket := take(t, server.TcpServer)
		roundTrip(t, socket, waiting[socket.RemoteAddr().String()])
	}
}
