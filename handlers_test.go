package tcpserver_test

import (
	"bytes"
	"fmt"
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

func TestReadyReadIsCalledAgainForEachUnreadLine(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		line, _ := socket.ReadLine()
		w.keep(line)
	}
	socket.SetHandlers(w.handlers())
	var all strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	writeString(t, conn, all.String())
	w.awaitBytes(all.String())
	require.GreaterOrEqual(t, w.count(), 1000)
}

func TestReadyReadDoesNotSpinOnAPartialLine(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		line, _ := socket.ReadLine()
		w.keep(line)
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "one\npart")
	w.awaitBytes("one\n")
	time.Sleep(100 * time.Millisecond)
	require.LessOrEqual(t, w.count(), 3)
	writeString(t, conn, "ial\n")
	w.awaitBytes("one\npartial\n")
}

func TestReadyReadThatReadsNothingIsCalledAgainForNewData(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	w.readyRead = func(*tcpserver.TcpSocket) {}
	socket.SetHandlers(w.handlers())
	for i := range 3 {
		writeString(t, conn, "x")
		w.await(func() bool { return w.reads > i })
		time.Sleep(quiet)
		require.Equal(t, i+1, w.count())
		require.Equal(t, i+1, socket.BytesAvailable())
	}
}

func TestReadyReadIsNotRepeatedForLineLongerThanReadBuffer(t *testing.T) {
	t.Parallel()
	const limit = 4 << 10
	server := listen(t, &tcpserver.TcpServer{ReadBufferSize: limit})
	socket, conn := connect(t, server)
	w := newRecorder(t)
	full := make(chan struct{}, 1)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		_, ok := socket.ReadLine()
		if ok || socket.CanReadLine() {
			t.Error("a line longer than the read buffer was returned")
		}
		if len(socket.Peek(limit)) == limit {
			full <- struct{}{} // blocks, so that the test fails, on a second call with a full buffer
		}
	}
	socket.SetHandlers(w.handlers())
	want := randomLetters(8*limit) + "\n"
	writeString(t, conn, want)
	receive(t, full)
	calls := w.count()
	time.Sleep(quiet)
	require.Equal(t, calls, w.count())
	w.readyRead = nil
	var got []byte
	socket.SetHandlers(nil)
	for len(got) < len(want) {
		require.NoError(t, socket.WaitForReadyRead(within(t)))
		got = append(got, socket.ReadAll()...)
	}
	require.True(t, want == string(got))
}

// This test measures the heap and is not parallel.
func TestHandlerReadingStopsAtReadBufferSizeUntilBytesAreConsumed(t *testing.T) {
	const limit = 32 << 10
	server := listen(t, &tcpserver.TcpServer{ReadBufferSize: limit})
	socket, conn := connect(t, server)
	w := newRecorder(t)
	w.readyRead = func(*tcpserver.TcpSocket) {}
	socket.SetHandlers(w.handlers())
	want := randomLetters(1 << 20)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	sent := 0
	for {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		n, err := io.WriteString(conn, want[sent%len(want):])
		sent += n
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
		require.Less(t, sent, 256<<20, "the client was never blocked")
	}
	require.EqualValues(t, limit, socket.BytesRead())
	require.Less(t, heap(), before+4<<20)

	calls := w.count()
	time.Sleep(quiet)
	require.Equal(t, calls, w.count(), "ReadyRead was called while the buffer was full")
	require.Equal(t, 1000, socket.Discard(1000))
	w.await(func() bool { return w.reads > calls })
	p := make([]byte, 1000)
	calls = w.count()
	n, err := socket.TryRead(p)
	require.NoError(t, err)
	w.await(func() bool { return w.reads > calls })

	rest := newRecorder(t)
	total := 1000 + n
	rest.readyRead = func(socket *tcpserver.TcpSocket) {
		all := string(socket.ReadAll())
		for len(all) > 0 {
			next := want[total%len(want):]
			next = next[:min(len(next), len(all))]
			if !strings.HasPrefix(all, next) {
				t.Error("received other bytes than were sent")
			}
			all = all[len(next):]
			rest.mu.Lock()
			total += len(next)
			rest.mu.Unlock()
		}
	}
	socket.SetHandlers(rest.handlers())
	rest.await(func() bool { return total >= sent })
	require.EqualValues(t, sent, socket.BytesRead())
}

func TestHandlersSetLateGetEarlierDataAndEnd(t *testing.T) {
	t.Parallel()
	for _, test := range lateHandlerTests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			test.before(t, socket, conn)
			w := newRecorder(t)
			socket.SetHandlers(w.handlers())
			w.awaitBytes(test.got)
			if !test.open {
				require.ErrorIs(t, w.awaitEnd(), test.err)
			}
			w.await(func() bool { return w.inside.Load() == 0 })
			require.Equal(t, test.calls, w.names())
			socket.SetHandlers(w.handlers()) // Disconnected must not be called again
			if !test.open {
				time.Sleep(quiet)
				require.Equal(t, test.calls, w.names())
			} else {
				socket.Close()
				w.awaitEnd()
			}
		})
	}
}

// lateHandlerTests say what happens to a connection before handlers are set, and which of them are called then.
var lateHandlerTests = []struct {
	name   string
	before func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn)
	got    string
	calls  []string
	err    error
	open   bool // the connection stays open
}{{
	name: "data",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		writeString(t, conn, "hello")
	},
	got: "hello", calls: []string{"ReadyRead"}, open: true,
}, {
	name: "data already in the read buffer",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		writeString(t, conn, "hello")
		require.NoError(t, socket.WaitForReadyRead(within(t)))
	},
	got: "hello", calls: []string{"ReadyRead"}, open: true,
}, {
	name: "data and end of stream",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		writeString(t, conn, "hello")
		require.NoError(t, conn.CloseWrite())
	},
	got: "hello", calls: []string{"ReadyRead", "ReadClosed", "Disconnected"},
}, {
	name: "end of stream already read",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		require.NoError(t, conn.CloseWrite())
		_, err := socket.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	},
	calls: []string{"ReadyRead", "ReadClosed", "Disconnected"},
}, {
	name: "data and reset",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		writeString(t, conn, "hello")
		require.NoError(t, socket.WaitForReadyRead(within(t)))
		reset(t, conn)
	},
	got: "hello", calls: []string{"ReadyRead", "Disconnected"}, err: tcpserver.ErrReset,
}, {
	name: "data, reset and disconnection",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		writeString(t, conn, "hello")
		require.NoError(t, socket.WaitForReadyRead(within(t)))
		reset(t, conn)
		require.NoError(t, socket.WaitForDisconnected(within(t)))
	},
	got: "hello", calls: []string{"ReadyRead", "Disconnected"}, err: tcpserver.ErrReset,
}, {
	name: "Close",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		writeString(t, conn, "hello")
		require.NoError(t, socket.Close())
	},
	calls: []string{"Disconnected"},
}, {
	name: "earlier handlers that read nothing",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		first := newRecorder(t)
		first.readyRead = func(*tcpserver.TcpSocket) {}
		socket.SetHandlers(first.handlers())
		writeString(t, conn, "hello")
		require.NoError(t, conn.CloseWrite())
		first.await(func() bool { return first.reads > 0 })
	},
	got: "hello", calls: []string{"ReadyRead", "ReadClosed", "Disconnected"},
}, {
	name: "earlier handlers that were removed",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		first := newRecorder(t)
		socket.SetHandlers(first.handlers())
		writeString(t, conn, "a")
		first.awaitBytes("a")
		socket.SetHandlers(nil)
		writeString(t, conn, "hello")
		require.NoError(t, conn.CloseWrite())
		time.Sleep(quiet)
		require.Equal(t, []string{"ReadyRead"}, first.names())
	},
	got: "hello", calls: []string{"ReadyRead", "ReadClosed", "Disconnected"},
}, {
	name: "earlier handlers that were removed before the end",
	before: func(t *testing.T, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
		first := newRecorder(t)
		socket.SetHandlers(first.handlers())
		socket.SetHandlers(nil)
		require.NoError(t, socket.Abort())
		require.NoError(t, socket.WaitForDisconnected(within(t)))
		time.Sleep(quiet)
		require.Empty(t, first.names())
	},
	calls: []string{"Disconnected"},
}}

func TestEndOfStreamCallsReadyReadThenReadClosedThenDisconnected(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	ends, closes := 0, 0
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		w.keep(socket.ReadAll())
		if _, err := socket.TryRead(make([]byte, 1)); err == io.EOF {
			ends++
		}
	}
	w.readClosed = func(*tcpserver.TcpSocket) { closes++ }
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "hello")
	w.awaitBytes("hello")
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, w.awaitEnd())
	require.Equal(t, []string{"ReadyRead", "ReadClosed", "Disconnected"}, w.names())
	require.Equal(t, 1, ends)
	require.Equal(t, 1, closes)
	require.Empty(t, mustReadAll(t, conn))
}

// A handler that reads until io.EOF, as most do, must not thereby end the connection before ReadClosed.
func TestReadClosedIsCalledEvenAfterCloseWrite(t *testing.T) {
	t.Parallel()
	reads := map[string]func(w *recorder, socket *tcpserver.TcpSocket){
		"TryRead": func(w *recorder, socket *tcpserver.TcpSocket) {
			p := make([]byte, 100)
			for n, err := socket.TryRead(p); err == nil; n, err = socket.TryRead(p) {
				w.keep(p[:n])
			}
		},
		"ReadAll": func(w *recorder, socket *tcpserver.TcpSocket) {
			for p := socket.ReadAll(); p != nil; p = socket.ReadAll() {
				w.keep(p)
			}
		},
		"Discard": func(w *recorder, socket *tcpserver.TcpSocket) {
			w.keep(bytes.Clone(socket.Peek(100)))
			socket.Discard(100)
		},
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			w := newRecorder(t)
			w.readyRead = func(socket *tcpserver.TcpSocket) { read(w, socket) }
			socket.SetHandlers(w.handlers())
			require.NoError(t, socket.CloseWrite())
			require.Empty(t, mustReadAll(t, conn))
			writeString(t, conn, "hello")
			require.NoError(t, conn.CloseWrite())
			require.NoError(t, w.awaitEnd())
			w.awaitBytes("hello")
			require.Equal(t, []string{"ReadyRead", "ReadClosed", "Disconnected"}, w.names())
		})
	}
}

func TestReadClosedIsCalledOnlyAfterAllDataIsRead(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"in a handler", "outside of handlers"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			w := newRecorder(t)
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				if where == "in a handler" {
					w.keep(bytes.Clone(socket.Peek(1)))
					socket.Discard(1)
				}
			}
			w.readClosed = func(socket *tcpserver.TcpSocket) {
				if n := socket.BytesAvailable(); n != 0 {
					t.Errorf("ReadClosed was called with %d bytes unread", n)
				}
			}
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "hello")
			require.NoError(t, conn.CloseWrite())
			if where == "in a handler" {
				w.awaitBytes("hello")
			} else {
				w.await(func() bool { return w.reads > 0 })
				time.Sleep(quiet)
				require.Equal(t, []string{"ReadyRead"}, w.names())
				require.Equal(t, "hello", string(socket.ReadAll()))
			}
			require.NoError(t, w.awaitEnd())
			require.Equal(t, []string{"ReadyRead", "ReadClosed", "Disconnected"}, w.names())
		})
	}
}

func TestReadClosedCanSendLargeReply(t *testing.T) {
	t.Parallel()
	want := randomLetters(5 << 20)
	socket, conn := pair(t)
	socket.SetWriteBufferSize(len(want))
	w := newRecorder(t)
	w.readClosed = func(socket *tcpserver.TcpSocket) {
		if err := socket.Send([]byte(want)); err != nil {
			t.Error(err)
		}
	}
	socket.SetHandlers(w.handlers())
	require.NoError(t, conn.CloseWrite())
	w.await(func() bool { return slices.Contains(w.calls, "ReadClosed") })
	require.True(t, want == mustReadAll(t, conn))
	require.NoError(t, w.awaitEnd())
	require.EqualValues(t, len(want), socket.BytesSent())
}

func TestSetAllowHalfOpenAffectsOnlyItsSocket(t *testing.T) {
	for _, fromServer := range []bool{false, true} {
		server := listen(t, &tcpserver.TcpServer{AllowHalfOpen: fromServer})
		usual, usualConn := connect(t, server)
		changed, changedConn := connect(t, server)
		changed.SetAllowHalfOpen(!fromServer)
		stays, ends, endsConn := usual, changed, changedConn
		staysConn := usualConn
		if !fromServer {
			stays, ends, staysConn, endsConn = changed, usual, changedConn, usualConn
		}
		readClosed, disconnected := make(chan struct{}, 2), make(chan *tcpserver.TcpSocket, 2)
		handlers := &tcpserver.SocketHandlers{
			ReadClosed:   func(*tcpserver.TcpSocket) { readClosed <- struct{}{} },
			Disconnected: func(s *tcpserver.TcpSocket, _ error) { disconnected <- s },
		}
		for _, s := range []*tcpserver.TcpSocket{stays, ends} {
			s.SetHandlers(handlers)
		}
		require.NoError(t, staysConn.CloseWrite())
		receive(t, readClosed)
		require.NoError(t, endsConn.CloseWrite())
		receive(t, readClosed)
		require.Same(t, ends, receive(t, disconnected))
		require.NoError(t, stays.Send([]byte("late")))
		require.NoError(t, stays.Close())
		got, err := io.ReadAll(staysConn)
		require.NoError(t, err)
		require.Equal(t, "late", string(got))
		require.Same(t, stays, receive(t, disconnected))
	}
}

func TestAllowHalfOpenKeepsSocketOpenAfterReadClosed(t *testing.T) {
	t.Parallel()
	server := listen(t, &tcpserver.TcpServer{AllowHalfOpen: true})
	socket, conn := connect(t, server)
	w := newRecorder(t)
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "question")
	require.NoError(t, conn.CloseWrite())
	w.await(func() bool { return slices.Contains(w.calls, "ReadClosed") })
	time.Sleep(quiet)
	require.Equal(t, tcpserver.StateConnected, socket.State())
	require.NoError(t, socket.Send([]byte("answer")))
	require.NoError(t, socket.CloseWrite())
	require.Equal(t, "answer", mustReadAll(t, conn))
	require.NoError(t, w.awaitEnd())
	require.Equal(t, []string{"ReadyRead", "ReadClosed", "Disconnected"}, w.names())
	require.Zero(t, server.ConnectionCount())
}

func TestDisconnectedReportsReset(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn){
		"idle": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			socket.SetHandlers(w.handlers())
		},
		"only Disconnected set": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			socket.SetHandlers(&tcpserver.SocketHandlers{Disconnected: w.handlers().Disconnected})
		},
		"paused": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			socket.SetHandlers(w.handlers())
			socket.PauseReading()
		},
		"paused with data": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			socket.PauseReading()
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "hello")
		},
		"half-closed by the peer": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			socket.PauseReading()
			socket.SetHandlers(w.handlers())
			require.NoError(t, conn.CloseWrite())
		},
		"unread data": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			w.readyRead = func(*tcpserver.TcpSocket) {}
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "hello")
			w.await(func() bool { return w.reads > 0 })
		},
		"full read buffer": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			socket.SetReadBufferSize(100)
			w.readyRead = func(*tcpserver.TcpSocket) {}
			socket.SetHandlers(w.handlers())
			writeString(t, conn, randomLetters(1000))
			w.await(func() bool { return socket.BytesRead() == 100 })
		},
		"bytes in the send queue": func(t *testing.T, w *recorder, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			socket.SetWriteBufferSize(16 << 20)
			socket.SetHandlers(w.handlers())
			require.NoError(t, socket.Send(make([]byte, 16<<20)))
		},
	}
	for name, before := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			w := newRecorder(t)
			before(t, w, socket, conn)
			reset(t, conn)
			err := w.awaitEnd()
			require.ErrorIs(t, err, tcpserver.ErrReset)
			require.Equal(t, err, socket.Err())
			require.NotContains(t, w.names(), "ReadClosed")
		})
	}
}

func TestDisconnectedReportsResetFoundBySend(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	wasReset := make(chan struct{})
	sendErr := make(chan error, 1)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		socket.ReadAll()
		receive(t, wasReset)
		for {
			if err := socket.Send([]byte("x")); err != nil {
				sendErr <- err
				return
			}
		}
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "x")
	w.await(func() bool { return w.reads > 0 })
	reset(t, conn)
	close(wasReset)
	require.ErrorIs(t, receive(t, sendErr), tcpserver.ErrReset)
	require.ErrorIs(t, w.awaitEnd(), tcpserver.ErrReset)
	require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
}

func TestOnlyDisconnectedIsCalledAfterCloseOrAbort(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*tcpserver.TcpSocket) error{
		"Close": (*tcpserver.TcpSocket).Close,
		"Abort": (*tcpserver.TcpSocket).Abort,
	}
	for name, end := range ends {
		// The handler reads one line, so that more lines and the end of the stream are still to be announced.
		t.Run(name+" in ReadyRead", func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			w := newRecorder(t)
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				socket.ReadLine()
				socket.Send([]byte("answer"))
				end(socket)
			}
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "1\n2\n3\n")
			conn.CloseWrite()
			require.NoError(t, w.awaitEnd())
			require.Equal(t, 1, w.count())
			require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
			if name == "Close" {
				require.Equal(t, "answer", mustReadAll(t, conn))
			}
		})
		t.Run(name+" in ReadClosed", func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			w := newRecorder(t)
			w.readClosed = func(socket *tcpserver.TcpSocket) { end(socket) }
			socket.SetHandlers(w.handlers())
			require.NoError(t, conn.CloseWrite())
			require.NoError(t, w.awaitEnd())
		})
		t.Run(name+" in BytesWritten", func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			socket.SetWriteBufferSize(16 << 20)
			w := newRecorder(t)
			w.bytesWritten = func(socket *tcpserver.TcpSocket, _ int) { end(socket) }
			socket.SetHandlers(w.handlers())
			require.NoError(t, socket.Send(make([]byte, 16<<20)))
			go io.Copy(io.Discard, conn)
			require.NoError(t, w.awaitEnd())
			require.Len(t, w.written, 1)
		})
		t.Run(name+" outside of handlers", func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			w := newRecorder(t)
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "hello")
			w.awaitBytes("hello")
			require.NoError(t, end(socket))
			require.NoError(t, w.awaitEnd())
			require.NoError(t, socket.Err())
			require.Equal(t, []string{"ReadyRead", "Disconnected"}, w.names())
		})
	}
}

func TestBytesWrittenAddsUpToQueuedBytes(t *testing.T) {
	t.Parallel()
	const pieces, size = 40, 100_000
	server := listen(t, &tcpserver.TcpServer{WriteBufferSize: pieces * size, Poller: pollerWithLoops(t, 1)})
	socket, conn := connect(t, server)
	require.NoError(t, socket.SetWriteBuffer(16<<10))
	require.NoError(t, conn.SetReadBuffer(16<<10))
	want := randomLetters(pieces * size)
	w := newRecorder(t)
	queued := make(chan int, 1)
	sum := 0
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		socket.ReadAll()
		// Nothing is sent from the queue while this handler runs, so that its length is exact.
		for i := range pieces {
			if err := socket.Send([]byte(want[i*size:][:size])); err != nil {
				t.Error(err)
			}
		}
		queued <- socket.BytesToWrite()
	}
	w.bytesWritten = func(socket *tcpserver.TcpSocket, n int) {
		if sum += n; n <= 0 || sum+socket.BytesToWrite() > pieces*size {
			t.Errorf("BytesWritten(%d), %d in total", n, sum)
		}
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "x")
	n := receive(t, queued)
	require.Positive(t, n)
	mustRead(t, conn, want)
	require.NoError(t, socket.WaitForBytesWritten(within(t)))
	w.await(func() bool { return w.inside.Load() == 0 && sum >= n })
	require.Equal(t, n, sum)
	require.Zero(t, socket.BytesToWrite())

	// Bytes that Send passes to the system at once are not reported.
	calls := len(w.names())
	require.NoError(t, socket.Send([]byte("x")))
	mustRead(t, conn, "x")
	time.Sleep(quiet)
	require.Len(t, w.names(), calls)
}

func TestPauseReadingStopsHandlersUntilResumeReading(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	socket.PauseReading()
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "one")
	time.Sleep(quiet)
	require.Empty(t, w.names())
	require.Zero(t, socket.BytesRead(), "bytes were read while reading was paused")
	socket.ResumeReading()
	w.awaitBytes("one")

	socket.PauseReading()
	writeString(t, conn, "two")
	require.NoError(t, socket.WaitForReadyRead(within(t))) // moves the bytes to the socket's buffer
	require.NoError(t, conn.CloseWrite())
	time.Sleep(quiet)
	w.awaitBytes("one")
	socket.ResumeReading()
	w.awaitBytes("onetwo")
	require.NoError(t, w.awaitEnd())
}

func TestPauseReadingInReadyReadStopsFurtherCalls(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) {
		line, ok := socket.ReadLine()
		if ok {
			socket.PauseReading()
		}
		w.keep(line)
	}
	socket.SetHandlers(w.handlers())
	writeString(t, conn, "1\n2\n3\n")
	require.NoError(t, conn.CloseWrite())
	for want := "1\n"; len(want) <= 6; want = "1\n2\n3\n"[:len(want)+2] {
		w.awaitBytes(want)
		time.Sleep(quiet / 2)
		w.awaitBytes(want)
		require.Equal(t, []string{"ReadyRead"}, w.names())
		socket.ResumeReading()
		if len(want) == 6 {
			break
		}
	}
	require.NoError(t, w.awaitEnd())
	require.Equal(t, []string{"ReadyRead", "ReadClosed", "Disconnected"}, w.names())
}

func TestSocketCanBeClosedInNewConnectionHandler(t *testing.T) {
	t.Parallel()
	w := newRecorder(t)
	server := listen(t, &tcpserver.TcpServer{
		Poller: pollerWithLoops(t, 1),
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			socket := server.NextPendingConnection()
			socket.SetHandlers(w.handlers())
			socket.Send([]byte("bye"))
			socket.Close()
		},
	})
	require.Equal(t, "bye", mustReadAll(t, dial(t, server)))
	require.NoError(t, w.awaitEnd())
	require.Equal(t, []string{"Disconnected"}, w.names())
	require.Zero(t, server.ConnectionCount())
}

// Whoever sets handlers last is told of the end of the stream, while others are being told.
func TestHandlersMayBeSetWhileReadClosedRuns(t *testing.T) {
	socket, conn := pair(t)
	socket.SetAllowHalfOpen(true)
	require.NoError(t, conn.CloseWrite())
	var calls atomic.Int64
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			for calls.Load() < 1000 {
				socket.SetHandlers(&tcpserver.SocketHandlers{ReadClosed: func(*tcpserver.TcpSocket) { calls.Add(1) }})
			}
		})
	}
	both.Wait()
	told := make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadClosed: func(*tcpserver.TcpSocket) { close(told) }})
	receive(t, told)
	socket.Close()
}
