//go:build sim

package agree

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// A selector that takes no more descriptors is a shortage like others: it is reported, and passes.
func TestConnectionThatCannotBeWatchedIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := false
		fault := func(_ int, call sim.Call) syscall.Errno {
			if full && call == sim.CallWatch {
				return syscall.ENOSPC
			}
			return 0
		}
		o := sched.Simulate(sched.Config{Strategy: sched.Strategy{Depth: -1}}, func() {
			sim.Boot(sim.Config{Fault: fault})
			var reported []error
			server := &tcpserver.TcpServer{
				AcceptErrorHandler: func(_ *tcpserver.TcpServer, err error) { reported = append(reported, err) },
			}
			if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
				sched.Fail("listen: %v", err)
			}
			full = true
			lost := mustDial(server)
			sched.Sleep(100 * time.Millisecond)
			if len(reported) != 1 || !errors.Is(reported[0], syscall.ENOSPC) {
				sched.Fail("reported: %v", reported)
			}
			full = false
			conn := mustDial(server)
			socket, err := server.AcceptSocket(sched.NewContext(time.Minute))
			if err != nil {
				sched.Fail("accept: %v", err)
			}
			socket.Close()
			conn.Close()
			lost.Close()
			server.Close()
		})
		require.Empty(t, o.Failure)
	})
}

// mustConnect has the server listen, and returns both ends of a connection.
func mustConnect(server *tcpserver.TcpServer) (*tcpserver.TcpSocket, *sim.Conn) {
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		sched.Fail("listen: %v", err)
	}
	conn := mustDial(server)
	socket, err := server.AcceptSocket(sched.NewContext(time.Minute))
	if err != nil {
		sched.Fail("accept: %v", err)
	}
	return socket, conn
}

func mustDial(server *tcpserver.TcpServer) *sim.Conn {
	conn, err := sim.Dial(uint16(server.Port()))
	if err != nil {
		sched.Fail("dial: %v", err)
	}
	return conn
}

// The pauses are those of net/http.
func TestPausesOfAShortageAreDoubledUpToASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accepts []time.Time
		fault := func(_ int, call sim.Call) syscall.Errno {
			if call == sim.CallAccept {
				accepts = append(accepts, time.Now())
				return syscall.ENFILE
			}
			return 0
		}
		o := sched.Simulate(sched.Config{Strategy: sched.Strategy{Depth: -1}}, func() {
			sim.Boot(sim.Config{Fault: fault})
			server := new(tcpserver.TcpServer)
			if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
				sched.Fail("listen: %v", err)
			}
			conn := mustDial(server)
			sched.Sleep(5 * time.Second)
			server.Close()
			conn.Close()
		})
		require.Empty(t, o.Failure)
		want := []int{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000}
		require.Greater(t, len(accepts), len(want))
		for i, pause := range want {
			require.EqualValues(t, pause, accepts[i+1].Sub(accepts[i]).Milliseconds())
		}
	})
}
