package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

func TestParse(t *testing.T) {
	for _, c := range []struct {
		buf, words string
		n          int
		err        error
	}{
		{"", "", 0, nil},
		{"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nrest", "GET|k", 20, nil},
		{"*1\r\n$0\r\n\r\n", "", 10, nil},
		{"*0\r\n", "", 4, nil},
		{"PING\r\nrest", "PING", 6, nil},
		{"set  k v\n", "set|k|v", 9, nil},
		{"\r\n", "", 2, nil},
		{"PING", "", 0, nil},
		{"*x\r\n", "", 0, errProtocol},
		{"*-1\r\n", "", 0, errProtocol},
		{"*1\r\n+OK\r\n", "", 0, errProtocol},
		{"*1\r\n$1\r\nabc", "", 0, errProtocol},
		{"*1025\r\n", "", 0, errTooMany},
		{"*1\r\n$9999999999\r\n", "", 0, errProtocol},
		{"*\r\n", "", 0, errProtocol},
	} {
		command, n, err := parse(nil, []byte(c.buf))
		assert.Equal(t, c.err, err, "%q", c.buf)
		assert.Equal(t, c.n, n, "%q", c.buf)
		var words []string
		for _, word := range command {
			words = append(words, string(word))
		}
		assert.Equal(t, c.words, strings.Join(words, "|"), "%q", c.buf)
	}
}

func TestParseOfPartialCommandNeedsMore(t *testing.T) {
	whole := "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"
	for i := range whole {
		_, n, err := parse(nil, []byte(whole[:i]))
		require.NoError(t, err)
		require.Zero(t, n)
	}
}

// parseGuarded parses buf, behind which other bytes lie in the same memory, and checks that the result is inside.
func parseGuarded(t testing.TB, buf []byte) (words []string, n int, err error) {
	memory := append(bytes.Clone(buf), "\r\n$3\r\nkey\r\n"...)
	command, n, err := parse(nil, memory[:len(buf)])
	require.True(t, n >= 0 && n <= len(buf))
	clear(memory[len(buf):])
	for _, word := range command {
		words = append(words, string(word))
		require.Contains(t, string(buf[:n]), string(word))
	}
	if err != nil || n == 0 {
		require.Zero(t, n)
		require.Empty(t, words)
	}
	return words, n, err
}

// replyLength returns the length of the reply at the beginning of buf.
func replyLength(buf []byte) int {
	line, rest, whole := bytes.Cut(buf, []byte("\r\n"))
	switch {
	case !whole || len(line) == 0 || !bytes.ContainsRune([]byte("+-:$*"), rune(line[0])):
		return -1
	case line[0] != '$' || string(line) == "$-1":
		return len(line) + 2
	}
	size, err := strconv.Atoi(string(line[1:]))
	if err != nil || len(rest) < size+2 || string(rest[size:size+2]) != "\r\n" {
		return -1
	}
	return len(line) + 2 + size + 2
}

// FuzzParse checks that a stream of commands is parsed within its bounds, that the beginning of a command is either too
// little or decides what the whole is, and that each command gets one reply.
func FuzzParse(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"))
	f.Add([]byte("set a b\r\nINCR a\nget a\r\n\r\nECHO\n"))
	f.Add([]byte("*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\nPING x\n"))
	f.Add([]byte("*1\r\n$3\r\nabcd\r\n"))
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$19\r\n9223372036854775807\r\nINCR k\nincr k\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 1024 {
			return
		}
		store := newStore()
		for {
			words, n, err := parseGuarded(t, stream)
			for i := range stream {
				part, m, partErr := parseGuarded(t, stream[:i])
				if m > 0 || partErr != nil {
					require.Equal(t, n, m, "%q", stream[:i])
					require.Equal(t, err, partErr, "%q", stream[:i])
					require.Equal(t, words, part, "%q", stream[:i])
				}
			}
			if n == 0 || err != nil {
				return
			}
			if len(words) > 0 {
				command, _, _ := parse(nil, stream)
				reply := store.run(command)
				require.Equal(t, len(reply), replyLength(reply), "%q", reply)
			}
			stream = stream[n:]
		}
	})
}

// FuzzWords checks that a command in the form in which clients send it is parsed into the same words.
func FuzzWords(f *testing.F) {
	f.Add([]byte("SET key value"), byte(' '))
	f.Add([]byte("ECHO,\r\n$3\r\n,*1"), byte(','))
	f.Add(bytes.Repeat([]byte(","), maxArgs), byte(','))
	f.Fuzz(func(t *testing.T, text []byte, separator byte) {
		want := bytes.Split(text, []byte{separator})
		buf := fmt.Appendf(nil, "*%d\r\n", len(want))
		for _, word := range want {
			buf = fmt.Appendf(buf, "$%d\r\n%s\r\n", len(word), word)
		}
		got, n, err := parse(nil, append(buf, "*1\r\n"...))
		if len(want) > maxArgs {
			require.Equal(t, errTooMany, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, len(buf), n)
		require.Equal(t, want, got)
	})
}

func TestGetDoesNotAllocate(t *testing.T) {
	s := newStore()
	s.run([][]byte{[]byte("SET"), []byte("k"), []byte("value")})
	get := [][]byte{[]byte("GET"), []byte("k")}
	assert.Zero(t, testing.AllocsPerRun(100, func() { s.run(get) }))
	assert.Equal(t, "$5\r\nvalue\r\n", string(s.run(get)))
}

// start runs the server until the test ends, and returns a connection to it.
func start(t testing.TB) *net.TCPConn {
	t.Helper()
	server := servertest.Listen(t, new(tcpserver.TcpServer))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- newLoop().Serve(ctx, server) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, servertest.Receive(t, ended), context.Canceled)
	})
	conn := servertest.Dial(t, server.Addr())
	require.NoError(t, conn.SetDeadline(time.Now().Add(servertest.Patience)))
	return conn
}

// send sends text and half-closes the connection, as nc -N does.
func send(t testing.TB, conn *net.TCPConn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
}

// setCommand returns the command that sets the key v.
func setCommand(value string) string {
	return fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n%s\r\n", len(value), value)
}

func TestHalfClosedClientGetsItsReply(t *testing.T) {
	conn := start(t)
	send(t, conn, "PING\r\n")
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "+PONG\r\n", string(got))
}

// redis-cli --pipe ends with an ECHO and waits for its reply.
func TestEchoAnswersAtTheEndOfAPipe(t *testing.T) {
	conn := start(t)
	send(t, conn, "SET a 1\r\n\r\n*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n")
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "+OK\r\n$3\r\nend\r\n", string(got))
}

func TestManyLargeRepliesArriveComplete(t *testing.T) {
	conn := start(t)
	const size, n = 300_000, 100
	send(t, conn, setCommand(strings.Repeat("x", size))+strings.Repeat("GET v\r\n", n))
	got, err := io.Copy(io.Discard, conn)
	require.NoError(t, err)
	require.EqualValues(t, len("+OK\r\n")+n*(size+len("$300000\r\n\r\n")), got)
}

func TestClientReadingHalfAMegabytePerSecondIsNotDropped(t *testing.T) {
	conn := start(t)
	const size, n = 300_000, 100
	send(t, conn, setCommand(strings.Repeat("x", size))+strings.Repeat("GET v\r\n", n))
	begin := time.Now()
	read := 0
	for now := range time.Tick(50 * time.Millisecond) {
		due := int(now.Sub(begin).Seconds()*500_000) - read
		_, err := io.CopyN(io.Discard, conn, int64(due))
		require.NoError(t, err)
		if read += due; read > 1_500_000 {
			break
		}
	}
	_, err := io.Copy(io.Discard, conn)
	require.NoError(t, err)
}

// Whether a value is too long does not depend on whether it arrives at once or its end arrives much later.
func TestValueLimitDoesNotDependOnArrival(t *testing.T) {
	longest := strings.Repeat("x", maxCommand-len(setCommand(""))-len("000000")) // its length has seven digits
	for value, want := range map[string]string{
		longest[:1_060_000]: "+OK\r\n",
		longest:             "+OK\r\n",
		longest + "x":       "-ERR Protocol error: too long\r\n",
	} {
		command := setCommand(value)
		for _, first := range []int{len(command), len(command) - 1, 1 << 20, 30} {
			conn := start(t)
			_, err := io.WriteString(conn, command[:first])
			if want == "+OK\r\n" {
				require.NoError(t, err)
				send(t, conn, command[first:])
			}
			got, err := io.ReadAll(conn)
			if want == "+OK\r\n" || err == nil { // it may be a reset, because the server does not read everything
				require.NoError(t, err)
				require.Equal(t, want, string(got), "%d %d", len(value), first)
			}
		}
	}
	conn := start(t)
	_, err := io.WriteString(conn, strings.Repeat("x", maxLine))
	require.NoError(t, err)
	got, _ := io.ReadAll(conn)
	require.Equal(t, "-ERR Protocol error: too long\r\n", string(got))
}

func TestShortValueReleasesTheMemoryOfALongOne(t *testing.T) {
	s := newStore()
	set := func(value []byte) { s.run([][]byte{[]byte("SET"), []byte("k"), value}) }
	set(make([]byte, 1<<20))
	set([]byte("1"))
	assert.Less(t, cap(s.values["k"]), 100)
	set(bytes.Repeat([]byte("0"), 1<<20))
	s.run([][]byte{[]byte("INCR"), []byte("k")})
	assert.Less(t, cap(s.values["k"]), 100)
	assert.Equal(t, "1", string(s.values["k"]))
}

// An empty value is not a number, no matter what the key held before. Only a key that is missing counts from 0.
func TestIncrRefusesAnEmptyValue(t *testing.T) {
	conn := start(t)
	send(t, conn, setCommand("")+"INCR v\r\n"+setCommand("1")+setCommand("")+"INCR v\r\nDEL v\r\nINCR v\r\n")
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	refused := "-ERR value is not an integer or out of range\r\n"
	require.Equal(t, "+OK\r\n"+refused+"+OK\r\n+OK\r\n"+refused+":1\r\n:1\r\n", string(got))
}

func TestPipelinedCommandsAreAnsweredInOrder(t *testing.T) {
	conn := start(t)
	_, err := conn.Write([]byte("PING\r\nSET n 41\r\nINCR n\r\nGET n\r\nGET none\r\nDEL n none\r\n" +
		"INCR n\r\nSET s x\r\n" +
		"INCR s\r\nGET\r\nPING hello\r\nCOMMAND DOCS\r\n*x\r\n"))
	require.NoError(t, err)
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "+PONG\r\n+OK\r\n:42\r\n$2\r\n42\r\n$-1\r\n:1\r\n:1\r\n+OK\r\n"+
		"-ERR value is not an integer or out of range\r\n-ERR unknown command, or wrong number of arguments\r\n"+
		"$5\r\nhello\r\n*0\r\n-ERR Protocol error: invalid format\r\n", string(got))
}

// The replies to the commands before a protocol error arrive completely, also if the client sends more before it reads.
func TestRepliesBeforeAProtocolErrorArriveComplete(t *testing.T) {
	conn := start(t)
	value := strings.Repeat("x", 1<<20)
	_, err := io.WriteString(conn, setCommand(value)+"GET v\r\n*x\r\n")
	require.NoError(t, err)
	want := "+OK\r\n$1048576\r\n" + value + "\r\n-ERR Protocol error: invalid format\r\n"
	begin := make([]byte, len(want)/2)
	_, err = io.ReadFull(conn, begin)
	require.NoError(t, err)
	_, err = io.WriteString(conn, "PING\r\n")
	require.NoError(t, err)
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, want == string(begin)+string(rest), "%d and %d bytes", len(begin), len(rest))
}

// BenchmarkGet sends one GET after another. The allocations are those of both ends.
func BenchmarkGet(b *testing.B) {
	conn := start(b)
	get := []byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
	reply := make([]byte, 5)
	b.ReportAllocs()
	for b.Loop() {
		_, err := conn.Write(get)
		require.NoError(b, err)
		_, err = io.ReadFull(conn, reply)
		require.NoError(b, err)
	}
}
