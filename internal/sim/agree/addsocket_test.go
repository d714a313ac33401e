//go:build sim

package agree

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
	"github.com/pullaccept/tcpserver/msgserver"
)

// serveEnded serves a connection that has ended and holds the lines, and returns what the ThreadServer has called. The
// connection's own handlers and those of the ThreadServer run at the same time.
func serveEnded(lines []string, paused bool) (calls []string) {
	first := &tcpserver.TcpServer{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	socket, conn := mustConnect(first)
	conn.Send([]byte(strings.Join(lines, "")))
	conn.CloseWrite()
	socket.CloseWrite()
	sched.Sleep(time.Second)
	socket.Peek(1 << 16) // it reads ahead
	socket.Peek(1)       // it meets the end
	sched.Sleep(time.Second)
	if socket.State() != tcpserver.StateUnconnected {
		sched.Fail("the connection has not ended: %v", socket.State())
	}
	if paused {
		socket.PauseReading()
	}
	ctx, cancel := sched.WithCancel(context.Background())
	decode, gone := msgserver.Lines[int](100), false
	s := &msgserver.ThreadServer[int, string]{
		ReadClientMessage: func(client int, p []byte) (string, int, error) {
			if gone {
				sched.Fail("ReadClientMessage after ClientDisconnected")
			}
			line, n, err := decode(client, p)
			if line == "exit" {
				runtime.Goexit()
			}
			return line, n, err
		},
		ClientMessage: func(_ int, line string) { calls = append(calls, line) },
		ClientDisconnected: func(int, error) {
			gone = true
			calls = append(calls, "disconnected")
			cancel()
		},
	}
	second := new(tcpserver.TcpServer)
	second.Listen("tcp", "127.0.0.1:0")
	s.AddSocket(socket)
	s.Serve(ctx, second)
	first.Close()
	conn.Close()
	return calls
}

func TestAddedConnectionThatHasEndedIsServedOnce(t *testing.T) {
	var many, all []string
	for i := range 100 {
		many, all = append(many, strconv.Itoa(i)+"\n"), append(all, strconv.Itoa(i))
	}
	for name, c := range map[string]struct {
		lines  []string
		paused bool
		want   []string
	}{
		"many messages": {many, false, all},
		"paused":        {many, true, all},
		"Goexit":        {[]string{"one\n", "two\n", "exit\n", "more\n"}, false, []string{"one", "two"}},
		"unfinished":    {[]string{"one\n", "tw"}, false, []string{"one"}},
	} {
		t.Run(name, func(t *testing.T) {
			want := slices.Concat(c.want, []string{"disconnected"})
			runSeeds(t, 500, sim.Config{}, func() {
				if got := serveEnded(c.lines, c.paused); !slices.Equal(got, want) {
					sched.Fail("%q, not %q", got, want)
				}
			})
		})
	}
}

// A client may be added while another goroutine ends its connection.
func TestClientDisconnectedComesWhenTheConnectionIsNotCounted(t *testing.T) {
	runSeeds(t, 1000, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		ctx, cancel := sched.WithCancel(context.Background())
		s := &msgserver.ThreadServer[int, string]{
			ReadClientMessage: msgserver.Lines[int](100),
			ClientDisconnected: func(int, error) {
				if n := server.ConnectionCount(); n != 0 {
					sched.Fail("the server counts %d connections", n)
				}
				cancel()
			},
		}
		s.AddSocket(socket)
		sched.Go(func() {
			points(40)
			socket.Abort()
		})
		s.Serve(ctx, server)
		conn.Close()
	})
}

// A handler of the program may still read when the connection, which is reset meanwhile, is added.
func TestMessagesComeOnceAlthoughAnotherHandlerStillReads(t *testing.T) {
	runSeeds(t, 1000, sim.Config{}, func() {
		first := new(tcpserver.TcpServer)
		socket, conn := mustConnect(first)
		ctx, cancel := sched.WithCancel(context.Background())
		var got []string
		s := &msgserver.ThreadServer[int, string]{
			ReadClientMessage:  msgserver.Lines[int](100),
			ClientMessage:      func(_ int, line string) { got = append(got, line) },
			ClientDisconnected: func(int, error) { cancel() },
		}
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) {
			for line, ok := socket.ReadLine(); ok; line, ok = socket.ReadLine() {
				got = append(got, strings.TrimSpace(string(line)))
				if sched.Intn(4) == 0 {
					return
				}
			}
		}})
		second := new(tcpserver.TcpServer)
		second.Listen("tcp", "127.0.0.1:0")
		sched.Go(func() {
			for i := range 120 {
				conn.Send([]byte(strconv.Itoa(i) + "\n"))
				if sched.Intn(20) == 0 {
					points(40)
				}
			}
			points(600)
			conn.Reset()
		})
		points(600)
		s.AddSocket(socket)
		s.Serve(ctx, second)
		for i, line := range got {
			if line != strconv.Itoa(i) {
				sched.Fail("%q", got[max(0, i-3):])
			}
		}
		conn.Close()
		first.Close()
	})
}
