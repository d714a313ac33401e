package main

import (
	"io"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver/examples/toolkits/linestest"
)

func TestLinesAreAnsweredAndProgramEnds(t *testing.T) {
	m := new(model)
	program := tea.NewProgram(m, tea.WithInput(nil), tea.WithOutput(io.Discard), tea.WithWindowSize(80, 24))
	require.NoError(t, m.serve(program, "127.0.0.1:0"))
	defer m.server.Close()
	ended := make(chan error)
	go func() {
		_, err := program.Run()
		ended <- err
	}()
	linestest.Exchange(t, m.server.Addr())
	require.NoError(t, <-ended)
}
