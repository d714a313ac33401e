package main

import (
	"testing"

	"github.com/gdamore/tcell/v2"
	"github.com/rivo/tview"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver/examples/toolkits/linestest"
)

func TestLinesAreAnsweredAndProgramEnds(t *testing.T) {
	screen := tcell.NewSimulationScreen("UTF-8")
	require.NoError(t, screen.Init())
	app := tview.NewApplication().SetScreen(screen)
	server, err := serve(app, "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	ended := make(chan error)
	go func() { ended <- app.Run() }()
	linestest.Exchange(t, server.Addr())
	require.NoError(t, <-ended)
}
