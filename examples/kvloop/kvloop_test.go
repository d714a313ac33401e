package main

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

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

func TestEveryPieceOfACommandNeedsMore(t *testing.T) {
	whole := "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"
	for i := range whole {
		_, n, err := parse(nil, []byte(whole[:i]))
		require.NoError(t, err)
		require.Zero(t, n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"))
	f.Add([]byte("set a b\r\n"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		command, n, err := parse(nil, buf)
		require.True(t, n >= 0 && n <= len(buf))
		if err != nil || n == 0 {
			require.Zero(t, n)
			require.Empty(t, command)
		}
	})
}

func TestGetDoesNotAllocate(t *testing.T) {
	s := newStore()
	s.run([][]byte{[]byte("SET"), []byte("k"), []byte("value")})
	get := [][]byte{[]byte("GET"), []byte("k")}
	assert.Zero(t, testing.AllocsPerRun(100, func() { s.run(get) }))
	assert.Equal(t, "$5\r\nvalue\r\n", string(s.run(get)))
}

func TestPipelinedCommandsAreAnsweredInOrder(t *testing.T) {
	server := new(tcpserver.TcpServer)
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- newLoop().Serve(ctx, server) }()
	defer func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	}()
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("PING\r\nSET n 41\r\nINCR n\r\nGET n\r\nGET none\r\nDEL n none\r\nINCR n\r\nSET s x\r\nINCR s\r\n" +
		"GET\r\nPING hello\r\nCOMMAND DOCS\r\n*x\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "+PONG\r\n+OK\r\n:42\r\n$2\r\n42\r\n$-1\r\n:1\r\n:1\r\n+OK\r\n"+
		"-ERR value is not an integer or out of range\r\n-ERR unknown command, or wrong number of arguments\r\n"+
		"$5\r\nhello\r\n*0\r\n-ERR Protocol error: invalid format\r\n", string(got))
}

// BenchmarkGet has one GET after another answered. What it allocates is all there is, on both ends.
func BenchmarkGet(b *testing.B) {
	server := new(tcpserver.TcpServer)
	require.NoError(b, server.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- newLoop().Serve(ctx, server) }()
	defer func() {
		cancel()
		<-ended
	}()
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(b, err)
	defer conn.Close()
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
