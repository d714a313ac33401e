package msgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// journal returns a ThreadServer that sends what happens to a channel. Clients are named after the number of their
// connection.
func journal() (*ThreadServer[string, string], chan string) {
	events := make(chan string, 10_000)
	clients := 0
	s := &ThreadServer[string, string]{
		ClientConnected: func(*tcpserver.TcpSocket) (string, error) {
			clients++
			name := fmt.Sprint("c", clients)
			events <- name + " connected"
			return name, nil
		},
		ReadClientMessage:  Lines[string](0),
		ClientMessage:      func(name, line string) { events <- name + " " + line },
		ClientDisconnected: func(name string, err error) { events <- fmt.Sprint(name, " disconnected ", err) },
		OnError: func(err error, stack []byte) {
			events <- fmt.Sprint("error ", causeOf(err), " ", len(stack) > 0)
		},
	}
	return s, events
}

func TestMessagesComeBeforeTheEndInOrder(t *testing.T) {
	s, events := journal()
	server := serve(t, s.Serve)
	conn := dial(t, server)
	conn.send("one\ntwo\nthree\nunfinished")
	require.NoError(t, conn.Close())
	for _, want := range []string{"c1 connected", "c1 one", "c1 two", "c1 three", "c1 disconnected <nil>"} {
		require.Equal(t, want, receive(t, events))
	}
	never(t, events)
}

func TestRunListensAndEndsWithItsContext(t *testing.T) {
	connected := make(chan *tcpserver.TcpSocket, 1)
	s := &ThreadServer[int, int]{
		Threads:         2,
		ClientConnected: func(socket *tcpserver.TcpSocket) (int, error) { connected <- socket; return 7, nil },
	}
	require.Error(t, s.Run(context.Background(), "127.0.0.1", -1))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	port := servertest.FreePort(t)
	go func() { ended <- s.Run(ctx, "127.0.0.1", port) }()
	conn := dialPort(t, port)
	socket := receive(t, connected)
	require.ErrorIs(t, s.Run(ctx, "127.0.0.1", 0), ErrRunning)
	cancel()
	require.ErrorIs(t, receive(t, ended), context.Canceled)
	assert.Equal(t, tcpserver.StateUnconnected, socket.State())
	conn.ended()
	assert.False(t, socket.Server().IsListening())
}

func TestSocketIsClosedWhenClientDisconnectedIsCalled(t *testing.T) {
	states := make(chan tcpserver.SocketState, 1)
	s := &ThreadServer[*tcpserver.TcpSocket, int]{
		ClientConnected:    func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil },
		ClientDisconnected: func(socket *tcpserver.TcpSocket, _ error) { states <- socket.State() },
	}
	dial(t, serve(t, s.Serve)).Close()
	assert.Equal(t, tcpserver.StateUnconnected, receive(t, states))
}

func TestAfterEventFollowsEachCallback(t *testing.T) {
	s, events := journal()
	s.AfterEvent = func() { events <- "after" }
	s.Update = func() { events <- "update" }
	s.UpdateTime = time.Hour
	server := serve(t, s.Serve)
	s.Work(func() { events <- "work" })
	s.Work(func() { panic("no") })
	conn := dial(t, server)
	conn.send("a\nb\n")
	for _, want := range []string{"work", "after", "error tcpserver: handler panicked: no true", "after",
		"c1 connected",
		"after", "c1 a", "after", "c1 b", "after"} {
		require.Equal(t, want, receive(t, events))
	}
}

func TestUpdateComesAgainAndAgain(t *testing.T) {
	updates := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &ThreadServer[int, int]{UpdateTime: time.Millisecond, Update: func() {
		select {
		case updates <- struct{}{}:
		case <-ctx.Done():
		}
	}}
	serve(t, s.Serve)
	for range 3 {
		receive(t, updates)
	}
	cancel()
}

// An update that comes late does not delay those that follow, and updates that were missed are left out.
func TestUpdatesKeepTheirSchedule(t *testing.T) {
	u := startUpdates(time.Hour, sched.NewCond(new(sched.Mutex)))
	defer u.timer.Stop()
	now := time.Now()
	for late, left := range map[time.Duration]time.Duration{
		time.Minute:       59 * time.Minute,
		150 * time.Minute: 30 * time.Minute,
	} {
		u.at = now.Add(-late)
		u.next()
		require.Equal(t, left, u.at.Sub(now))
	}
}

func TestWorkQueuedBeforeRun(t *testing.T) {
	done := make(chan struct{})
	s := new(ThreadServer[int, int])
	s.Work(func() { close(done) })
	serve(t, s.Serve)
	receive(t, done)
}

func TestWorkerCallbacksNeverRunAtTheSameTime(t *testing.T) {
	var busy, calls atomic.Int32
	alone := func() {
		assert.EqualValues(t, 1, busy.Add(1))
		runtime.Gosched()
		busy.Add(-1)
		calls.Add(1)
	}
	s := &ThreadServer[int, string]{
		ClientConnected:    func(*tcpserver.TcpSocket) (int, error) { alone(); return 0, nil },
		ReadClientMessage:  Lines[int](0),
		ClientMessage:      func(int, string) { alone() },
		ClientDisconnected: func(int, error) { alone() },
		Update:             alone,
		AfterEvent:         alone,
		UpdateTime:         time.Millisecond,
	}
	server := serve(t, s.Serve)
	const clients, lines = 8, 50
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			conn := dial(t, server)
			for range lines {
				conn.send("x\n")
				s.Work(alone)
			}
			conn.Close()
		})
	}
	sending.Wait()
	eventually(t, func() bool { return calls.Load() >= 2*clients*(2+2*lines) })
}

func TestDecodingIsInOrderForOneClientWhateverTheWorkerDoes(t *testing.T) {
	const n = 5000
	done := make(chan struct{})
	next := 0
	s := &ThreadServer[int, string]{
		ReadClientMessage: Lines[int](0),
		ClientMessage: func(_ int, line string) {
			assert.Equal(t, fmt.Sprint(next), line)
			if next++; next == n {
				close(done)
			}
			if next%100 == 0 {
				runtime.Gosched()
			}
		},
	}
	conn := dial(t, serve(t, s.Serve))
	var all strings.Builder
	for i := range n {
		fmt.Fprintln(&all, i)
	}
	conn.send(all.String())
	receive(t, done)
}

// If the worker cannot keep up, the server stops reading instead of queueing what the client sends.
func TestMessagesThatWaitForTheWorkerAreBounded(t *testing.T) {
	release := make(chan struct{})
	var decoded atomic.Int64
	var handled atomic.Int64
	s := &ThreadServer[int, byte]{
		ReadClientMessage: func(_ int, buf []byte) (byte, int, error) { decoded.Add(1); return buf[0], 1, nil },
		ClientMessage:     func(int, byte) { <-release; handled.Add(1) },
	}
	conn := dial(t, serve(t, s.Serve))
	const n = 10_000
	conn.send(strings.Repeat("x", n))
	eventually(t, func() bool { return decoded.Load() >= maxWaiting })
	time.Sleep(50 * time.Millisecond)
	assert.LessOrEqual(t, decoded.Load(), int64(maxWaiting+1))
	close(release)
	eventually(t, func() bool { return handled.Load() == n })
}

func TestPanicEndsThatClientAlone(t *testing.T) {
	for _, where := range []string{"connected", "decode", "message", "disconnected"} {
		t.Run(where, func(t *testing.T) {
			s, events := journal()
			fail := func(here, name string) {
				if here == where && name == "c1" {
					panic("no")
				}
			}
			connected, message, disconnected := s.ClientConnected, s.ClientMessage, s.ClientDisconnected
			s.ClientConnected = func(socket *tcpserver.TcpSocket) (string, error) {
				name, err := connected(socket)
				fail("connected", name)
				return name, err
			}
			s.ReadClientMessage = func(name string, buf []byte) (string, int, error) {
				fail("decode", name)
				return Lines[string](0)(name, buf)
			}
			s.ClientMessage = func(name, line string) { message(name, line); fail("message", name) }
			s.ClientDisconnected = func(name string, err error) { disconnected(name, err); fail("disconnected", name) }
			server := serve(t, s.Serve)
			first := dial(t, server)
			require.Equal(t, "c1 connected", receive(t, events))
			second := dial(t, server)
			switch where {
			case "disconnected":
				first.Close()
			case "connected":
				first.ended()
			default:
				first.send("hello\n")
				first.ended()
			}
			const panicked = "error tcpserver: handler panicked: no true"
			var seen []string
			for !slices.Contains(seen, panicked) {
				seen = append(seen, receive(t, events))
			}
			second.send("goes on\n")
			for !slices.Contains(seen, "c2 goes on") {
				seen = append(seen, receive(t, events))
			}
			ends := func() int { return strings.Count(strings.Join(seen, "|"), "c1 disconnected") }
			if where == "connected" {
				assert.Zero(t, ends(), "it never became a client")
				return
			}
			for ends() == 0 {
				seen = append(seen, receive(t, events))
			}
			assert.Equal(t, 1, ends())
		})
	}
}

func TestClientConnectedErrorRefusesTheClient(t *testing.T) {
	s, events := journal()
	s.ClientConnected = func(*tcpserver.TcpSocket) (string, error) { return "", errors.New("full house") }
	dial(t, serve(t, s.Serve)).ended()
	assert.Equal(t, "error full house false", receive(t, events))
	never(t, events)
}

func TestDecoderErrorsEndTheClient(t *testing.T) {
	for name, c := range map[string]struct {
		decode func(string, []byte) (string, int, error)
		want   error
	}{
		"error": {
			func(string, []byte) (string, int, error) { return "", 0, io.ErrUnexpectedEOF },
			io.ErrUnexpectedEOF,
		},
		"negative": {func(string, []byte) (string, int, error) { return "", -1, nil }, ErrBadCount},
		"beyond":   {func(_ string, buf []byte) (string, int, error) { return "", len(buf) + 1, nil }, ErrBadCount},
	} {
		t.Run(name, func(t *testing.T) {
			s, events := journal()
			s.ReadClientMessage = c.decode
			conn := dial(t, serve(t, s.Serve))
			conn.send("x")
			conn.ended()
			assert.Equal(t, "c1 connected", receive(t, events))
			assert.Equal(t, fmt.Sprint("error ", c.want, " false"), receive(t, events))
			assert.Equal(t, fmt.Sprint("c1 disconnected ", c.want), receive(t, events))
		})
	}
}

func TestOneByteTooManyEndsTheClient(t *testing.T) {
	const most = 1000
	s, events := journal()
	s.MaxBufferSize, s.InitialBufferSize = most, 10
	server := serve(t, s.Serve)
	fine := dial(t, server)
	for range 9 {
		fine.send(strings.Repeat("x", most/10))
	}
	fine.send(strings.Repeat("x", most/10-1) + "\n")
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 "+strings.Repeat("x", most-1), receive(t, events), "a message as long as the buffer")

	full := dial(t, server)
	full.send(strings.Repeat("x", most))
	require.Equal(t, "c2 connected", receive(t, events))
	never(t, events)
	full.send("\n")
	full.ended()
	require.Equal(t, fmt.Sprint("error ", ErrBufferFull, " false"), receive(t, events))
	require.Equal(t, fmt.Sprint("c2 disconnected ", ErrBufferFull), receive(t, events))
}

func TestHeaderSizeHoldsBackTheDecoder(t *testing.T) {
	calls := make(chan int, 10)
	s := &ThreadServer[int, int]{
		MessageHeaderSize: 4,
		ReadClientMessage: func(_ int, buf []byte) (int, int, error) { calls <- len(buf); return 0, len(buf), nil },
	}
	conn := dial(t, serve(t, s.Serve))
	for range 3 {
		conn.send("x")
	}
	never(t, calls)
	conn.send("x")
	assert.Equal(t, 4, receive(t, calls))
}

func TestClientsBeyondCapacityAreRefused(t *testing.T) {
	s, events := journal()
	s.Threads, s.MaxSocketsPerThread = 2, 1
	server := serve(t, s.Serve)
	first, _ := dial(t, server), dial(t, server)
	receive(t, events)
	receive(t, events)
	dial(t, server).ended()
	assert.EqualValues(t, 1, s.Refused())
	first.Close()
	assert.Equal(t, "c1 disconnected <nil>", receive(t, events))
	dial(t, server)
	assert.Equal(t, "c3 connected", receive(t, events))
}

func TestBurstNeverOvershootsTheCapacity(t *testing.T) {
	var clients, most atomic.Int32
	s := &ThreadServer[int, int]{
		Threads: 1, MaxSocketsPerThread: 5,
		ClientConnected: func(*tcpserver.TcpSocket) (int, error) {
			most.Store(max(most.Load(), clients.Add(1)))
			return 0, nil
		},
		ClientDisconnected: func(int, error) { clients.Add(-1) },
	}
	server := serve(t, s.Serve)
	var dialing sync.WaitGroup
	for range 50 {
		dialing.Go(func() { dial(t, server) })
	}
	dialing.Wait()
	eventually(t, func() bool { return s.Refused() == 45 && clients.Load() == 5 })
	assert.EqualValues(t, 5, most.Load())
}

func TestAddSocketTakesConnectionsFromElsewhere(t *testing.T) {
	s, events := journal()
	serve(t, s.Serve)
	other := servertest.Listen(t, new(tcpserver.TcpServer))
	conn := dial(t, other)
	socket := servertest.Accept(t, other)
	conn.send("early\n")
	s.AddSocket(socket)
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 early", receive(t, events))
}

func TestStopClientEndsOnce(t *testing.T) {
	s, events := journal()
	sockets := make(chan *tcpserver.TcpSocket, 1)
	connected := s.ClientConnected
	s.ClientConnected = func(socket *tcpserver.TcpSocket) (string, error) {
		sockets <- socket
		return connected(socket)
	}
	conn := dial(t, serve(t, s.Serve))
	socket := receive(t, sockets)
	receive(t, events)
	var stopping sync.WaitGroup
	for range 4 {
		stopping.Go(func() { s.StopClient(socket) })
	}
	conn.Close()
	stopping.Wait()
	assert.Contains(t, receive(t, events), "c1 disconnected")
	never(t, events)
}

func TestSendDataReachesTheClient(t *testing.T) {
	s := &ThreadServer[*tcpserver.TcpSocket, string]{
		ClientConnected:   func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil },
		ReadClientMessage: Lines[*tcpserver.TcpSocket](0),
	}
	s.ClientMessage = func(socket *tcpserver.TcpSocket, line string) { s.SendData(socket, []byte(line+"!\n")) }
	conn := dial(t, serve(t, s.Serve))
	conn.send("hello\n")
	assert.Equal(t, "hello!\n", conn.line())
}

func TestClientThatDoesNotReadIsDropped(t *testing.T) {
	ends := make(chan error, 2)
	echo := make(chan string, 1)
	s := &ThreadServer[*tcpserver.TcpSocket, string]{
		ConnectLag:         50 * time.Millisecond,
		MaxSendBuffer:      8 << 20,
		ClientConnected:    func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil },
		ReadClientMessage:  Lines[*tcpserver.TcpSocket](0),
		ClientDisconnected: func(_ *tcpserver.TcpSocket, err error) { ends <- err },
	}
	s.ClientMessage = func(socket *tcpserver.TcpSocket, line string) {
		switch line {
		case "much": // until the system takes no more
			for socket.BytesToWrite() == 0 && socket.State() == tcpserver.StateConnected {
				s.SendData(socket, bytes.Repeat([]byte("x"), 64<<10))
			}
		case "too much":
			for socket.State() == tcpserver.StateConnected {
				s.SendData(socket, bytes.Repeat([]byte("x"), 64<<10))
			}
		default:
			echo <- line
		}
	}
	server := serve(t, s.Serve)
	for _, request := range []string{"much\n", "too much\n"} {
		slow, other := dial(t, server), dial(t, server)
		slow.send(request)
		other.send("alive\n")
		assert.Equal(t, "alive", receive(t, echo), "the worker is not blocked")
		require.ErrorIs(t, receive(t, ends), os.ErrDeadlineExceeded)
		other.Close()
		receive(t, ends)
	}
}

func TestErrorsAreWrittenWithoutOnError(t *testing.T) {
	out := make(lines, 10)
	s := &ThreadServer[int, int]{ErrorOutput: out}
	s.Work(func() { panic("no") })
	serve(t, s.Serve)
	assert.Contains(t, receive(t, out), "handler panicked: no\ngoroutine ")
}

// lines is a writer that sends what is written to a channel.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestOnErrorThatPanicsIsWritten(t *testing.T) {
	out := make(lines, 10)
	s := &ThreadServer[int, int]{ErrorOutput: out, OnError: func(error, []byte) { panic("again") }}
	s.Work(func() { panic("no") })
	serve(t, s.Serve)
	assert.Contains(t, receive(t, out), "again")
}

func TestServeEndsWithItsServer(t *testing.T) {
	server := servertest.Listen(t, new(tcpserver.TcpServer))
	s, events := journal()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), server) }()
	dial(t, server)
	receive(t, events)
	require.NoError(t, server.Close())
	require.ErrorIs(t, receive(t, ended), tcpserver.ErrServerClosed)
	assert.Contains(t, receive(t, events), "c1 disconnected")
	require.ErrorIs(t, s.Serve(context.Background(), new(tcpserver.TcpServer)), tcpserver.ErrNotListening)
}

func TestIdleClientsNeedNoGoroutine(t *testing.T) {
	s, events := journal()
	s.Threads, s.MaxSocketsPerThread = 1, 1000
	server := serve(t, s.Serve)
	dial(t, server).send("hello\n")
	receive(t, events)
	receive(t, events)
	before := runtime.NumGoroutine()
	for range 200 {
		dial(t, server)
		receive(t, events)
	}
	// This polls without eventually, which has a goroutine of its own. Some goroutines may be about to end.
	for end := time.Now().Add(servertest.Patience); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

func TestClientsAreDecodedInParallel(t *testing.T) {
	var inside sync.WaitGroup
	inside.Add(2)
	s, events := journal()
	lines := s.ReadClientMessage
	s.ReadClientMessage = func(name string, buf []byte) (string, int, error) {
		inside.Done()
		inside.Wait() // for the other client's call
		return lines(name, buf)
	}
	server := serve(t, s.Serve)
	first, second := dial(t, server), dial(t, server)
	receive(t, events)
	receive(t, events)
	first.send("a\n")
	second.send("b\n")
	got := []string{receive(t, events)[3:], receive(t, events)[3:]}
	assert.ElementsMatch(t, []string{"a", "b"}, got)
}

func TestWakeUpWithoutBytesIsHarmless(t *testing.T) {
	s, events := journal()
	conn := dial(t, serve(t, s.Serve))
	receive(t, events)
	s.mu.Lock()
	for socket, c := range s.sessions {
		c.readyRead(socket)
	}
	s.mu.Unlock()
	conn.send("alive\n")
	assert.Equal(t, "c1 alive", receive(t, events))
}

func TestSendDataBeforeRunAndToUnknownSockets(t *testing.T) {
	server := servertest.Listen(t, new(tcpserver.TcpServer))
	conn := dial(t, server)
	socket := servertest.Accept(t, server)
	s := new(ThreadServer[int, int])
	s.SendData(socket, []byte("hello\n"))
	require.Equal(t, "hello\n", conn.line())
	s.AddSocket(socket)
	s.AddSocket(socket)
	s.SendData(socket, append(make([]byte, 20<<20), '\n'))
	require.Len(t, conn.line(), 20<<20+1)
	s.StopClient(socket)
	conn.ended()
	s.SendData(socket, []byte("nobody gets it"))
	s.StopClient(socket)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, s.Serve(ctx, server), context.Canceled)
}

func TestAddSocketBetweenTwoRuns(t *testing.T) {
	s, events := journal()
	for i := range 3 {
		server := servertest.Listen(t, new(tcpserver.TcpServer))
		conn := dial(t, server)
		socket := servertest.Accept(t, server)
		s.AddSocket(socket)
		conn.send("early\n")
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx, server) }()
		name := fmt.Sprint("c", i+1)
		require.Equal(t, name+" connected", receive(t, events))
		require.Equal(t, name+" early", receive(t, events))
		cancel()
		require.ErrorIs(t, receive(t, ended), context.Canceled)
		require.Equal(t, name+" disconnected <nil>", receive(t, events))
	}
	require.Zero(t, s.Refused())
}

func TestHeaderLargerThanTheBufferIsRefused(t *testing.T) {
	s := &ThreadServer[int, int]{MessageHeaderSize: 11, MaxBufferSize: 10}
	require.ErrorIs(t, s.Run(context.Background(), "127.0.0.1", 0), errHeaderSize)
	server := new(tcpserver.TcpServer)
	require.ErrorIs(t, s.Serve(context.Background(), server), errHeaderSize)
	s.MaxBufferSize = 11
	require.ErrorIs(t, s.Serve(context.Background(), server), tcpserver.ErrNotListening)
}

// A client that requests more than it takes delays no other client, and its own messages stay in order.
func TestParkedMessagesDelayNoOtherClient(t *testing.T) {
	var s ThreadServer[*tcpserver.TcpSocket, string]
	s.ConnectLag = time.Hour
	s.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	s.ReadClientMessage = Lines[*tcpserver.TcpSocket](0)
	var parked atomic.Bool
	s.ClientMessage = func(socket *tcpserver.TcpSocket, line string) {
		reply := line + "\n"
		if line != "ping" {
			reply = strings.Repeat(" ", 200_000) + reply
		}
		s.SendData(socket, []byte(reply))
		parked.Store(parked.Load() || socket.BytesToWrite() > highWater)
	}
	server := serve(t, s.Serve)
	greedy, modest := dial(t, server), dial(t, server)
	const n = 100
	for i := range n {
		greedy.send(fmt.Sprintln(i))
	}
	eventually(t, parked.Load)
	for range 10 {
		modest.send("ping\n")
		require.Equal(t, "ping\n", modest.line())
	}
	for i := range n {
		require.Equal(t, fmt.Sprint(i), strings.TrimSpace(greedy.line()))
	}
}

// Nothing is decoded from a refused client, although it had sent something before it was refused.
func TestRefusedClientIsNotDecoded(t *testing.T) {
	refused := make(chan struct{}, 1)
	s := &ThreadServer[*int, string]{
		ClientConnected: func(socket *tcpserver.TcpSocket) (*int, error) {
			eventually(t, func() bool { return socket.BytesAvailable() > 0 })
			return nil, errors.New("full house")
		},
		ReadClientMessage: func(_ *int, buf []byte) (string, int, error) {
			assert.Fail(t, "ReadClientMessage is called")
			return "", len(buf), nil
		},
		ClientMessage:      func(*int, string) { assert.Fail(t, "ClientMessage is called") },
		ClientDisconnected: func(*int, error) { assert.Fail(t, "ClientDisconnected is called") },
		OnError:            func(error, []byte) { refused <- struct{}{} },
	}
	server := serve(t, s.Serve)
	for range 50 {
		conn := dial(t, server)
		conn.send("one\ntwo\n")
		receive(t, refused)
		conn.ended()
	}
}

// A connection that has ended, and whose end was reported to other handlers, becomes a client that is disconnected
// soon.
func TestAddSocketOfEndedConnectionDisconnects(t *testing.T) {
	told := make(chan error, 1)
	accepted := make(chan *tcpserver.TcpSocket, 1)
	login := &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
		socket := server.NextPendingConnection()
		socket.SetHandlers(&tcpserver.SocketHandlers{
			Disconnected: func(_ *tcpserver.TcpSocket, err error) { told <- err },
		})
		accepted <- socket
	}}
	servertest.Listen(t, login)
	s, events := journal()
	serve(t, s.Serve)
	for i := range 3 {
		conn := dial(t, login)
		socket := receive(t, accepted)
		conn.Close()
		receive(t, told)
		s.AddSocket(socket)
		require.Equal(t, fmt.Sprintf("c%d connected", i+1), receive(t, events))
		require.Equal(t, fmt.Sprintf("c%d disconnected <nil>", i+1), receive(t, events))
	}
	never(t, events)
}

// The same applies to a connection whose poller has ended too.
func TestAddSocketOfClosedSocketAfterItsPollerEnds(t *testing.T) {
	poller, err := tcpserver.NewPoller(1)
	require.NoError(t, err)
	other := servertest.Listen(t, &tcpserver.TcpServer{Poller: poller})
	dial(t, other)
	socket := servertest.Accept(t, other)
	require.NoError(t, other.Close())
	require.NoError(t, socket.Close())
	require.NoError(t, poller.Close())
	s, events := journal()
	serve(t, s.Serve)
	s.AddSocket(socket)
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 disconnected <nil>", receive(t, events))
	never(t, events)
}

// What a connection that has ended still holds is handled before ClientDisconnected, however much it is, and whether or
// not its Executor runs anything.
func TestAddSocketOfEndedConnectionHandlesItsMessages(t *testing.T) {
	const messages = 3 * maxWaiting
	for name, executor := range map[string]tcpserver.Executor{"no executor": nil, "dead executor": func(func()) {}} {
		t.Run(name, func(t *testing.T) {
			other := servertest.Listen(t, &tcpserver.TcpServer{Executor: executor})
			s, events := journal()
			serve(t, s.Serve)
			for i := range 10 {
				s.AddSocket(endedSocket(t, other, strings.Repeat("hello\n", messages)))
				name := fmt.Sprint("c", i+1)
				require.Equal(t, name+" connected", receive(t, events))
				for range messages {
					require.Equal(t, name+" hello", receive(t, events))
				}
				require.Equal(t, name+" disconnected <nil>", receive(t, events))
			}
		})
	}
}

// endedSocket returns a connection that has ended, and still holds text.
func endedSocket(t *testing.T, other *tcpserver.TcpServer, text string) *tcpserver.TcpSocket {
	conn := dial(t, other)
	socket := servertest.Accept(t, other)
	conn.send(text)
	conn.halfClose()
	require.NoError(t, socket.CloseWrite())
	require.NoError(t, socket.WaitForDisconnected(servertest.Context(t))) // it reads ahead
	return socket
}

// The worker does not call ReadClientMessage, not even for a connection that has ended: a slow one must not delay the
// other clients.
func TestReadClientMessageOfEndedConnectionMayWaitForTheWorker(t *testing.T) {
	other := servertest.Listen(t, new(tcpserver.TcpServer))
	s, events := journal()
	lines := s.ReadClientMessage
	s.ReadClientMessage = func(name string, buf []byte) (string, int, error) {
		done := make(chan struct{})
		s.Work(func() { close(done) })
		receive(t, done)
		return lines(name, buf)
	}
	serve(t, s.Serve)
	s.AddSocket(endedSocket(t, other, "hello\n"))
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 hello", receive(t, events))
	require.Equal(t, "c1 disconnected <nil>", receive(t, events))
}

// A message that is being decoded when the context ends is handled, and its reply is sent.
func TestMessageBeingDecodedWhenServeEndsIsAnswered(t *testing.T) {
	decoding, goOn := make(chan struct{}), make(chan struct{})
	lines := Lines[*tcpserver.TcpSocket](0)
	s := &ThreadServer[*tcpserver.TcpSocket, string]{
		ClientConnected: func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil },
		ReadClientMessage: func(socket *tcpserver.TcpSocket, buf []byte) (string, int, error) {
			if string(buf) == "one\ntwo\n" {
				close(decoding)
				<-goOn
			}
			return lines(socket, buf)
		},
	}
	s.ClientMessage = func(socket *tcpserver.TcpSocket, line string) { s.SendData(socket, []byte(line+"!\n")) }
	server := servertest.Listen(t, new(tcpserver.TcpServer))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, server) }()
	conn := dial(t, server)
	conn.send("one\ntwo\n")
	receive(t, decoding)
	cancel()
	eventually(t, s.shuttingDown.Load)
	worked := make(chan struct{})
	s.Work(func() { close(worked) })
	receive(t, worked) // the worker is not blocked
	close(goOn)
	require.Equal(t, "one!\ntwo!\n", conn.rest())
	conn.Close()
	require.ErrorIs(t, receive(t, ended), context.Canceled)
}

// A program may have read the client's first messages, and the end of its stream, itself.
func TestAddedSocketMayHaveAnnouncedTheEndOfItsStream(t *testing.T) {
	other := servertest.Listen(t, &tcpserver.TcpServer{AllowHalfOpen: true})
	conn := dial(t, other)
	socket := servertest.Accept(t, other)
	closed := make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead:  func(socket *tcpserver.TcpSocket) { socket.ReadAll() },
		ReadClosed: func(*tcpserver.TcpSocket) { close(closed) },
	})
	conn.send("hello\n")
	conn.halfClose()
	receive(t, closed)
	s, events := journal()
	serve(t, s.Serve)
	s.AddSocket(socket)
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 disconnected <nil>", receive(t, events))
}

func TestAddedSocketMayBePaused(t *testing.T) {
	other := servertest.Listen(t, new(tcpserver.TcpServer))
	conn := dial(t, other)
	socket := servertest.Accept(t, other)
	socket.PauseReading()
	s, events := journal()
	serve(t, s.Serve)
	s.AddSocket(socket)
	require.Equal(t, "c1 connected", receive(t, events))
	conn.send("hello\n")
	conn.halfClose()
	require.Equal(t, "c1 hello", receive(t, events))
	require.Equal(t, "c1 disconnected <nil>", receive(t, events))
}
