package tcpserver_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// fileOf returns c's File. It skips the test on systems where package net cannot duplicate a socket.
func fileOf(t testing.TB, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		skip(t, "package net cannot duplicate a socket: ", err)
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
	require.NoError(t, f.Close(), "the server must use a duplicate")
	assert.Equal(t, addr, server.Addr().String())
	connect(t, &server)

	require.NoError(t, server.Close())
	_, err = net.Dial("tcp", addr)
	require.ErrorIs(t, err, errRefused)
}

func TestListenFileTakesFileOfClosedServer(t *testing.T) {
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

func TestListenFileListensOnFileOfBoundServer(t *testing.T) {
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

func TestListenFileServerKeepsUnixSocketFile(t *testing.T) {
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

func TestUnixSocketHandoverKeepsFile(t *testing.T) {
	path := socketPath(t)
	var first, second, third tcpserver.TcpServer
	listenUnix(t, &first, path)
	f := fileOf(t, &first)
	first.SetUnlinkOnClose(false)
	require.NoError(t, first.Close())
	require.NoError(t, second.ListenFile(f))
	t.Cleanup(func() { second.Close() })
	require.True(t, canDial(path))
	take(t, &second)

	f = fileOf(t, &second)
	require.NoError(t, second.Close())
	require.NoError(t, third.ListenFile(f))
	t.Cleanup(func() { third.Close() })
	require.True(t, canDial(path))
	third.SetUnlinkOnClose(true)
	require.NoError(t, third.Close())
	assert.NoFileExists(t, path)
}

// It makes no difference whether l or the server is closed first: the file stays until the server is closed, and is
// removed then if l's Close would have removed it.
func TestListenOnTakesOverUnlinkOnClose(t *testing.T) {
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
		"ListenWithoutUnlink": {func(path string) *net.UnixListener {
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
			require.True(t, canDial(path))
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

// The server cannot find out from a descriptor which file belongs to it, so it must not remove another's.
func TestAdoptedUnixSocketKeepsFilesOfOthers(t *testing.T) {
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

func TestListenFileRejectsNonSocket(t *testing.T) {
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

func TestListenFileRejectsDatagramAndConnectedSockets(t *testing.T) {
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

func TestServerSyscallConn(t *testing.T) {
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

	// Close does not wait for Control, which keeps the descriptor open.
	entered, release, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		var inner error
		err := raw.Control(func(fd uintptr) {
			close(entered)
			<-release
			inner = getOption(fd)
		})
		done <- errors.Join(err, inner)
	}()
	receive(t, entered)
	require.NoError(t, server.Close())
	close(release)
	require.NoError(t, receive(t, done))
	require.ErrorIs(t, raw.Control(func(uintptr) { t.Error("called") }), net.ErrClosed)
	listen(t, &server)
	require.ErrorIs(t, raw.Control(func(uintptr) { t.Error("called") }), net.ErrClosed, "the new listener is another")
}

func TestControlOfServerRacesWithClose(t *testing.T) {
	for range 100 {
		server := listen(t, new(tcpserver.TcpServer))
		raw, err := server.SyscallConn()
		require.NoError(t, err)
		var both sync.WaitGroup
		both.Go(func() { raw.Control(func(uintptr) {}) })
		both.Go(func() { server.Close() })
		both.Wait()
		require.ErrorIs(t, raw.Control(func(uintptr) { t.Error("called") }), tcpserver.ErrNotListening)
	}
}

// The race detector looks.
func TestPropertiesMayBeUsedConcurrently(t *testing.T) {
	server := listen(t, new(tcpserver.TcpServer))
	socket, _ := connect(t, server)
	for name, use := range map[string]func(i int){
		"MaxConnections": func(i int) { server.SetMaxConnections(i + server.MaxConnections()) },
		"UserData":       func(i int) { socket.SetUserData([]any{i, socket.UserData() == nil}) },
		"SyscallConn":    func(int) { server.SyscallConn() },
		"ListenAsync": func(int) {
			other := new(tcpserver.TcpServer)
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					done := make(chan error, 1)
					other.ListenAsync("tcp", "127.0.0.1:0", func(_ *tcpserver.TcpServer, err error) { done <- err })
					receive(t, done)
				})
			}
			both.Wait()
			other.Close()
		},
	} {
		t.Run(name, func(*testing.T) {
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					for i := range 20 {
						use(i)
					}
				})
			}
			both.Wait()
		})
	}
}

func TestListenBoundRacesWithClose(t *testing.T) {
	for range 100 {
		server := new(tcpserver.TcpServer)
		bind(t, server)
		var both sync.WaitGroup
		both.Go(func() { server.ListenBound() })
		both.Go(func() { server.Close() })
		both.Wait()
		server.Close()
		require.False(t, server.IsBound())
	}
}

// Everyone who has the same open file description can put it into blocking mode: another process, or exec.Cmd with the
// File of a listener in ExtraFiles.
func TestSharedListenerInBlockingModeDoesNotBlockProcess(t *testing.T) {
	unblocked := func(t *testing.T, server *tcpserver.TcpServer) {
		done := make(chan bool)
		go func() {
			runtime.GC() // has to stop every thread that has not announced a blocking system call
			done <- server.IsListening()
		}()
		require.True(t, receive(t, done))
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
		"FileOfBoundServer": func(t *testing.T, server *tcpserver.TcpServer) *os.File {
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
			// Close must not block either.
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
