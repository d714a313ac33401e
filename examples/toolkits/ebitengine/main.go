// Ebitengine is a game whose server's handlers run in Update.
package main

import (
	"flag"
	"log"

	"github.com/hajimehoshi/ebiten/v2"
	"github.com/hajimehoshi/ebiten/v2/ebitenutil"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/examples/toolkits/lines"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7013", "address to listen on")
	flag.Parse()
	if err := run(*addr); err != nil {
		log.Fatal(err)
	}
}

// run shows a window and the server behind it, until the window is closed.
func run(addr string) error {
	g := new(game)
	g.server.Changed = func() {} // Draw is called for each frame
	g.server.Quit = func() { g.ended = true }
	if err := g.server.Listen(addr, g.queue.Post); err != nil {
		return err
	}
	log.Print("listening on ", g.server.Addr())
	ebiten.SetWindowTitle("lines")
	defer g.server.Close() // Update is not called any more
	return ebiten.RunGame(g)
}

type game struct {
	queue  tcpserver.Queue
	server lines.Server
	ended  bool
}

// Update is called 60 times a second.
func (g *game) Update() error {
	g.queue.RunPending()
	if g.ended {
		return ebiten.Termination
	}
	return nil
}

func (g *game) Draw(screen *ebiten.Image) { ebitenutil.DebugPrint(screen, g.server.String()) }

func (g *game) Layout(int, int) (width, height int) { return 320, 120 }
