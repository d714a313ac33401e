package tcpserver_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// A recorder records the calls of a socket's handlers. It fails the test if two run at the same time, or if one is
// called after Disconnected.
type recorder struct {
	t testing.TB

	// These are called by the handlers of the same name. If readyRead is nil, ReadyRead reads everything.
	readyRead    func(socket *tcpserver.TcpSocket)
	bytesWritten func(socket *tcpserver.TcpSocket, n int)
	readClosed   func(socket *tcpserver.TcpSocket)
	disconnected func(socket *tcpserver.TcpSocket, err error)

	inside  atomic.Int32  // handlers that are running
	changed chan struct{} // receives after each change

	mu      sync.Mutex
	calls   []string // names of the handlers; calls of the same one in a row count once
	reads   int      // number of calls of ReadyRead
	got     []byte   // bytes that ReadyRead has read
	written []int    // arguments of BytesWritten
	ended   bool
	err     error // argument of Disconnected
}

// newRecorder returns one that has recorded nothing yet.
func newRecorder(t testing.TB) *recorder { return &recorder{t: t, changed: make(chan struct{}, 1)} }

// handlers returns the handlers whose calls are recorded.
func (w *recorder) handlers() *tcpserver.SocketHandlers {
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

// record begins a call and returns a function that ends it. update changes the fields that mu guards.
func (w *recorder) record(name string, update func()) func() {
	if w.inside.Add(1) != 1 {
		w.t.Errorf("%s was called while another handler was running", name)
	}
	w.mu.Lock()
	if w.ended {
		w.t.Errorf("%s was called after Disconnected", name)
	}
	if n := len(w.calls); n == 0 || w.calls[n-1] != name {
		w.calls = append(w.calls, name)
	}
	update()
	w.mu.Unlock()
	w.tell()
	return func() {
		w.inside.Add(-1)
		w.tell()
	}
}

func (w *recorder) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// keep appends p to the bytes that ReadyRead has read.
func (w *recorder) keep(p []byte) {
	w.mu.Lock()
	w.got = append(w.got, p...)
	w.mu.Unlock()
}

// await waits until done, which is called with mu held, returns true.
func (w *recorder) await(done func() bool) {
	w.t.Helper()
	for {
		w.mu.Lock()
		ok := done()
		w.mu.Unlock()
		if ok {
			return
		}
		receive(w.t, w.changed)
	}
}

// awaitBytes waits until ReadyRead has read as many bytes as want has, and compares.
func (w *recorder) awaitBytes(want string) {
	w.t.Helper()
	w.await(func() bool { return len(w.got) >= len(want) })
	w.mu.Lock()
	defer w.mu.Unlock()
	require.True(w.t, want == string(w.got), "received other bytes than were sent")
}

// awaitEnd waits for Disconnected and returns its error.
func (w *recorder) awaitEnd() error {
	w.t.Helper()
	w.await(func() bool { return w.ended })
	return w.err
}

// names returns the names of the handlers in the order of their calls.
func (w *recorder) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// count returns how often ReadyRead was called.
func (w *recorder) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads
}
