// Gio is a program with package gioui.org whose server's handlers run on the goroutine of its window's events.
package main

import (
	"flag"
	"log"
	"os"

	"gioui.org/app"
	"gioui.org/io/system"
	"gioui.org/op"
	"gioui.org/unit"
	"gioui.org/widget/material"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/examples/toolkits/lines"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7012", "address to listen on")
	flag.Parse()
	go func() {
		if err := run(*addr); err != nil {
			log.Fatal(err)
		}
		os.Exit(0)
	}()
	app.Main()
}

// run shows a window and the server behind it, until the window is closed.
func run(addr string) error {
	window := new(app.Window)
	window.Option(app.Title("lines"), app.Size(unit.Dp(320), unit.Dp(120)))
	queue := tcpserver.Queue{Wake: window.Invalidate}
	server := lines.Server{Changed: window.Invalidate, Quit: func() { window.Perform(system.ActionClose) }}
	if err := server.Listen(addr, queue.Post); err != nil {
		return err
	}
	defer server.Close()
	log.Print("listening on ", server.Addr())

	theme := material.NewTheme()
	var ops op.Ops
	for {
		e := window.Event()
		queue.RunPending()
		switch e := e.(type) {
		case app.DestroyEvent:
			return e.Err
		case app.FrameEvent:
			gtx := app.NewContext(&ops, e)
			material.Body1(theme, server.String()).Layout(gtx)
			e.Frame(gtx.Ops)
		}
	}
}
