package tcpserver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// However often another goroutine wakes the loop, nothing fills up and no wake-up is lost.
func TestLoopCanBeWokenAnyNumberOfTimes(t *testing.T) {
	t.Parallel()
	poller, err := tcpserver.NewPoller(1)
	require.NoError(t, err)
	socket, conn := connect(t, listen(t, &tcpserver.TcpServer{Poller: poller}))
	sendFromPeer(t, socket, conn, "x")
	announced := make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) { announced <- struct{}{} }})
	receive(t, announced)
	for range 600 {
		time.Sleep(200 * time.Microsecond) // long enough for the loop to sleep
		socket.PauseReading()
		socket.ResumeReading()
		receive(t, announced)
	}
}

func TestNewPollerDefaultsToGOMAXPROCSLoops(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1, newPoller(t, 1).Loops())
	require.Equal(t, 5, newPoller(t, 5).Loops())
	require.Equal(t, runtime.GOMAXPROCS(0), newPoller(t, 0).Loops())
	require.Equal(t, runtime.GOMAXPROCS(0), newPoller(t, -1).Loops())
}

func TestServersCanShareOnePoller(t *testing.T) {
	t.Parallel()
	for _, loops := range []int{1, 3} {
		poller := newPoller(t, loops)
		var servers [3]*tcpserver.TcpServer
		var clients [3]net.Conn
		for i := range servers {
			servers[i] = listen(t, &tcpserver.TcpServer{Poller: poller, NewConnectionHandler: serveEcho})
			clients[i] = dial(t, servers[i])
		}
		for _, client := range clients {
			mustEcho(t, client)
		}
		// Closing one server does not affect the others.
		require.NoError(t, servers[0].Close())
		for _, client := range clients {
			mustEcho(t, client)
		}
		mustEcho(t, dial(t, servers[1]))
	}
}

// This test counts goroutines and descriptors and is not parallel.
func TestPollerStopsAfterItsLastServerAndSocket(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), openFiles()
	poller := newPoller(t, 3)
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "a poller without users must not run")
	for range 5 {
		server := &tcpserver.TcpServer{Poller: poller}
		require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
		dial(t, server).Close()
		queued := dial(t, server)
		socket := take(t, server)
		untilPending(t, server, 1)
		require.NoError(t, server.Close())
		require.NoError(t, queued.Close())
		// The last user of the poller is a socket.
		_, err := socket.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, socket.Close())
		require.False(t, leaked(goroutines, files))
	}
}

func TestPollerCloseEndsServersAndSockets(t *testing.T) {
	t.Parallel()
	poller := newPoller(t, 2)
	var servers [2]*tcpserver.TcpServer
	var taken, queued []*net.TCPConn
	var sockets []*tcpserver.TcpSocket
	for i := range servers {
		servers[i] = listen(t, &tcpserver.TcpServer{Poller: poller})
		for range 3 {
			socket, client := connect(t, servers[i])
			sockets = append(sockets, socket)
			taken = append(taken, client)
		}
		queued = append(queued, dialMany(t, servers[i], 2)...)
		untilPending(t, servers[i], 2)
	}
	waiting := make(chan error, 1)
	empty := listen(t, &tcpserver.TcpServer{Poller: poller})
	go func() { waiting <- empty.WaitForNewConnection(within(t)) }()

	for range 2 {
		require.NoError(t, poller.Close())
	}
	require.Equal(t, tcpserver.ErrServerClosed, receive(t, waiting))
	for _, client := range taken {
		mustBeReset(t, readUntilEnd(t, client))
	}
	for _, client := range queued {
		if err := readUntilEnd(t, client); err != nil {
			require.ErrorIs(t, err, errPeerReset)
		}
	}
	for _, socket := range sockets {
		require.Equal(t, tcpserver.StateUnconnected, socket.State())
		_, err := socket.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	}
	for _, server := range servers {
		require.False(t, server.IsListening())
		require.Zero(t, server.ConnectionCount())
		require.ErrorIs(t, server.Listen("tcp", "127.0.0.1:0"), net.ErrClosed)
		require.ErrorIs(t, server.Err(), net.ErrClosed)
	}
	// A server can listen again with another poller.
	servers[0].Poller = nil
	listen(t, servers[0])
	mustTake(t, servers[0], dial(t, servers[0]))
}

// Connections are accepted while the poller is closed.
func TestPollerCloseEndsConnectionsBeingAccepted(t *testing.T) {
	t.Parallel()
	for range 30 {
		poller := newPoller(t, 2)
		var taken sync.Map
		server := listen(t, &tcpserver.TcpServer{
			Poller: poller,
			NewConnectionHandler: func(server *tcpserver.TcpServer) {
				if socket := server.NextPendingConnection(); socket != nil {
					taken.Store(socket, nil)
				}
			},
		})
		addr := server.Addr().String()
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for range 10 {
					if conn, err := net.Dial("tcp", addr); err == nil {
						defer conn.Close()
					}
				}
			})
		}
		until(t, func() bool { return server.Stats().Accepted > 5 })
		require.NoError(t, poller.Close())
		clients.Wait()
		require.False(t, server.IsListening())
		until(t, func() bool { return server.ConnectionCount() == 0 })
		taken.Range(func(socket, _ any) bool {
			require.Equal(t, tcpserver.StateUnconnected, socket.(*tcpserver.TcpSocket).State())
			return true
		})
	}
}

func TestEchoWorksBesideThousandIdleConnections(t *testing.T) {
	server := listen(t, &tcpserver.TcpServer{NewConnectionHandler: serveEcho})
	idle := dialMany(t, server, 1000)
	until(t, func() bool { return server.Stats().Accepted == 1000 })
	client := dial(t, server)
	for range 200 {
		mustEcho(t, client)
	}
	// The idle connections still work.
	for i := range 20 {
		mustEcho(t, idle[i*50])
	}
}

// One loop serves 50 sockets that are always readable, and calling all their handlers takes about half a second.
func TestIdleTimeoutFiresDespiteBusySockets(t *testing.T) {
	t.Parallel()
	const timeout, enough = time.Second, 6 * time.Second
	server := listen(t, &tcpserver.TcpServer{Poller: newPoller(t, 1), NewConnectionHandler: serveSlowEcho})
	defer until(t, func() bool { return server.ConnectionCount() == 0 })
	for range 50 {
		client := dial(t, server)
		defer client.Close()
		go func() {
			buf := make([]byte, 1)
			for {
				if _, err := client.Write(buf); err != nil {
					return
				}
				if _, err := client.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	idle := listen(t, &tcpserver.TcpServer{Poller: server.Poller, IdleTimeout: timeout})
	begin := time.Now()
	socket, _ := connect(t, idle)
	require.NoError(t, socket.WaitForDisconnected(within(t)))
	require.ErrorIs(t, socket.Err(), tcpserver.ErrIdleTimeout)
	require.GreaterOrEqual(t, time.Since(begin), timeout)
	require.Less(t, time.Since(begin), enough)
}

// serveSlowEcho echoes with a handler that takes 8 ms.
func serveSlowEcho(server *tcpserver.TcpServer) {
	if socket := server.NextPendingConnection(); socket != nil {
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
			time.Sleep(8 * time.Millisecond)
			socket.Send(socket.ReadAll())
		}})
	}
}

// The connections of the churn test carry their number, repeated, in both directions.
const (
	churnBytes   = 256
	churnWorkers = 8
	churnEach    = 250
)

func churnPayload(number uint64) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, number), churnBytes/8)
}

// A churnState is what the server has received from a connection.
type churnState struct{ got []byte }

// churnServer echoes what it receives and counts in mixed how often it received bytes of another connection. It closes
// connections that have an odd number.
func churnServer(t *testing.T, mixed *atomic.Int64) *tcpserver.TcpServer {
	handlers := &tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
		state := socket.UserData().(*churnState)
		p := socket.ReadAll()
		state.got = append(state.got, p...)
		if n := len(state.got); n >= 8 {
			number := binary.BigEndian.Uint64(state.got)
			if n > churnBytes || !bytes.Equal(state.got, churnPayload(number)[:n]) {
				mixed.Add(1)
			}
			socket.Send(p)
			if n == churnBytes && number%2 == 1 {
				socket.Close()
			}
		} else {
			socket.Send(p)
		}
	}}
	return listen(t, &tcpserver.TcpServer{
		Poller: newPoller(t, 2),
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetUserData(new(churnState))
				socket.SetHandlers(handlers)
			}
		},
	})
}

// churn makes a connection with this number, which also decides how the connection ends.
func churn(addr string, number uint64) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	sent := churnPayload(number)
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	got := make([]byte, churnBytes)
	if number%8 >= 6 {
		// Reset the connection while a part of the echo is under way.
		got = got[:number%64]
		conn.(*net.TCPConn).SetLinger(0)
	}
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent[:n]) {
		return fmt.Errorf("connection %d: %w, got %x", number, err, got[:n])
	}
	if number%8 < 4 {
		conn.(*net.TCPConn).CloseWrite()
		if n, err := conn.Read(got); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("connection %d: read %d bytes and error %v after the end", number, n, err)
		}
	}
	return nil
}

func TestNewConnectionNeverGetsBytesOfEarlierOne(t *testing.T) {
	t.Parallel()
	var mixed atomic.Int64
	server := churnServer(t, &mixed)
	addr := server.Addr().String()
	failed := make(chan error, churnWorkers)
	for worker := range uint64(churnWorkers) {
		go func() {
			var err error
			for i := uint64(0); i < churnEach && err == nil; i++ {
				err = churn(addr, worker<<32|i)
			}
			failed <- err
		}()
	}
	for range churnWorkers {
		require.NoError(t, receive(t, failed))
	}
	until(t, func() bool { return server.ConnectionCount() == 0 })
	require.EqualValues(t, churnWorkers*churnEach, server.Stats().Accepted)
	require.Zero(t, mixed.Load(), "a connection received bytes of another")
}
