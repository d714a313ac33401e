// Desktop is a server with a window: it shows the connections that wait to be accepted, the clients, and what they say,
// and sends to them. All of it runs on the thread of the user interface.
package main

import (
	"flag"
	"fmt"
	"os"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"

	"github.com/pullaccept/tcpserver/examples/desktop/ui"
)

func main() {
	addr := flag.String("listen", "", "address to listen on at once, HOST:PORT")
	flag.Parse()

	desktop := app.NewWithID("io.github.pullaccept.desktop")
	window := desktop.NewWindow("tcpserver")
	view := ui.New(fyne.Do)
	window.SetCloseIntercept(func() {
		window.Hide()
		view.Quit(window.Close)
	})
	window.SetContent(view.Content())
	window.Resize(fyne.NewSize(1000, 640))
	if *addr != "" {
		desktop.Lifecycle().SetOnStarted(func() { listen(view, *addr) })
	}
	window.ShowAndRun()
	view.Close() // a signal ends the toolkit without asking
}

// listen listens on the address that was given on the command line.
func listen(view *ui.UI, addr string) {
	if err := view.ListenOn(addr); err != nil {
		fmt.Fprintln(os.Stderr, "desktop:", err)
		return
	}
	fmt.Fprintln(os.Stderr, "desktop: listening on", view.Addr())
}
