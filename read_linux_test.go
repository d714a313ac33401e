//go:build !kqemu

package tcpserver_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver"
)

// These tests need a system that reports urgent data: kqueue does not.

// oddSends send "abc" and "def\n" in such a way that the system returns them one after another, without another event:
// around an urgent byte, and where descriptors came with bytes of a unix socket.
var oddSends = map[string]func(t *testing.T, fd int){
	"tcp":  sendUrgently,
	"unix": sendWithDescriptor,
}

func sendUrgently(t *testing.T, fd int) {
	_, err := unix.Write(fd, []byte("abc"))
	require.NoError(t, err)
	require.NoError(t, unix.Sendto(fd, []byte("!"), unix.MSG_OOB, nil))
	_, err = unix.Write(fd, []byte("def\n"))
	require.NoError(t, err)
}

func sendWithDescriptor(t *testing.T, fd int) {
	require.NoError(t, unix.Sendmsg(fd, []byte("abc"), unix.UnixRights(fd), nil, 0))
	_, err := unix.Write(fd, []byte("def\n"))
	require.NoError(t, err)
}

// oddPair returns a socket whose peer has sent in an odd way before it was accepted.
func oddPair(t *testing.T, network string) (*tcpserver.TcpSocket, net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	server := new(tcpserver.TcpServer)
	server.PauseAccepting()
	require.NoError(t, server.Listen(network, address))
	t.Cleanup(func() { server.Close() })
	conn, err := net.Dial(network, server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	f, err := conn.(interface{ File() (*os.File, error) }).File()
	require.NoError(t, err)
	defer f.Close()
	oddSends[network](t, int(f.Fd()))
	require.NoError(t, unix.SetNonblock(int(f.Fd()), true)) // Fd has cleared it, also for conn
	server.ResumeAccepting()
	socket := take(t, server)
	t.Cleanup(func() { socket.Abort() })
	return socket, conn
}

func TestShortReadIsNotTakenForTheLast(t *testing.T) {
	t.Parallel()
	for network := range oddSends {
		t.Run(network+" Read", func(t *testing.T) {
			t.Parallel()
			socket, _ := oddPair(t, network)
			p := make([]byte, 7)
			require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
			_, err := io.ReadFull(socket, p)
			require.NoError(t, err)
			require.Equal(t, "abcdef\n", string(p))
		})
		t.Run(network+" handlers", func(t *testing.T) {
			t.Parallel()
			socket, _ := oddPair(t, network)
			w := newRecorder(t)
			w.readyRead = func(socket *tcpserver.TcpSocket) { w.keep(socket.ReadAll()) }
			socket.SetHandlers(w.handlers())
			w.awaitBytes("abcdef\n")
		})
	}
}

func TestTryReadOfUnixSocketFillsBytesAvailable(t *testing.T) {
	t.Parallel()
	socket, _ := oddPair(t, "unix")
	p := make([]byte, socket.BytesAvailable())
	require.Len(t, p, 7)
	n, err := socket.TryRead(p)
	require.NoError(t, err)
	require.Equal(t, "abcdef\n", string(p[:n]))
}

// With credentials, for which systemd has PassCredentials, the system does not join what two processes have sent.
func TestUnixSocketWithCredentialsReadsAllSenders(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	server.PauseAccepting()
	address := filepath.Join(t.TempDir(), "s")
	require.NoError(t, server.Listen("unix", address))
	t.Cleanup(func() { server.Close() })
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	}))
	conn, err := net.Dial("unix", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	f, err := conn.(*net.UnixConn).File()
	require.NoError(t, err)
	defer f.Close()
	senders := exec.Command("sh", "-c", "printf abc >&3; exec env printf def >&3")
	senders.ExtraFiles = []*os.File{f}
	require.NoError(t, senders.Run())
	server.ResumeAccepting()
	socket := take(t, server)
	t.Cleanup(func() { socket.Abort() })
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
	p := make([]byte, 6)
	_, err = io.ReadFull(socket, p)
	require.NoError(t, err)
	require.Equal(t, "abcdef", string(p))
}

func TestCloseWithOddUnreadDataDoesNotReset(t *testing.T) {
	t.Parallel()
	for network := range oddSends {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			socket, conn := oddPair(t, network)
			require.NoError(t, socket.Send([]byte("reply")))
			require.NoError(t, socket.Close())
			reply, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, "reply", string(reply))
		})
	}
}

// After an urgent byte a socket must not be taken for one whose peer has finished sending, with nothing unread.
func TestCloseAfterUrgentByteDoesNotReset(t *testing.T) {
	t.Parallel()
	server := listen(t, &tcpserver.TcpServer{Poller: newPoller(t, 1)})
	other, otherConn := connect(t, server)
	socket, conn := connect(t, server)
	w := newRecorder(t)
	w.readyRead = func(socket *tcpserver.TcpSocket) { w.keep(socket.ReadAll()) }
	socket.SetHandlers(w.handlers())
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { sendUrgently(t, int(fd)) }))
	w.awaitBytes("abcdef\n")
	// While the loop runs another handler, something arrives that it does not notice.
	other.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(other *tcpserver.TcpSocket) {
		other.ReadAll()
		socket.Send([]byte("reply"))
		conn.Write([]byte("more"))
		socket.Close()
	}})
	writeString(t, otherConn, "x")
	require.Equal(t, "reply", mustReadAll(t, conn))
}

// The receive buffer of a connection that has been fast holds megabytes.
func TestReadAllOfUnixSocketTakesAllSenders(t *testing.T) {
	socket, conn := oddPair(t, "unix")
	until(t, func() bool { return socket.BytesAvailable() == len("abcdef\n") })
	require.Equal(t, "a", string(socket.Peek(1)), "a part is in the buffer")
	raw, err := conn.(*net.UnixConn).SyscallConn()
	require.NoError(t, err)
	filler := make([]byte, 64<<10)
	_, err = conn.Write(filler)
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { sendWithDescriptor(t, int(fd)) }))
	want := len("abcdef\n") + len(filler) + len("abcdef\n")
	until(t, func() bool { return socket.BytesAvailable() == want })
	require.Len(t, socket.ReadAll(), want)
}

// What lies behind an urgent byte is not in the number of unread bytes that the system tells. A program that reads
// only what BytesAvailable announces must not stop there.
func TestBytesAvailableIsNotZeroBehindUrgentByte(t *testing.T) {
	socket, _ := oddPair(t, "tcp")
	got := ""
	until(t, func() bool {
		if n := socket.BytesAvailable(); n > 0 {
			p := make([]byte, n)
			n, err := socket.TryRead(p)
			require.NoError(t, err)
			got += string(p[:n])
		}
		return len(got) >= len("abcdef\n")
	})
	require.Equal(t, "abcdef\n", got)
}

// What lies behind an urgent byte is not in the number of unread bytes that the system tells.
func TestCloseBehindUrgentByteSendsEverything(t *testing.T) {
	server := listen(t, new(tcpserver.TcpServer))
	socket, conn := connect(t, server)
	require.NoError(t, conn.SetReadBuffer(16<<10))
	require.NoError(t, socket.SetWriteBuffer(4<<20))
	reply := randomBytes(1, 200<<10)
	require.NoError(t, socket.Send(reply))
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { sendUrgently(t, int(fd)) }))
	until(t, func() bool { return socket.BytesAvailable() > 0 })
	require.NoError(t, socket.Close())
	got, err := readToEnd(t, conn)
	require.NoError(t, err)
	require.Len(t, got, len(reply))
}

func TestCloseWithMegabytesUnreadDoesNotReset(t *testing.T) {
	t.Parallel()
	const unread = 3 * mib
	server := listen(t, new(tcpserver.TcpServer))
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		// SO_RCVBUFFORCE is for root; without it the buffer is as large as the system allows.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4*unread) != nil {
			require.NoError(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4*unread))
		}
	}))
	socket, conn := connect(t, server)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(time.Second)))
	sent, _ := conn.Write(make([]byte, unread))
	require.Eventually(t, func() bool { return socket.BytesAvailable() >= min(sent, mib) }, patience, time.Millisecond)
	reply := randomBytes(1, 500<<10)
	require.NoError(t, socket.Send(reply))
	require.NoError(t, socket.Close())
	mustReadExactly(t, conn, reply)
}

// loseAcknowledgements makes a connection fail with ETIMEDOUT soon after the socket has sent something: the peer's
// system drops what comes.
func loseAcknowledgements(socket *tcpserver.TcpSocket, conn *net.TCPConn) error {
	drop := &unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	rawSocket, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var timeout, filter error
	err = rawSocket.Control(func(fd uintptr) {
		timeout = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 300)
	})
	err = errors.Join(err, raw.Control(func(fd uintptr) {
		filter = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, drop)
	}))
	return errors.Join(err, timeout, filter)
}

// The system reports an error once, to the call that meets it first.
func TestErrorThatSendMeetsIsTheReasonOfDisconnected(t *testing.T) {
	t.Parallel()
	for name, meet := range map[string]bool{"Send": true, "loop": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			w := newRecorder(t)
			sent := make(chan error, 1)
			w.readyRead = func(socket *tcpserver.TcpSocket) {
				socket.ReadAll()
				err := errors.Join(loseAcknowledgements(socket, conn), socket.Send([]byte("lost")))
				for end := time.Now().Add(patience); meet && err == nil && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond) // the loop does not meet the error meanwhile
					err = socket.Send([]byte("x"))
				}
				sent <- err
			}
			socket.SetHandlers(w.handlers())
			writeString(t, conn, "x")
			if meet {
				require.ErrorIs(t, receive(t, sent), unix.ETIMEDOUT)
			}
			require.ErrorIs(t, w.awaitEnd(), unix.ETIMEDOUT)
		})
	}
}
