package tcpserver_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// A busyLoop is a loop that always has work and needs no other goroutine for it: the handler of each connection sends
// the next byte to itself, with a system call that the runtime does not see.
type busyLoop struct {
	calls   atomic.Int64
	over    atomic.Bool
	clients []*net.TCPConn
}

// newBusyLoop returns a busyLoop with n connections. It is idle until a byte is written to its clients. Each call of a
// handler calls work.
func newBusyLoop(t *testing.T, n int, work func(call int64)) *busyLoop {
	var l busyLoop
	server := listen(t, &tcpserver.TcpServer{Poller: newPoller(t, 1)})
	for range n {
		socket, client := connect(t, server)
		raw, err := client.SyscallConn()
		require.NoError(t, err)
		var fd uintptr
		require.NoError(t, raw.Control(func(f uintptr) { fd = f }))
		one := new([1]byte)
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
			socket.ReadAll()
			work(l.calls.Add(1))
			if !l.over.Load() {
				syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(one)), 1)
			}
		}})
		l.clients = append(l.clients, client)
	}
	t.Cleanup(func() { l.over.Store(true) })
	return &l
}

func TestBusyLoopLetsOtherGoroutinesRun(t *testing.T) {
	if !alone(t) {
		return
	}
	runtime.GOMAXPROCS(1)
	for _, c := range []struct {
		conns int
		took  time.Duration // by each call of a handler
		limit int64         // calls
	}{
		{conns: 1, limit: 100},
		{conns: 100, took: time.Millisecond, limit: 50},
	} {
		woken := make(chan int64, 1)
		l := newBusyLoop(t, c.conns, func(call int64) {
			for begin := time.Now(); time.Since(begin) < c.took; {
			}
			select {
			case woken <- call:
			default:
			}
		})
		for _, client := range l.clients {
			_, err := client.Write([]byte{0})
			require.NoError(t, err)
		}
		late := 0 // how often the limit was exceeded, which the system may cause now and then
		for range 200 {
			call := receive(t, woken)
			// So many handlers were called between the one that woke this goroutine and now.
			if l.calls.Load()-call > c.limit {
				late++
			}
		}
		require.Less(t, late, 20)
		l.over.Store(true)
	}
}

// The runtime's monitor sleeps while the process is idle, and a loop that becomes busy does not wake it by itself.
func TestBusyLoopLetsRuntimePollItsDescriptors(t *testing.T) {
	if !alone(t) {
		return
	}
	runtime.GOMAXPROCS(1)
	const enough = 1 << 18 // calls; they take some seconds
	var heard atomic.Bool
	var l *busyLoop
	over := make(chan struct{})
	l = newBusyLoop(t, 1, func(call int64) {
		if (call == enough || heard.Load()) && !l.over.Swap(true) {
			close(over)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer conn.Close()
	go func() {
		if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
			heard.Store(true)
		}
	}()
	// Another process starts the loop after this process has had time to become idle.
	cmd := exec.Command("sh", "-c", "sleep 0.3; printf x >&3; sleep 0.3; printf y >&4")
	for _, c := range []*net.TCPConn{l.clients[0], client.(*net.TCPConn)} {
		f, err := c.File()
		require.NoError(t, err)
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	<-over
	require.NoError(t, cmd.Wait())
	require.True(t, heard.Load(), "the runtime saw nothing during %d calls of handlers", l.calls.Load())
}
