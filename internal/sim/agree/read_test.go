//go:build sim

package agree

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// Where the poll takes the error of a reset, recv returns an end of stream. An event that was found before the reset
// does not confirm it.
func TestResetIsNotTakenForTheEndOfTheStream(t *testing.T) {
	runSeeds(t, 5000, sim.Config{Style: sim.AFD, ResetIsTaken: true}, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		sched.Go(func() {
			for range sched.Intn(4) {
				conn.Send([]byte("x"))
				points(10)
			}
			conn.Reset()
		})
		p, err := make([]byte, 10), error(nil)
		for tries := 0; err == nil || errors.Is(err, tcpserver.ErrWouldBlock); tries++ {
			if tries > 100 { // whoever waits for the time comes first
				sched.Sleep(time.Second)
			}
			points(10)
			_, err = socket.TryRead(p)
		}
		if err == io.EOF {
			sched.Fail("an end of stream")
		}
		socket.Abort()
		server.Close()
	})
}

// ReadAll asks the system a second time for what does not fit into the buffer, and may get nothing.
func TestReadAllReturnsWhatItHasWhenTheSystemGivesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recvs := -1 // counted from 0 on
		fault := func(_ int, call sim.Call) syscall.Errno {
			if call == sim.CallRecv && recvs >= 0 {
				if recvs++; recvs == 2 {
					return syscall.EAGAIN
				}
			}
			return 0
		}
		var all []string
		o := sched.Simulate(sched.Config{Strategy: sched.Strategy{Depth: -1}}, func() {
			sim.Boot(sim.Config{Fault: fault})
			server := &tcpserver.TcpServer{ReadBufferSize: 4}
			socket, conn := mustConnect(server)
			conn.Send([]byte("0123456789"))
			sched.Sleep(time.Second)
			recvs = 0
			all = append(all, string(socket.ReadAll()), string(socket.ReadAll()))
			socket.Abort()
			server.Close()
		})
		require.Empty(t, o.Failure)
		require.Equal(t, []string{"0123", "456789"}, all)
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	runSeeds(t, 2000, sim.Config{}, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		ctx, returned := sched.NewContext(-1), false
		sched.Go(func() {
			socket.WaitForReadyRead(ctx)
			returned = true
		})
		points(30)
		ctx.Cancel()
		sched.Sleep(time.Minute)
		if !returned {
			sched.Fail("WaitForReadyRead has not returned")
		}
		conn.Close()
		socket.Abort()
		server.Close()
	})
}

// points lets others run up to n times.
func points(n int) {
	for range sched.Intn(n) {
		sched.Point()
	}
}
