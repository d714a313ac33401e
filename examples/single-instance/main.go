// Single-instance is a program that runs once: a second start hands its arguments to the first one and ends. Start it
// in two terminals, the second time with arguments.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/pullaccept/tcpserver"
)

func main() {
	home, err := os.UserCacheDir()
	if err != nil {
		home = os.TempDir()
	}
	dir := flag.String("dir", filepath.Join(home, "tcpserver-single-instance"), "directory of the program's own files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err = run(ctx, place{*dir, defaultNetwork()}, flag.Args(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "single-instance:", err)
		os.Exit(1)
	}
}

// run is the program. The first instance shows what later ones were started with until ctx ends, on the goroutine that
// called run: a program with a user interface would pass the toolkit's own call as the Executor.
func run(ctx context.Context, p place, args []string, out io.Writer) error {
	var queue tcpserver.Queue
	show := func(s start) { fmt.Fprintf(out, "started in %s: %s\n", s.Dir, bytes.Join(s.Args, []byte{' '})) }
	this, err := newStart(args)
	if err != nil {
		return err
	}
	first, err := p.open(ctx, this, queue.Post, show)
	if err != nil {
		return err
	}
	if first == nil {
		fmt.Fprintln(out, "handed over")
		return nil
	}
	defer first.close()
	fmt.Fprintln(out, "the first instance")
	show(this)
	queue.Run(ctx)
	return nil
}
