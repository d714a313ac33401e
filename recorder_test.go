package tcpserver_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// A witness is handlers that note each call. The test fails when two of them run at a time, or one after Disconnected.
type witness struct {
	t testing.TB

	// What the handlers do beyond taking notes. ReadyRead: nil takes everything.
	readyRead    func(socket *tcpserver.TcpSocket)
	bytesWritten func(socket *tcpserver.TcpSocket, n int)
	readClosed   func(socket *tcpserver.TcpSocket)
	disconnected func(socket *tcpserver.TcpSocket, err error)

	inside atomic.Int32
	step   chan struct{} // something was noted

	mu      sync.Mutex
	calls   []string // names, without repetitions in a row
	reads   int      // calls of ReadyRead
	got     []byte   // what ReadyRead has taken
	written []int    // what BytesWritten was told
	ended   bool
	err     error // what Disconnected got
}

func watch(t testing.TB) *witness { return &witness{t: t, step: make(chan struct{}, 1)} }

func (w *witness) handlers() *tcpserver.SocketHandlers {
	return &tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			defer w.record("ReadyRead", func() { w.reads++ })()
			if w.readyRead != nil {
				w.readyRead(socket)
			} else {
				w.keep(socket.ReadAll())
			}
		},
		BytesWritten: func(socket *tcpserver.TcpSocket, n int) {
			defer w.record("BytesWritten", func() { w.written = append(w.written, n) })()
			if w.bytesWritten != nil {
				w.bytesWritten(socket, n)
			}
		},
		ReadClosed: func(socket *tcpserver.TcpSocket) {
			defer w.record("ReadClosed", func() {})()
			if w.readClosed != nil {
				w.readClosed(socket)
			}
		},
		Disconnected: func(socket *tcpserver.TcpSocket, err error) {
			defer w.record("Disconnected", func() { w.err = err })()
			if w.disconnected != nil {
				w.disconnected(socket, err)
			}
			w.mu.Lock()
			w.ended = true
			w.mu.Unlock()
		},
	}
}

// record begins a call; what it returns ends it.
func (w *witness) record(name string, f func()) func() {
	if w.inside.Add(1) != 1 {
		w.t.Errorf("%s while another handler runs", name)
	}
	w.mu.Lock()
	if w.ended {
		w.t.Errorf("%s after Disconnected", name)
	}
	if n := len(w.calls); n == 0 || w.calls[n-1] != name {
		w.calls = append(w.calls, name)
	}
	f()
	w.mu.Unlock()
	w.tell()
	return func() {
		w.inside.Add(-1)
		w.tell()
	}
}

func (w *witness) tell() {
	select {
	case w.step <- struct{}{}:
	default:
	}
}

func (w *witness) keep(p []byte) {
	w.mu.Lock()
	w.got = append(w.got, p...)
	w.mu.Unlock()
}

// await waits until done, which may look at the notes, returns true.
func (w *witness) await(done func() bool) {
	w.t.Helper()
	for {
		w.mu.Lock()
		ok := done()
		w.mu.Unlock()
		if ok {
			return
		}
		receive(w.t, w.step)
	}
}

// awaitBytes waits until ReadyRead has taken as many bytes as want has, and compares.
func (w *witness) awaitBytes(want string) {
	w.t.Helper()
	w.await(func() bool { return len(w.got) >= len(want) })
	w.mu.Lock()
	defer w.mu.Unlock()
	require.True(w.t, want == string(w.got), "other bytes than were sent")
}

// awaitEnd waits for Disconnected and returns what it got.
func (w *witness) awaitEnd() error {
	w.t.Helper()
	w.await(func() bool { return w.ended })
	return w.err
}

func (w *witness) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func (w *witness) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads
}
