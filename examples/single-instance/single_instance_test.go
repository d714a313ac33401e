package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

// eachNetwork runs a test for a unix socket, where there are any, and for a socket on the loopback interface.
func eachNetwork(t *testing.T, test func(t *testing.T, p place)) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			if network == "unix" && defaultNetwork() != "unix" {
				t.Skip("no unix sockets on this system")
			}
			test(t, place{t.TempDir(), network})
		})
	}
}

// runFirst runs the program as the first instance. It returns the lines that it prints, and what ends it.
func runFirst(t *testing.T, p place, args ...string) (next func() string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	shown, printed := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, p, args, printed)
		printed.Close()
		ended <- err
	}()
	lines := bufio.NewReader(shown)
	next = func() string {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	require.Equal(t, "the first instance\n", next())
	next()
	return next, func() {
		cancel()
		require.NoError(t, servertest.Receive(t, ended))
	}
}

func TestSecondStartHandsItsArgumentsToTheFirst(t *testing.T) {
	eachNetwork(t, func(t *testing.T, p place) {
		dir, err := os.Getwd()
		require.NoError(t, err)
		next, end := runFirst(t, p, "a")
		for i := range 3 {
			require.NoError(t, run(t.Context(), p, []string{"open", fmt.Sprint("file ", i)}, io.Discard))
			require.Equal(t, fmt.Sprintf("started in %s: open file %d\n", dir, i), next())
		}
		end()
		// The next one is the first again.
		_, end = runFirst(t, p)
		end()
	})
}

// Names of files may be in any encoding, and hold a line feed.
func TestArgumentsAreHandedOverUnchanged(t *testing.T) {
	eachNetwork(t, func(t *testing.T, p place) {
		heard := make(chan start, 1)
		first, err := p.open(t.Context(), start{}, nil, func(s start) { heard <- s })
		require.NoError(t, err)
		defer first.close()
		this, err := newStart([]string{"caf\xe9", "", "a\nb", "<\u2713>"})
		require.NoError(t, err)
		this.Dir = []byte("/\xff")
		_, err = p.open(t.Context(), this, nil, nil)
		require.NoError(t, err)
		require.Equal(t, this, servertest.Receive(t, heard))
	})
}

func TestOneOfManyStartsIsTheFirst(t *testing.T) {
	eachNetwork(t, func(t *testing.T, p place) {
		const starts = 20
		firsts := make(chan *instance, starts)
		heard := make(chan start, starts)
		var all sync.WaitGroup
		for n := range starts {
			all.Go(func() {
				this := start{Args: [][]byte{[]byte(fmt.Sprint(n))}}
				first, err := p.open(t.Context(), this, nil, func(s start) { heard <- s })
				if err != nil {
					t.Error(err)
				}
				if first != nil {
					firsts <- first
				}
			})
		}
		all.Wait()
		require.Len(t, firsts, 1)
		seen := map[string]bool{}
		for range starts - 1 {
			seen[string(servertest.Receive(t, heard).Args[0])] = true
		}
		require.Len(t, seen, starts-1)
		(<-firsts).close()
	})
}

// A crash leaves the socket and the address behind, but not the lock.
func TestStartAfterCrashIsTheFirst(t *testing.T) {
	eachNetwork(t, func(t *testing.T, p place) {
		require.NoError(t, os.WriteFile(p.lock(), nil, 0o600))
		require.NoError(t, os.WriteFile(p.address(), []byte(`{"address":"127.0.0.1:1","secret":"old"}`), 0o600))
		if p.network == "unix" {
			l, err := net.Listen("unix", p.socket())
			require.NoError(t, err)
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			require.NoError(t, l.Close())
		}
		_, end := runFirst(t, p)
		end()
	})
}

// After a crash another program may listen at the address, until the next first instance has written its own.
func TestProgramAtAStaleAddressLearnsNothing(t *testing.T) {
	for _, answer := range []string{"", acknowledged} {
		p := place{t.TempDir(), "tcp"}
		other, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		meeting := fmt.Sprintf(`{"address":"%v","secret":"old"}`, other.Addr())
		require.NoError(t, os.WriteFile(p.address(), []byte(meeting), 0o600))
		lock, err := tryLock(p.lock())
		require.NoError(t, err)
		handedOver := make(chan error, 1)
		go func() {
			_, err := p.open(t.Context(), start{Args: [][]byte{[]byte("a")}}, nil, nil)
			handedOver <- err
		}()
		conn, err := other.Accept()
		require.NoError(t, err)
		require.NoError(t, other.Close())
		io.WriteString(conn, answer)
		heard, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.Regexp(t, "^[A-Z2-7]{26}\n$", string(heard), "nothing but a nonce")

		started := make(chan start, 1)
		first, err := p.serve(lock, nil, func(s start) { started <- s })
		require.NoError(t, err)
		require.NoError(t, servertest.Receive(t, handedOver))
		require.Equal(t, [][]byte{[]byte("a")}, servertest.Receive(t, started).Args)
		first.close()
	}
}

func TestAddressIsKnownNoLongerThanSomebodyListens(t *testing.T) {
	p := place{t.TempDir(), "tcp"}
	_, end := runFirst(t, p)
	require.FileExists(t, p.address())
	end()
	require.NoFileExists(t, p.address())

	// What a crash has left is gone before the new address is written.
	require.NoError(t, os.WriteFile(p.address(), nil, 0o600))
	require.NoError(t, os.Mkdir(p.address()+".new", 0o700))
	next := &instance{place: p, server: new(tcpserver.TcpServer)}
	require.Error(t, next.listen())
	require.NoFileExists(t, p.address())
	require.NoError(t, next.server.Close())
}

func TestStrangersAreRefused(t *testing.T) {
	p := place{t.TempDir(), "tcp"}
	started := make(chan start, 1)
	first, err := p.open(t.Context(), start{}, nil, func(s start) { started <- s })
	require.NoError(t, err)
	for _, text := range []string{
		`{"args":["eA=="]}`, `{"args":["eA=="],"secret":"guessed"}`, "GET / HTTP/1.1\r", "\xff",
	} {
		conn, err := net.Dial("tcp", first.server.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(servertest.Patience)))
		fmt.Fprintln(conn, "nonce\n"+text)
		answer, err := io.ReadAll(conn)
		servertest.RequireReset(t, err)
		require.NotContains(t, string(answer), acknowledged)
		require.NoError(t, conn.Close())
	}
	first.close()
	require.Empty(t, started)
}

// What another user could read or replace would give the secret away.
func TestFilesAreTheUsersOwn(t *testing.T) {
	if defaultNetwork() != "unix" {
		t.Skip("no permission bits on this system")
	}
	eachNetwork(t, func(t *testing.T, p place) {
		p.dir += "/own"
		first, err := p.open(t.Context(), start{}, nil, func(start) {})
		require.NoError(t, err)
		defer first.close()
		files, err := os.ReadDir(p.dir)
		require.NoError(t, err)
		for _, f := range files {
			info, err := f.Info()
			require.NoError(t, err)
			require.Zero(t, info.Mode().Perm()&0o077, f.Name())
		}
		info, err := os.Stat(p.dir)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077)
	})
}

func TestTooLongStartIsReported(t *testing.T) {
	eachNetwork(t, func(t *testing.T, p place) {
		started := make(chan start, 1)
		first, err := p.open(t.Context(), start{}, nil, func(s start) { started <- s })
		require.NoError(t, err)
		defer first.close()
		this := start{Secret: first.secret}
		line, err := json.Marshal(this)
		require.NoError(t, err)
		this.Dir = make([]byte, (maxStart-len(line))/4*3) // base64
		_, err = p.open(t.Context(), this, nil, nil)
		require.NoError(t, err)
		require.Len(t, servertest.Receive(t, started).Dir, len(this.Dir))
		this.Dir = append(this.Dir, make([]byte, 6)...)
		_, err = p.open(t.Context(), this, nil, nil)
		require.Equal(t, errTooLong, err)
		require.Empty(t, started)
	})
}

func TestTooLongStartIsRefused(t *testing.T) {
	p := place{t.TempDir(), "tcp"}
	first, err := p.open(t.Context(), start{}, nil, func(start) { t.Error("started") })
	require.NoError(t, err)
	conn, err := net.Dial("tcp", first.server.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	text, err := json.Marshal(start{Args: [][]byte{make([]byte, maxStart)}})
	require.NoError(t, err)
	_, writing := conn.Write(text)
	_, reading := io.ReadAll(conn)
	require.Error(t, errors.Join(writing, reading), "the reset is reported once")
	first.close()
}
