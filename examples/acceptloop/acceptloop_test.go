package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

func TestEachLineIsAnswered(t *testing.T) {
	server := servertest.Listen(t, new(tcpserver.TcpServer))
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
		conn := servertest.Dial(t, server.Addr())
		socket := servertest.Accept(t, server)
		served := make(chan struct{})
		go func() { serve(socket); close(served) }()
		require.NoError(t, conn.SetDeadline(time.Now().Add(servertest.Patience)))
		_, err := io.WriteString(conn, sent)
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		servertest.Receive(t, served)
	}
}
