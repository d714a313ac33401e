// Tview is a program with package tview whose server's handlers run on the goroutine of its Application.
package main

import (
	"flag"
	"log"

	"github.com/rivo/tview"

	"github.com/pullaccept/tcpserver/examples/toolkits/lines"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7010", "address to listen on")
	flag.Parse()
	app := tview.NewApplication()
	server, err := serve(app, *addr)
	if err == nil {
		err = app.Run() // until Ctrl-C
		server.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve starts a server that app shows.
func serve(app *tview.Application, addr string) (*lines.Server, error) {
	view := tview.NewTextView()
	view.SetTitle(" " + addr + " ").SetBorder(true)
	app.SetRoot(view, true)
	server := new(lines.Server)
	server.Changed = func() { view.SetText(server.String()) }
	server.Quit = app.Stop
	exec := func(f func()) { app.QueueUpdateDraw(f) }
	err := server.Listen(addr, exec)
	return server, err
}
