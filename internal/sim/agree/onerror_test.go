//go:build sim

package agree

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
	"github.com/pullaccept/tcpserver/msgserver"
)

var errBad = errors.New("bad")

// untilGoexit serves a client that sends first and, while that is processed, more. It returns when serve has, or has
// called runtime.Goexit.
func untilGoexit(serve func(context.Context, *tcpserver.TcpServer) error, first, more string) {
	server := new(tcpserver.TcpServer)
	server.Listen("tcp", "127.0.0.1:0")
	conn := mustDial(server)
	done := false
	sched.Go(func() {
		defer func() { done = true }()
		serve(context.Background(), server)
	})
	conn.Send([]byte(first))
	sched.Sleep(time.Second)
	conn.Send([]byte(more))
	sched.Sleep(time.Minute)
	if !done {
		sched.Fail("Serve has not returned")
	}
	conn.Close()
}

// What has arrived meanwhile must not be taken for the beginning of a message.
func TestServerLoopProcessesNothingAfterGoexitOfOnError(t *testing.T) {
	runSeeds(t, 100, sim.Config{}, func() {
		var processed []string
		l := &msgserver.ServerLoop[int]{
			ProcessClientData: func(_ int, p []byte) (int, error) {
				processed = append(processed, string(p))
				sched.Sleep(2 * time.Second)
				return 0, errBad
			},
			OnError: func(error) { runtime.Goexit() },
		}
		untilGoexit(l.Serve, "a bad message, ", "and its end\n")
		if !slices.Equal(processed, []string{"a bad message, "}) {
			sched.Fail("processed: %q", processed)
		}
	})
}

func TestThreadServerKeepsTheReasonAlthoughOnErrorCallsGoexit(t *testing.T) {
	for name, how := range map[string]func(s *msgserver.ThreadServer[int, string]){
		"ReadClientMessage": func(s *msgserver.ThreadServer[int, string]) {
			s.ReadClientMessage = func(int, []byte) (string, int, error) { return "", 0, errBad }
		},
		"ClientMessage": func(s *msgserver.ThreadServer[int, string]) {
			s.ClientMessage = func(int, string) { panic(errBad) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			runSeeds(t, 100, sim.Config{}, func() {
				var reasons []error
				s := &msgserver.ThreadServer[int, string]{
					OnError:            func(error, []byte) { runtime.Goexit() },
					ClientDisconnected: func(_ int, err error) { reasons = append(reasons, err) },
				}
				how(s)
				untilGoexit(s.Serve, "bad\n", "more\n")
				if len(reasons) != 1 || !errors.Is(reasons[0], errBad) {
					sched.Fail("ClientDisconnected: %v", reasons)
				}
			})
		})
	}
}

// NewData is refused by a client that does not take what it is sent, and by OnError.
func TestServeReturnsAlthoughNewDataAndOnErrorCallGoexit(t *testing.T) {
	runSeeds(t, 100, narrow, func() {
		l := &msgserver.ServerLoop[int]{
			MaxSendBuffer:     100,
			ProcessClientData: func(_ int, p []byte) (int, error) { return len(p), nil },
			OnError:           func(error) { runtime.Goexit() },
		}
		l.NewData = func(socket *tcpserver.TcpSocket) (int, error) {
			l.ClientWrite(socket, make([]byte, 100))
			socket.Send(make([]byte, 400))
			runtime.Goexit()
			return 0, nil
		}
		server := &tcpserver.TcpServer{CloseTimeout: -1}
		server.Listen("tcp", "127.0.0.1:0")
		conn := mustDial(server)
		done := false
		sched.Go(func() {
			defer func() { done = true }()
			l.Serve(context.Background(), server)
		})
		sched.Sleep(time.Minute)
		conn.Close()
		sched.Sleep(time.Minute)
		if !done {
			sched.Fail("Serve has not returned")
		}
	})
}
