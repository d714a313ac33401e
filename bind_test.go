package tcpserver_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// bind binds a server to a free port of 127.0.0.1. The test's end closes it.
func bind(t testing.TB, server *tcpserver.TcpServer) *tcpserver.TcpServer {
	t.Helper()
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { server.Close() })
	return server
}

func TestBoundServerRefusesUntilItListens(t *testing.T) {
	server := bind(t, new(tcpserver.TcpServer))
	assert.True(t, server.IsBound())
	assert.False(t, server.IsListening())
	assert.False(t, server.IsAccepting())
	assert.NotZero(t, server.Port(), "the port is known right after Bind")
	addr := server.Addr().String()
	_, err := net.Dial("tcp", addr)
	require.ErrorIs(t, err, errRefused)

	require.NoError(t, server.ListenBound())
	assert.True(t, server.IsBound(), "while listening too")
	assert.True(t, server.IsListening())
	assert.Equal(t, addr, server.Addr().String())
	connect(t, server)

	require.NoError(t, server.Close())
	assert.False(t, server.IsBound())
	assert.Nil(t, server.Addr())
	assert.Zero(t, server.Port())
}

func TestSecondBindOfAnAddressFailsAtBind(t *testing.T) {
	first := bind(t, new(tcpserver.TcpServer))
	addr := first.Addr().String()
	var second tcpserver.TcpServer
	for _, state := range []string{"bound", "listening"} {
		err := second.Bind("tcp", addr)
		require.ErrorIs(t, err, syscall.EADDRINUSE, state)
		assert.ErrorContains(t, err, addr)
		require.ErrorIs(t, second.Listen("tcp", addr), syscall.EADDRINUSE, state)
		require.ErrorIs(t, second.Err(), syscall.EADDRINUSE, state)
		assert.False(t, second.IsBound())
		if state == "bound" {
			require.NoError(t, first.ListenBound())
		}
	}
	require.NoError(t, first.Close())
	require.NoError(t, second.Bind("tcp", addr))
	assert.NoError(t, second.Err())
	require.NoError(t, second.Close())
}

// leaveInTimeWait has a server on addr end a connection first, so that its end of it is in TIME_WAIT.
func leaveInTimeWait(t *testing.T, server *tcpserver.TcpServer) {
	t.Helper()
	socket, conn := connect(t, server)
	require.NoError(t, socket.Close())
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, conn.Close())
	require.NoError(t, server.Close())
}

func TestBindOverConnectionsInTimeWait(t *testing.T) {
	var first, second tcpserver.TcpServer
	listen(t, &first)
	addr := first.Addr().String()
	leaveInTimeWait(t, &first)

	require.NoError(t, first.Bind("tcp", addr))
	t.Cleanup(func() { first.Close() })
	require.ErrorIs(t, second.Bind("tcp", addr), syscall.EADDRINUSE, "also where TIME_WAIT had to be passed over")
	require.NoError(t, first.ListenBound())
	leaveInTimeWait(t, &first)

	require.NoError(t, second.Listen("tcp", addr))
	t.Cleanup(func() { second.Close() })
	connect(t, &second)
}

func TestBindingInTheWrongState(t *testing.T) {
	var server tcpserver.TcpServer
	require.ErrorIs(t, server.ListenBound(), tcpserver.ErrNotBound)
	bind(t, &server)
	port := server.Port()
	require.ErrorIs(t, server.Bind("tcp", "127.0.0.1:0"), tcpserver.ErrAlreadyBound)
	require.ErrorIs(t, server.Listen("tcp", "127.0.0.1:0"), tcpserver.ErrAlreadyBound)
	assert.Equal(t, port, server.Port(), "nothing has changed")
	require.NoError(t, server.ListenBound())
	require.ErrorIs(t, server.ListenBound(), tcpserver.ErrAlreadyListening)
	require.ErrorIs(t, server.Bind("tcp", "127.0.0.1:0"), tcpserver.ErrAlreadyListening)
	assert.Equal(t, port, server.Port())
	require.NoError(t, server.Close())
	require.ErrorIs(t, server.ListenBound(), tcpserver.ErrNotBound)
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"), "it can be used again")
	require.NoError(t, server.Close())
}

func TestBindChecksItsArguments(t *testing.T) {
	var server tcpserver.TcpServer
	for address, want := range map[string]error{
		"127.0.0.1:-1":    tcpserver.ErrInvalidPort,
		"127.0.0.1:65536": tcpserver.ErrInvalidPort,
		"127.0.0.1":       tcpserver.ErrInvalidAddress,
		"203.0.113.1:0":   syscall.EADDRNOTAVAIL,
	} {
		err := server.Bind("tcp", address)
		require.ErrorIs(t, err, want, address)
		assert.ErrorContains(t, err, address)
		assert.False(t, server.IsBound())
	}
	server.Backlog = -1
	require.ErrorIs(t, server.Bind("tcp", "127.0.0.1:-1"), tcpserver.ErrBacklog)
}

func TestConfigurationIsCopiedAtBind(t *testing.T) {
	called := make(chan struct{}, 1)
	server := &tcpserver.TcpServer{NewConnectionHandler: func(*tcpserver.TcpServer) { called <- struct{}{} }}
	bind(t, server)
	server.NewConnectionHandler = nil
	require.NoError(t, server.ListenBound())
	connect(t, server)
	receive(t, called)
}

// socketPath returns a path that is short enough for a socket.
func socketPath(t testing.TB) string {
	dir, err := os.MkdirTemp("", "tcpserver")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// needUnix skips the test on systems without unix sockets.
func needUnix(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", socketPath(t))
	if err != nil {
		skip(t, "no unix sockets: ", err)
	}
	l.Close()
}

// listenUnix starts server on path. It skips the test on systems without such sockets.
func listenUnix(t testing.TB, server *tcpserver.TcpServer, path string) {
	t.Helper()
	needUnix(t)
	err := server.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
}

func TestUnixSocket(t *testing.T) {
	path := socketPath(t)
	var server tcpserver.TcpServer
	listenUnix(t, &server, path)
	assert.Equal(t, &net.UnixAddr{Name: path, Net: "unix"}, server.Addr())
	assert.Zero(t, server.Port())

	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer conn.Close()
	socket := take(t, &server)
	assert.Equal(t, server.Addr(), socket.LocalAddr())
	assert.Equal(t, &net.UnixAddr{Net: "unix"}, socket.RemoteAddr())
	require.ErrorIs(t, socket.SetNoDelay(true), errors.ErrUnsupported)
	_, err = conn.Write([]byte("Hello\n"))
	require.NoError(t, err)
	require.NoError(t, socket.WaitForReadyRead(within(t)))
	line, ok := socket.ReadLine()
	require.True(t, ok)
	require.NoError(t, socket.Send(line))
	got := make([]byte, len(line))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	assert.Equal(t, "Hello\n", string(got))

	require.NoError(t, server.Close())
	assert.NoFileExists(t, path)
	_, err = conn.Write([]byte("goes on"))
	assert.NoError(t, err, "the connection lives on")
}

func TestUnixSocketTellsANamedPeer(t *testing.T) {
	path := socketPath(t)
	var server tcpserver.TcpServer
	listenUnix(t, &server, path)
	name := &net.UnixAddr{Name: path + ".client", Net: "unix"}
	conn, err := net.DialUnix("unix", name, server.Addr().(*net.UnixAddr))
	require.NoError(t, err)
	defer conn.Close()
	assert.Equal(t, name, take(t, &server).RemoteAddr())
}

func TestBoundUnixSocketRefusesAndLeavesNoFile(t *testing.T) {
	needUnix(t)
	path := socketPath(t)
	var server tcpserver.TcpServer
	require.NoError(t, server.Bind("unix", path))
	_, err := net.Dial("unix", path)
	require.ErrorIs(t, err, errRefused)
	require.NoError(t, server.ListenBound())
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	conn.Close()
	require.NoError(t, server.Close())
	assert.NoFileExists(t, path)
}

func TestUnixPathsThatCannotBe(t *testing.T) {
	var server tcpserver.TcpServer
	for _, bad := range []string{"", strings.Repeat("x", 200), "a\x00b"} {
		err := server.Listen("unix", bad)
		require.ErrorIs(t, err, tcpserver.ErrInvalidAddress)
		assert.ErrorContains(t, err, bad)
	}
}

func TestUnixPathsThatTheSystemRefuses(t *testing.T) {
	needUnix(t)
	var server tcpserver.TcpServer
	path := socketPath(t)
	require.ErrorIs(t, server.Listen("unix", filepath.Join(path, "no", "such", "directory")), fs.ErrNotExist)

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.ErrorIs(t, server.Listen("unix", path), syscall.EADDRINUSE)
	assert.FileExists(t, path, "a stale file is left alone")
}

func TestLongestUnixPath(t *testing.T) {
	path := socketPath(t)
	path += strings.Repeat("x", 103-len(path))
	var server tcpserver.TcpServer
	listenUnix(t, &server, path)
	assert.Equal(t, path, server.Addr().String())
}

func TestCloseLeavesAnotherFileInPlace(t *testing.T) {
	path := socketPath(t)
	var first, second tcpserver.TcpServer
	listenUnix(t, &first, path)
	require.NoError(t, os.Remove(path))
	listenUnix(t, &second, path)
	require.NoError(t, first.Close())
	assert.FileExists(t, path)
}

func TestSocketMode(t *testing.T) {
	needUnix(t)
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o777} {
		path := socketPath(t)
		server := tcpserver.TcpServer{SocketMode: mode}
		err := server.Listen("unix", path)
		if errors.Is(err, errors.ErrUnsupported) {
			skip(t, "files have no permission bits: ", err)
		}
		require.NoError(t, err)
		t.Cleanup(func() { server.Close() })
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm())
	}
}

// sharesConnections tries whether the system shares out the connections to listeners on one port.
func sharesConnections(t *testing.T) bool {
	config := net.ListenConfig{Control: reusePort}
	var got [2]int
	address := "127.0.0.1:0"
	for i := range got {
		l, err := config.Listen(t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		defer l.Close()
		address = l.Addr().String()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Write([]byte{byte(i)})
				conn.Close()
			}
		}()
	}
	for range 100 {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		which, err := io.ReadAll(conn)
		require.NoError(t, err)
		conn.Close()
		got[which[0]]++
	}
	return got[0] > 0 && got[1] > 0
}

func TestReusePortWhereThereIsNone(t *testing.T) {
	server := tcpserver.TcpServer{ReusePort: true}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.False(t, server.IsBound())
	}
	require.NoError(t, server.Close())
}

func TestTwoServersShareAPort(t *testing.T) {
	if !sharesConnections(t) {
		skip(t, "the system does not share connections out")
	}
	first := listen(t, &tcpserver.TcpServer{ReusePort: true})
	second := &tcpserver.TcpServer{ReusePort: true}
	require.NoError(t, second.Listen("tcp", first.Addr().String()))
	t.Cleanup(func() { second.Close() })
	var third tcpserver.TcpServer
	require.ErrorIs(t, third.Listen("tcp", first.Addr().String()), syscall.EADDRINUSE, "all need it")

	got := make(chan *tcpserver.TcpServer)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	for _, server := range []*tcpserver.TcpServer{first, second} {
		go func() {
			for socket := range server.Connections(ctx) {
				socket.Close()
				select {
				case got <- server:
				case <-ctx.Done():
				}
			}
		}()
	}
	seen := map[*tcpserver.TcpServer]int{}
	for i := 0; len(seen) < 2; i++ {
		require.Less(t, i, 1000, "one of them gets nothing")
		dial(t, first).Close()
		seen[receive(t, got)]++
	}
}

// fileOf returns a duplicate of what package net has opened. It skips the test where there is no way to get one.
func fileOf(t testing.TB, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		skip(t, "package net has no duplicates: ", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestListenFile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f := fileOf(t, l.(*net.TCPListener))
	addr := l.Addr().String()
	require.NoError(t, l.Close())

	var server tcpserver.TcpServer
	require.NoError(t, server.ListenFile(f))
	t.Cleanup(func() { server.Close() })
	require.NoError(t, f.Close(), "the server works on a duplicate")
	assert.Equal(t, addr, server.Addr().String())
	connect(t, &server)

	require.NoError(t, server.Close())
	_, err = net.Dial("tcp", addr)
	require.ErrorIs(t, err, errRefused)
}

func TestFileOfAServerServesElsewhere(t *testing.T) {
	first := listen(t, new(tcpserver.TcpServer))
	f, err := first.File()
	require.NoError(t, err)
	defer f.Close()
	conn := dial(t, first)
	take(t, first)
	require.NoError(t, first.Close())

	var second tcpserver.TcpServer
	require.NoError(t, second.ListenFile(f))
	t.Cleanup(func() { second.Close() })
	connect(t, &second)
	conn.Close()

	_, err = first.File()
	require.ErrorIs(t, err, tcpserver.ErrNotListening)
}

func TestFileOfABoundServerIsMadeToListen(t *testing.T) {
	first := bind(t, new(tcpserver.TcpServer))
	f, err := first.File()
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, first.Close())
	second := tcpserver.TcpServer{Backlog: 5}
	require.NoError(t, second.ListenFile(f))
	t.Cleanup(func() { second.Close() })
	connect(t, &second)
}

func TestListenFileOfAUnixSocketKeepsTheFile(t *testing.T) {
	path := socketPath(t)
	var first, second tcpserver.TcpServer
	listenUnix(t, &first, path)
	f, err := first.File()
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, second.ListenFile(f))
	assert.Equal(t, first.Addr(), second.Addr())
	require.NoError(t, second.Close())
	assert.FileExists(t, path)
}

// reaches reports whether a client finds a server at path.
func reaches(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func TestUnixSocketIsHandedOver(t *testing.T) {
	path := socketPath(t)
	var first, second, third tcpserver.TcpServer
	listenUnix(t, &first, path)
	f := fileOf(t, &first)
	first.SetUnlinkOnClose(false)
	require.NoError(t, first.Close())
	require.NoError(t, second.ListenFile(f))
	t.Cleanup(func() { second.Close() })
	require.True(t, reaches(path))
	take(t, &second)

	f = fileOf(t, &second)
	require.NoError(t, second.Close())
	require.NoError(t, third.ListenFile(f))
	t.Cleanup(func() { third.Close() })
	require.True(t, reaches(path))
	third.SetUnlinkOnClose(true)
	require.NoError(t, third.Close())
	assert.NoFileExists(t, path)
}

func TestUnlinkOnCloseCountsInAnyState(t *testing.T) {
	needUnix(t)
	for _, bound := range []bool{false, true} {
		path := socketPath(t)
		var server tcpserver.TcpServer
		open := server.Listen
		if bound {
			open = server.Bind
		}
		server.SetUnlinkOnClose(false)
		require.NoError(t, open("unix", path))
		require.NoError(t, server.Close())
		require.FileExists(t, path)
		require.NoError(t, os.Remove(path))

		require.NoError(t, open("unix", path))
		require.NoError(t, server.Close())
		require.FileExists(t, path, "it stays over Close and Listen")
		require.NoError(t, os.Remove(path))

		require.NoError(t, open("unix", path))
		server.SetUnlinkOnClose(true)
		require.NoError(t, server.Close())
		require.NoFileExists(t, path)
	}
}

func TestPathIsFreeOnceTheServerSaysSo(t *testing.T) {
	needUnix(t)
	path := socketPath(t)
	for i := range 200 {
		var server tcpserver.TcpServer
		has, open := server.IsListening, server.Listen
		if i%2 == 0 {
			has, open = server.IsBound, server.Bind
		}
		require.NoError(t, open("unix", path))
		over := make(chan struct{})
		go func() { server.Close(); close(over) }()
		for has() {
			runtime.Gosched()
		}
		var next tcpserver.TcpServer
		require.NoError(t, next.Listen("unix", path))
		<-over
		require.NoError(t, next.Close())
	}
}

// Who closes l first does not matter.
func TestListenOnTakesOverTheRemovalOfAPath(t *testing.T) {
	needUnix(t)
	listenNet := func(path string) *net.UnixListener {
		l, err := net.Listen("unix", path)
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		return l.(*net.UnixListener)
	}
	for name, c := range map[string]struct {
		make    func(path string) *net.UnixListener
		removes bool
	}{
		"Listen": {listenNet, true},
		"ListenThatKeeps": {func(path string) *net.UnixListener {
			l := listenNet(path)
			l.SetUnlinkOnClose(false)
			return l
		}, false},
		"FileListener": {func(path string) *net.UnixListener {
			l, err := net.FileListener(fileOf(t, listenNet(path)))
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			return l.(*net.UnixListener)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			l := c.make(path)
			var server tcpserver.TcpServer
			require.NoError(t, server.ListenOn(l))
			t.Cleanup(func() { server.Close() })
			require.NoError(t, l.Close())
			require.True(t, reaches(path))
			require.NoError(t, server.Close())
			if c.removes {
				assert.NoFileExists(t, path)
			} else {
				assert.FileExists(t, path)
			}
		})
	}
	var server tcpserver.TcpServer
	require.Error(t, server.ListenOn((*net.UnixListener)(nil)))
}

// Which file is its own cannot be asked of a descriptor.
func TestAdoptedUnixSocketLeavesTheFilesOfOthers(t *testing.T) {
	needUnix(t)
	listenOn := func(server *tcpserver.TcpServer, l *net.UnixListener) error { return server.ListenOn(l) }
	for name, c := range map[string]struct {
		relative bool
		adopt    func(server *tcpserver.TcpServer, l *net.UnixListener) error
	}{
		"ListenOn": {false, listenOn},
		"ListenFile": {false, func(server *tcpserver.TcpServer, l *net.UnixListener) error {
			l.SetUnlinkOnClose(false)
			server.SetUnlinkOnClose(true)
			return server.ListenFile(fileOf(t, l))
		}},
		"relative": {true, listenOn},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			if c.relative {
				t.Chdir(filepath.Dir(path))
				path = filepath.Base(path)
			}
			l, err := net.Listen("unix", path)
			require.NoError(t, err)
			defer l.Close()
			if c.relative {
				t.Chdir(filepath.Dir(socketPath(t)))
				other, err := net.Listen("unix", path)
				require.NoError(t, err)
				defer other.Close()
			} else {
				require.NoError(t, os.Remove(path))
				require.NoError(t, os.WriteFile(path, nil, 0o600))
			}
			var server tcpserver.TcpServer
			require.NoError(t, c.adopt(&server, l.(*net.UnixListener)))
			require.NoError(t, server.Close())
			require.NoError(t, l.Close())
			assert.FileExists(t, path)
		})
	}
}

func TestListenFileRefusesWhatIsNoSocket(t *testing.T) {
	plain, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer plain.Close()
	var server tcpserver.TcpServer
	require.ErrorIs(t, server.ListenFile(plain), syscall.ENOTSOCK)
	require.Error(t, server.ListenFile(nil))
	plain.Close()
	require.Error(t, server.ListenFile(plain))
	assert.Error(t, server.Err())
	assert.False(t, server.IsListening())

	server.Backlog = -1
	require.ErrorIs(t, server.ListenFile(plain), tcpserver.ErrBacklog)
}

func TestListenFileRefusesWhatDoesNotListen(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer packets.Close()
	_, conn := pair(t)
	var server tcpserver.TcpServer
	require.ErrorIs(t, server.ListenFile(fileOf(t, packets.(*net.UDPConn))), syscall.EPROTOTYPE)
	require.ErrorIs(t, server.ListenFile(fileOf(t, conn)), syscall.EISCONN)
	assert.False(t, server.IsListening())
}

func TestListenOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var server tcpserver.TcpServer
	require.NoError(t, server.ListenOn(l))
	t.Cleanup(func() { server.Close() })
	require.ErrorIs(t, server.ListenOn(l), tcpserver.ErrAlreadyListening)
	connect(t, &server)

	var other tcpserver.TcpServer
	require.ErrorIs(t, other.ListenOn(&server), tcpserver.ErrInvalidAddress)
	require.ErrorIs(t, other.ListenOn(nil), tcpserver.ErrInvalidAddress)
	bind(t, &other)
	require.ErrorIs(t, other.ListenOn(l), tcpserver.ErrAlreadyBound)
}

func TestSyscallConnOfAServer(t *testing.T) {
	var server tcpserver.TcpServer
	_, err := server.SyscallConn()
	require.ErrorIs(t, err, tcpserver.ErrNotListening)
	bind(t, &server)
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, server.ListenBound())
	getOption := func(fd uintptr) error {
		_, err := systemGetInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		return err
	}
	require.NoError(t, raw.Control(func(fd uintptr) { require.NoError(t, getOption(fd)) }))
	require.Equal(t, syscall.EINVAL, raw.Read(func(uintptr) bool { return true }))
	require.Equal(t, syscall.EINVAL, raw.Write(func(uintptr) bool { return true }))
	connect(t, &server)

	// Close keeps nobody, and the descriptor stays open for who is at it.
	inside, leave, over := make(chan bool), make(chan bool), make(chan error)
	go func() {
		var inner error
		err := raw.Control(func(fd uintptr) {
			close(inside)
			<-leave
			inner = getOption(fd)
		})
		over <- errors.Join(err, inner)
	}()
	receive(t, inside)
	require.NoError(t, server.Close())
	close(leave)
	require.NoError(t, receive(t, over))
	require.ErrorIs(t, raw.Control(func(uintptr) { t.Error("called") }), net.ErrClosed)
	listen(t, &server)
	require.ErrorIs(t, raw.Control(func(uintptr) { t.Error("called") }), net.ErrClosed, "it is another descriptor")
}

// Whoever has the same open file description may put it into blocking mode: another process, or exec.Cmd.ExtraFiles
// with the File of a listener.
func TestSharedListenerInBlockingModeHoldsUpNobody(t *testing.T) {
	unblocked := func(t *testing.T, server *tcpserver.TcpServer) {
		over := make(chan bool)
		go func() {
			runtime.GC() // needs all threads that do not say that they are in the system
			over <- server.IsListening()
		}()
		require.True(t, receive(t, over))
	}
	for name, share := range map[string]func(t *testing.T, server *tcpserver.TcpServer) *os.File{
		"ListenOn": func(t *testing.T, server *tcpserver.TcpServer) *os.File {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			require.NoError(t, server.ListenOn(l))
			return fileOf(t, l.(*net.TCPListener))
		},
		"ListenFile": func(t *testing.T, server *tcpserver.TcpServer) *os.File {
			first := listen(t, new(tcpserver.TcpServer))
			f := fileOf(t, first)
			require.NoError(t, first.Close())
			require.NoError(t, server.ListenFile(f))
			return f
		},
		"File": func(t *testing.T, server *tcpserver.TcpServer) *os.File {
			return fileOf(t, listen(t, server))
		},
		"FileOfABoundServer": func(t *testing.T, server *tcpserver.TcpServer) *os.File {
			f := fileOf(t, bind(t, server))
			require.NoError(t, server.ListenBound())
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			var server tcpserver.TcpServer
			t.Cleanup(func() { server.Close() })
			f := share(t, &server)
			for range 3 {
				require.NoError(t, systemBlock(f.Fd()))
				connect(t, &server)
				unblocked(t, &server)
			}
			// Listening ends as ever.
			require.NoError(t, systemBlock(f.Fd()))
			require.NoError(t, server.Close())
		})
	}
}

func TestListenOnUnixListener(t *testing.T) {
	needUnix(t)
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	var server tcpserver.TcpServer
	require.NoError(t, server.ListenOn(l))
	t.Cleanup(func() { server.Close() })
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer conn.Close()
	take(t, &server)
	require.NoError(t, l.Close())
}
