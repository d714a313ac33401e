package msgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// loopClientData is the data of a client in these tests.
type loopClientData struct {
	name   string
	socket *tcpserver.TcpSocket
}

// loopJournal returns a ServerLoop that sends what happens to a channel. A message is a line.
func loopJournal() (*ServerLoop[loopClientData], chan string) {
	events := make(chan string, 10_000)
	clients := 0
	l := &ServerLoop[loopClientData]{
		NewData: func(socket *tcpserver.TcpSocket) (loopClientData, error) {
			clients++
			name := fmt.Sprint("c", clients)
			events <- name + " connected"
			return loopClientData{name, socket}, nil
		},
		ClientDisconnected: func(data loopClientData) {
			events <- fmt.Sprint(data.name, " disconnected ", data.socket.State())
		},
		OnError: func(err error) { events <- fmt.Sprint("error ", causeOf(err)) },
	}
	l.ProcessClientData = func(data loopClientData, buf []byte) (int, error) {
		i := bytes.IndexByte(buf, '\n')
		if i >= 0 {
			events <- data.name + " " + string(buf[:i])
		}
		return i + 1, nil
	}
	return l, events
}

func TestLoopProcessesUntilTheEnd(t *testing.T) {
	l, events := loopJournal()
	server := serve(t, l.Serve)
	conn := dial(t, server)
	conn.send("one\ntw")
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 one", receive(t, events))
	conn.send("o\nthree\nunfinished")
	require.NoError(t, conn.Close())
	for _, want := range []string{"c1 two", "c1 three", "c1 disconnected Unconnected"} {
		require.Equal(t, want, receive(t, events))
	}
	never(t, events)
}

func TestLoopRunListensAndEndsWithItsContext(t *testing.T) {
	l, events := loopJournal()
	require.Error(t, l.Run(context.Background(), "127.0.0.1", -1))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	port := servertest.FreePort(t)
	go func() { ended <- l.Run(ctx, "127.0.0.1", port) }()
	conn := dialPort(t, port)
	require.Equal(t, "c1 connected", receive(t, events))
	require.ErrorIs(t, l.Run(ctx, "127.0.0.1", 0), ErrRunning)
	cancel()
	require.ErrorIs(t, receive(t, ended), context.Canceled)
	require.Contains(t, receive(t, events), "c1 disconnected")
	conn.ended()
	require.Error(t, new(ServerLoop[int]).Run(ctx, "127.0.0.1", 0), "without ProcessClientData")
}

func TestLoopCallbacksNeverRunAtTheSameTime(t *testing.T) {
	var busy atomic.Int32
	var processed atomic.Int64
	alone := func() func() {
		assert.EqualValues(t, 1, busy.Add(1))
		return func() { busy.Add(-1) }
	}
	l := &ServerLoop[int]{
		NewData:            func(*tcpserver.TcpSocket) (int, error) { defer alone()(); return 0, nil },
		ProcessClientData:  func(_ int, buf []byte) (int, error) { defer alone()(); processed.Add(1); return 1, nil },
		ClientDisconnected: func(int) { defer alone()() },
		Update:             func() { defer alone()() },
		UpdateTime:         time.Millisecond,
	}
	server := serve(t, l.Serve)
	const clients, n = 8, 200
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			conn := dial(t, server)
			for range n {
				conn.send("x")
			}
			conn.Close()
		})
	}
	sending.Wait()
	eventually(t, func() bool { return processed.Load() == clients*n })
}

func TestLoopUpdatesAfterBatchesAndWithoutThem(t *testing.T) {
	updates := make(chan struct{}, 1000)
	l, events := loopJournal()
	l.Update = func() {
		select {
		case updates <- struct{}{}:
		default:
		}
	}
	l.UpdateTime = time.Hour
	server := serve(t, l.Serve)
	conn := dial(t, server)
	receive(t, events)
	receive(t, updates)
	conn.send("x\n")
	receive(t, events)
	receive(t, updates)

	idle := make(chan struct{}, 1000)
	other := &ServerLoop[int]{
		ProcessClientData: func(int, []byte) (int, error) { return 0, nil },
		UpdateTime:        time.Millisecond,
		Update:            func() { idle <- struct{}{} },
	}
	serve(t, other.Serve)
	for range 3 {
		receive(t, idle)
	}
}

func TestLoopSlowClientHoldsUpNobody(t *testing.T) {
	l, events := loopJournal()
	l.MaxSendBuffer = 8 << 20
	process := l.ProcessClientData
	l.ProcessClientData = func(data loopClientData, buf []byte) (int, error) {
		n, err := process(data, buf)
		if bytes.HasPrefix(buf, []byte("much")) {
			for data.socket.State() == tcpserver.StateConnected {
				l.ClientWrite(data.socket, bytes.Repeat([]byte("x"), 256<<10))
			}
		}
		return n, err
	}
	server := serve(t, l.Serve)
	slow := dial(t, server)
	slow.send("much\n")
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 much", receive(t, events))
	// The client reads nothing, so its queue reaches the limit and it is dropped.
	require.Equal(t, fmt.Sprint("error ", ErrSlowClient), receive(t, events))
	require.Contains(t, receive(t, events), "c1 disconnected")
	other := dial(t, server)
	other.send("x\n")
	require.Equal(t, "c2 connected", receive(t, events))
	require.Equal(t, "c2 x", receive(t, events))
}

func TestLoopWritesAreInOrderAndSentTogether(t *testing.T) {
	l, _ := loopJournal()
	l.NewData = func(socket *tcpserver.TcpSocket) (loopClientData, error) {
		l.ClientWrite(socket, []byte("welcome\n"))
		return loopClientData{"c", socket}, nil
	}
	l.ProcessClientData = func(data loopClientData, buf []byte) (int, error) {
		for i := range 1000 {
			l.ClientWrite(data.socket, fmt.Appendf(nil, "%d\n", i))
		}
		l.CloseConnection(data.socket)
		return len(buf), nil
	}
	conn := dial(t, serve(t, l.Serve))
	require.Equal(t, "welcome\n", conn.line())
	conn.send("x")
	for i := range 1000 {
		require.Equal(t, fmt.Sprint(i, "\n"), conn.line(), "including what was written just before CloseConnection")
	}
	conn.ended()
}

func TestLoopCloseConnection(t *testing.T) {
	l, events := loopJournal()
	l.ProcessClientData = func(data loopClientData, buf []byte) (int, error) {
		events <- fmt.Sprint(l.CloseConnection(data.socket), l.CloseConnection(data.socket))
		l.ClientWrite(data.socket, []byte("nobody gets it"))
		return 1, nil
	}
	conn := dial(t, serve(t, l.Serve))
	conn.send("xx")
	conn.ended()
	require.Equal(t, "c1 connected", receive(t, events))
	require.Contains(t, receive(t, events), "c1 disconnected")
	require.Equal(t, "true false", receive(t, events))
	never(t, events) // the rest of the buffer is not processed
}

func TestLoopCloseOfAnotherIsNoError(t *testing.T) {
	l, events := loopJournal()
	var all []*tcpserver.TcpSocket
	newData := l.NewData
	l.NewData = func(socket *tcpserver.TcpSocket) (loopClientData, error) {
		all = append(all, socket)
		return newData(socket)
	}
	l.ProcessClientData = func(data loopClientData, buf []byte) (int, error) {
		for _, socket := range all {
			if socket != data.socket {
				l.CloseConnection(socket)
			}
		}
		events <- data.name + " closed the other"
		return len(buf), nil
	}
	server := serve(t, l.Serve)
	first, second := dial(t, server), dial(t, server)
	receive(t, events)
	receive(t, events)
	first.send("x")
	first.send("x")
	second.ended()
	require.Contains(t, receive(t, events), "disconnected")
	require.Contains(t, receive(t, events), "closed the other")
	for len(events) > 0 {
		require.NotContains(t, receive(t, events), "error")
	}
}

func TestLoopCloseConnectionInNewDataRefuses(t *testing.T) {
	l, events := loopJournal()
	newData := l.NewData
	l.NewData = func(socket *tcpserver.TcpSocket) (loopClientData, error) {
		assert.True(t, l.CloseConnection(socket))
		assert.False(t, l.CloseConnection(socket))
		return newData(socket)
	}
	dial(t, serve(t, l.Serve)).ended()
	require.Equal(t, "c1 connected", receive(t, events))
	never(t, events)
}

// A client for which NewData queues more than MaxSendBuffer is dropped after NewData has accepted it, so that the
// program learns from ClientDisconnected that the client is gone.
func TestLoopClientDroppedInNewDataIsDisconnected(t *testing.T) {
	l, events := loopJournal()
	l.MaxSendBuffer = 1000
	newData := l.NewData
	l.NewData = func(socket *tcpserver.TcpSocket) (loopClientData, error) {
		l.ClientWrite(socket, make([]byte, 32<<20))
		l.ClientWrite(socket, []byte("nobody gets it"))
		return newData(socket)
	}
	dial(t, serve(t, l.Serve)).ended()
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, fmt.Sprint("error ", ErrSlowClient), receive(t, events))
	require.Equal(t, "c1 disconnected Unconnected", receive(t, events))
	never(t, events)
}

func TestLoopNewDataErrorRefusesTheClient(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("no") },
		"panic": func() error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			l, events := loopJournal()
			l.NewData = func(*tcpserver.TcpSocket) (loopClientData, error) { return loopClientData{}, fail() }
			dial(t, serve(t, l.Serve)).ended()
			require.Contains(t, receive(t, events), "no")
			never(t, events)
		})
	}
}

func TestLoopEndsAClientThatFailsAlone(t *testing.T) {
	for name, c := range map[string]struct {
		process func() (int, error)
		want    string
	}{
		"error":    {func() (int, error) { return 0, errors.New("bad") }, "error bad"},
		"panic":    {func() (int, error) { panic("bad") }, "error tcpserver: handler panicked: bad"},
		"negative": {func() (int, error) { return -1, nil }, fmt.Sprint("error ", ErrBadCount)},
		"beyond":   {func() (int, error) { return 1 << 20, nil }, fmt.Sprint("error ", ErrBadCount)},
	} {
		t.Run(name, func(t *testing.T) {
			l, events := loopJournal()
			process := l.ProcessClientData
			l.ProcessClientData = func(data loopClientData, buf []byte) (int, error) {
				if data.name == "c1" {
					return c.process()
				}
				return process(data, buf)
			}
			server := serve(t, l.Serve)
			first := dial(t, server)
			first.send("x")
			first.ended()
			require.Equal(t, "c1 connected", receive(t, events))
			require.Equal(t, c.want, receive(t, events))
			require.Contains(t, receive(t, events), "c1 disconnected")
			dial(t, server).send("fine\n")
			require.Equal(t, "c2 connected", receive(t, events))
			require.Equal(t, "c2 fine", receive(t, events))
		})
	}
}

func TestLoopOneByteTooManyEndsTheClient(t *testing.T) {
	l, events := loopJournal()
	l.MaxBufferSize = 1000
	conn := dial(t, serve(t, l.Serve))
	for range 10 {
		conn.send(strings.Repeat("x", 100))
	}
	require.Equal(t, "c1 connected", receive(t, events))
	never(t, events)
	conn.send("x")
	conn.ended()
	require.Equal(t, fmt.Sprint("error ", ErrBufferFull), receive(t, events))
	require.Contains(t, receive(t, events), "c1 disconnected")
}

func TestLoopClientsAreInOrderAndByIdentity(t *testing.T) {
	l, events := loopJournal()
	l.NewData = func(socket *tcpserver.TcpSocket) (loopClientData, error) {
		events <- "connected"
		return loopClientData{name: "equal"}, nil
	}
	l.ClientDisconnected = func(loopClientData) { events <- "disconnected" }
	l.ProcessClientData = func(_ loopClientData, buf []byte) (int, error) {
		events <- fmt.Sprint(len(slices.Collect(l.Clients())))
		return len(buf), nil
	}
	server := serve(t, l.Serve)
	first, second, third := dial(t, server), dial(t, server), dial(t, server)
	for range 3 {
		require.Equal(t, "connected", receive(t, events))
	}
	first.send("x")
	require.Equal(t, "3", receive(t, events))
	second.Close()
	require.Equal(t, "disconnected", receive(t, events))
	third.send("x")
	require.Equal(t, "2", receive(t, events))
	first.send("x")
	require.Equal(t, "2", receive(t, events), "the others are still served")
}

func TestLoopErrorsAreWrittenWithoutOnError(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	stderr := os.Stderr
	os.Stderr = w
	l := &ServerLoop[int]{ProcessClientData: func(int, []byte) (int, error) { panic("written") }}
	server := serve(t, l.Serve)
	conn := dial(t, server)
	conn.send("x")
	conn.ended()
	os.Stderr = stderr
	require.NoError(t, w.Close())
	var out bytes.Buffer
	_, err = out.ReadFrom(r)
	require.NoError(t, err)
	assert.Contains(t, out.String(), "handler panicked: written")
}

func TestLoopManyBytesArriveWhole(t *testing.T) {
	const size = 8 << 20
	var sum atomic.Int64
	l := &ServerLoop[int]{ProcessClientData: func(_ int, buf []byte) (int, error) {
		sum.Add(int64(len(buf)))
		return len(buf), nil
	}}
	conn := dial(t, serve(t, l.Serve))
	conn.send(strings.Repeat("x", size))
	eventually(t, func() bool { return sum.Load() == size })
}

func TestOneClientDoesNotHoldUpUpdate(t *testing.T) {
	last, longest := time.Now(), time.Duration(0)
	handled := make(chan struct{}, 200)
	l := &ServerLoop[int]{
		UpdateTime: 20 * time.Millisecond,
		ProcessClientData: func(int, []byte) (int, error) {
			time.Sleep(5 * time.Millisecond)
			handled <- struct{}{}
			return 1, nil
		},
		Update: func() { longest, last = max(longest, time.Since(last)), time.Now() },
	}
	conn := dial(t, serve(t, l.Serve))
	conn.send(strings.Repeat("x", 200))
	for range 200 {
		receive(t, handled)
	}
	result := make(chan time.Duration, 1)
	l.Work(func() { l.Work(func() { result <- longest }) }) // after the Update that follows
	require.Less(t, receive(t, result), 500*time.Millisecond)
}

func TestUnfinishedMessageHoldsTwoBuffersAtMost(t *testing.T) {
	const limit = 4096
	connected := make(chan *tcpserver.TcpSocket, 1)
	l := &ServerLoop[int]{
		MaxBufferSize:     limit,
		NewData:           func(socket *tcpserver.TcpSocket) (int, error) { connected <- socket; return 0, nil },
		ProcessClientData: func(_ int, buf []byte) (int, error) { return bytes.LastIndexByte(buf, '\n') + 1, nil },
	}
	conn := dial(t, serve(t, l.Serve))
	socket := receive(t, connected)
	held := func(atLeast int) bool {
		got := make(chan int, 1)
		l.Work(func() { got <- len(l.clients[socket].rest) })
		return receive(t, got) >= atLeast
	}
	conn.send("x")
	eventually(t, func() bool { return held(1) })
	conn.send(strings.Repeat("\n", 9000) + strings.Repeat("x", limit-6))
	eventually(t, func() bool { return held(limit - 6) })
	got := make(chan int, 1)
	l.Work(func() { got <- cap(l.clients[socket].rest) })
	require.LessOrEqual(t, receive(t, got), 2*limit)
}
