package main

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestEachLineIsAnswered(t *testing.T) {
	server := new(tcpserver.TcpServer)
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	defer server.Close()
	const tooLong = "error: a line of more than 64 KiB\n"
	longest := strings.Repeat("x", maxLine-1)
	for sent, want := range map[string]string{
		"":                              "",
		"one\ntwo\r\nlast":              "ONE\nTWO\nLAST\n",
		"\n\n":                          "\n\n",
		longest + "\nnext\n":            strings.ToUpper(longest) + "\nNEXT\n",
		longest + "x\nnext\n":           tooLong + "NEXT\n",
		longest + longest + "x\nnext\n": tooLong + "NEXT\n",
		longest + "xx":                  tooLong,
	} {
		conn, err := net.Dial("tcp", server.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		socket, err := server.AcceptSocket(context.Background())
		require.NoError(t, err)
		served := make(chan struct{})
		go func() { serve(socket); close(served) }()
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(conn, sent)
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		<-served
	}
}
