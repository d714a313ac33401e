package tcpserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// A program may call methods while it holds a lock that its handlers acquire too.
func TestHandlersAreNotCalledInsideMethods(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	socket, conn := pair(t)
	handled := 0
	lock := func(*tcpserver.TcpSocket) {
		mu.Lock()
		defer mu.Unlock()
		handled++
	}
	w := newRecorder(t)
	w.readyRead, w.readClosed = lock, lock
	w.disconnected = func(*tcpserver.TcpSocket, error) { lock(nil) }
	w.bytesWritten = func(*tcpserver.TcpSocket, int) { lock(nil) }
	writeString(t, conn, "hello")
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		mu.Lock()
		defer mu.Unlock()
		socket.SetHandlers(w.handlers())
		socket.PauseReading()
		socket.ResumeReading()
		socket.Send(make([]byte, 1<<20))
		socket.ReadAll()
		socket.TryRead(make([]byte, 1))
		socket.Close()
		socket.Abort()
	}()
	receive(t, done)
	require.NoError(t, w.awaitEnd())
	require.Positive(t, handled)
}

func TestHandlersOfOneSocketNeverRunConcurrently(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2} {
		server := listen(t, &tcpserver.TcpServer{Poller: pollerWithLoops(t, n), WriteBufferSize: 64 << 10})
		var wg sync.WaitGroup
		for range 4 {
			socket, conn := connect(t, server)
			w := newRecorder(t)
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				if rand.IntN(50) == 0 {
					time.Sleep(15 * time.Millisecond) // another goroutine takes over the loop
				}
				socket.Discard(rand.IntN(3000))
			}
			h := w.handlers()
			socket.SetHandlers(h)
			wg.Go(func() {
				p := make([]byte, 5000)
				for range 300 {
					if _, err := conn.Write(p[:rand.IntN(len(p))]); err != nil {
						return
					}
				}
				conn.CloseWrite()
			})
			wg.Go(func() { io.Copy(io.Discard, conn) })
			stop := make(chan struct{})
			for range 3 {
				wg.Go(func() {
					p := make([]byte, 1000)
					for {
						select {
						case <-stop:
							return
						default:
						}
						switch rand.IntN(8) {
						case 0:
							socket.Send(p)
						case 1:
							socket.TryRead(p[:100])
						case 2:
							socket.SetHandlers(h)
						case 3:
							socket.PauseReading()
						case 4:
							socket.ResumeReading()
						case 5:
							socket.BytesAvailable()
						case 6:
							socket.Discard(10)
						case 7:
							runtime.Gosched()
						}
					}
				})
			}
			wg.Go(func() {
				defer close(stop)
				<-time.After(time.Duration(100+rand.IntN(100)) * time.Millisecond)
				socket.Close()
			})
			wg.Go(func() { w.awaitEnd() })
		}
		wg.Wait()
		require.Eventually(t, func() bool { return server.ConnectionCount() == 0 }, patience, time.Millisecond)
	}
}

func TestPeekSendDiscardEchoesStreamUnchanged(t *testing.T) {
	t.Parallel()
	want := randomLetters(3 << 20)
	for _, n := range []int{1, 2} {
		server := listen(t, &tcpserver.TcpServer{Poller: pollerWithLoops(t, n), WriteBufferSize: 256 << 10})
		var wg sync.WaitGroup
		for range 3 {
			socket, conn := connect(t, server)
			w := newRecorder(t)
			echo := func(socket *tcpserver.TcpSocket) bool {
				p := socket.Peek(1 + rand.IntN(40<<10))
				before := bytes.Clone(p)
				runtime.Gosched()
				if !bytes.Equal(before, p) {
					t.Error("the bytes that Peek returned have changed")
				}
				return len(p) > 0 && socket.Send(p) == nil && socket.Discard(len(p)) == len(p)
			}
			// ReadyRead echoes one piece and is called again. When the queue was full, BytesWritten continues.
			w.readyRead = func(socket *tcpserver.TcpSocket) { echo(socket) }
			w.bytesWritten = func(socket *tcpserver.TcpSocket, _ int) {
				for echo(socket) {
				}
			}
			socket.SetHandlers(w.handlers())
			wg.Go(func() {
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 1+rand.IntN(100<<10))
					if _, err := io.WriteString(conn, rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				conn.CloseWrite()
			})
			wg.Go(func() {
				conn.SetReadDeadline(time.Now().Add(patience))
				got, err := io.ReadAll(conn)
				if err != nil || string(got) != want {
					t.Errorf("echoed %d of %d bytes, or other bytes; error: %v", len(got), len(want), err)
				}
			})
			wg.Go(func() {
				if err := w.awaitEnd(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestPanicOrGoexitInHandlerEndsOnlyItsSocket(t *testing.T) {
	t.Parallel()
	cause := errors.New("boom")
	fails := map[string]func(){
		"panic":  func() { panic(cause) },
		"Goexit": runtime.Goexit,
	}
	for failure, fail := range fails {
		for _, where := range []string{"ReadyRead", "BytesWritten", "ReadClosed"} {
			t.Run(failure+" in "+where, func(t *testing.T) {
				t.Parallel()
				log := new(lockedBuffer)
				server := listen(t, &tcpserver.TcpServer{
					Poller:          pollerWithLoops(t, 1),
					Logger:          slog.New(slog.NewTextHandler(log, nil)),
					WriteBufferSize: 16 << 20,
				})
				other, otherConn := connect(t, server)
				other.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: echoBack})

				socket, conn := connect(t, server)
				over := make(chan error, 2)
				h := &tcpserver.SocketHandlers{Disconnected: func(_ *tcpserver.TcpSocket, err error) { over <- err }}
				switch where {
				case "ReadyRead":
					h.ReadyRead = func(*tcpserver.TcpSocket) { fail() }
					writeString(t, conn, "x")
				case "BytesWritten":
					h.BytesWritten = func(*tcpserver.TcpSocket, int) { fail() }
					require.NoError(t, socket.Send(make([]byte, 16<<20)))
				case "ReadClosed":
					h.ReadClosed = func(*tcpserver.TcpSocket) { fail() }
					require.NoError(t, conn.CloseWrite())
				}
				socket.SetHandlers(h)
				mustReadReset(t, conn)
				err := receive(t, over)
				var p *tcpserver.PanicError
				require.ErrorAs(t, err, &p)
				require.Contains(t, string(p.Stack), "strand_test.go")
				if failure == "panic" {
					require.Equal(t, cause, p.Value)
					require.ErrorIs(t, err, cause)
					require.Contains(t, log.String(), "boom")
				} else {
					require.Nil(t, p.Value)
					require.Contains(t, log.String(), "Goexit")
				}
				writeString(t, otherConn, "still here")
				mustRead(t, otherConn, "still here")
				require.Equal(t, 1, server.ConnectionCount())
				require.Empty(t, over)
			})
		}
	}
}

func TestPanicOrGoexitInDisconnectedLeavesOtherSocketsOpen(t *testing.T) {
	t.Parallel()
	for failure, fail := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		t.Run(failure, func(t *testing.T) {
			t.Parallel()
			log := new(lockedBuffer)
			server := listen(t, &tcpserver.TcpServer{
				Poller: pollerWithLoops(t, 1),
				Logger: slog.New(slog.NewTextHandler(log, nil)),
			})
			other, otherConn := connect(t, server)
			other.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: echoBack})
			socket, conn := connect(t, server)
			calls := make(chan struct{}, 2)
			socket.SetHandlers(&tcpserver.SocketHandlers{Disconnected: func(*tcpserver.TcpSocket, error) {
				calls <- struct{}{}
				fail()
			}})
			conn.Close()
			receive(t, calls)
			writeString(t, otherConn, "still here")
			mustRead(t, otherConn, "still here")
			require.Eventually(t, func() bool { return log.String() != "" }, patience, time.Millisecond)
			require.NoError(t, socket.Err())
			require.Empty(t, calls)
		})
	}
}

func TestPanicOrGoexitInNewConnectionHandlerKeepsConnectionsPending(t *testing.T) {
	t.Parallel()
	for failure, fail := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		t.Run(failure, func(t *testing.T) {
			t.Parallel()
			const clients = 5
			log := new(lockedBuffer)
			calls := make(chan struct{}, clients+1)
			server := listen(t, &tcpserver.TcpServer{
				Poller: pollerWithLoops(t, 1),
				Logger: slog.New(slog.NewTextHandler(log, nil)),
				NewConnectionHandler: func(*tcpserver.TcpServer) {
					calls <- struct{}{}
					fail()
				},
			})
			// All connections are in the system's queue when accepting begins.
			server.PauseAccepting()
			for range clients {
				dial(t, server)
			}
			server.ResumeAccepting()
			for range clients {
				receive(t, calls)
			}
			require.Equal(t, clients, server.PendingConnections())
			require.NotEmpty(t, log.String())
			take(t, server)
		})
	}
}

func TestHandlerCanBlockInRead(t *testing.T) {
	t.Parallel()
	server := listen(t, &tcpserver.TcpServer{Poller: pollerWithLoops(t, 1)})
	socket, conn := connect(t, server)
	w := newRecorder(t)
	began := make(chan struct{}, 10)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		// A message is a digit and as many bytes. At the end of the stream there is none.
		head := make([]byte, 1)
		if n, _ := socket.TryRead(head); n == 0 {
			return
		}
		began <- struct{}{}
		body := make([]byte, head[0]-'0')
		if _, err := io.ReadFull(socket, body); err != nil {
			t.Error(err)
		}
		w.keep(body)
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "5he")
	receive(t, began)
	time.Sleep(quiet)
	writeString(t, conn, "l")
	writeString(t, conn, "lo3abc2x")
	receive(t, began)
	receive(t, began)
	writeString(t, conn, "y")
	w.awaitBytes("helloabcxy")
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, w.awaitEnd())
}

func TestEachOfManyConnectionsIsEchoedAndDisconnectedOnce(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 250
	var ended atomic.Int32
	disconnected := make(chan struct{}, clients*each)
	server := listen(t, &tcpserver.TcpServer{
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			var once atomic.Bool
			server.NextPendingConnection().SetHandlers(&tcpserver.SocketHandlers{
				ReadyRead: echoBack,
				Disconnected: func(_ *tcpserver.TcpSocket, err error) {
					if err != nil || once.Swap(true) {
						t.Errorf("Disconnected was called twice, or with error %v", err)
					}
					ended.Add(1)
					disconnected <- struct{}{}
				},
			})
		},
	})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range each {
				conn, err := net.Dial("tcp", server.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				conn.SetDeadline(time.Now().Add(patience))
				fmt.Fprintf(conn, "%d\n", i)
				line, err := bufio.NewReader(conn).ReadString('\n')
				if line != fmt.Sprintf("%d\n", i) {
					t.Errorf("echo of %d: got %q, error %v", i, line, err)
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
	for range clients * each {
		receive(t, disconnected)
	}
	require.Zero(t, server.ConnectionCount())
	require.EqualValues(t, clients*each, ended.Load())
	require.EqualValues(t, clients*each, server.Stats().Accepted)
}

func TestNewConnectionHandlerIsCalledAgainAfterPanicOrGoexit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail func()
		log  string
	}{
		"panic":  {func() { panic("the handler's own fault") }, "the handler's own fault"},
		"Goexit": {runtime.Goexit, "handler failed"}, // what t.FailNow does
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := make(logLines, 10)
			calls := make(chan int, 10)
			n := 0
			server := &tcpserver.TcpServer{
				Logger: slog.New(slog.NewTextHandler(lines, nil)),
				NewConnectionHandler: func(server *tcpserver.TcpServer) {
					n++
					calls <- n
					if n == 2 {
						c.fail()
					}
				},
			}
			// All connections have arrived, and the loop knows of them, before the first is accepted, so that no new
			// connection makes the server continue.
			server.PauseAccepting()
			listen(t, server)
			clients := dialMany(t, server, 4)
			mustNotAccept(t, server)
			server.ResumeAccepting()
			for i := range clients {
				require.Equal(t, i+1, receive(t, calls))
			}
			line := receive(t, lines)
			require.Contains(t, line, "level=ERROR")
			require.Contains(t, line, c.log)
			require.Contains(t, line, "strand_test.go", "the record must contain the stack")
			mustTake(t, server, clients...)
			require.True(t, server.IsAccepting())
			require.Empty(t, lines)
		})
	}
}
