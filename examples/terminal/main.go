// Terminal shows what clients say, and sends them what is typed. Everything but the reading of lines from the terminal
// happens on the main goroutine, as in a program with a user interface: no value is shared, so there is no mutex.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pullaccept/tcpserver"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7004", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addr, os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "terminal:", err)
		os.Exit(1)
	}
}

// A terminal is used on the goroutine that runs its queue, and nowhere else.
type terminal struct {
	queue   tcpserver.Queue
	server  *tcpserver.TcpServer
	clients []*client
	out     io.Writer
	typing  error // why nothing more can be read
}

type client struct {
	socket *tcpserver.TcpSocket
	text   []byte // the beginning of a line
}

const (
	maxLine  = 4 << 10   // how much of a client's line is kept until its end comes, in bytes
	maxTyped = 512 << 10 // how long a typed line may be; two fit into what is queued for a client
)

// run serves until ctx ends or there is nothing more to read from in, and then until the clients have what was sent to
// them. It returns the error with which reading has failed.
func run(ctx context.Context, addr string, in io.Reader, out io.Writer) error {
	t := &terminal{out: out}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	t.server = &tcpserver.TcpServer{
		Executor:             t.queue.Post,
		NewConnectionHandler: t.connected,
		ClosedHandler:        func(*tcpserver.TcpServer, error) { stop() }, // it is called last
	}
	if err := t.server.Listen("tcp", addr); err != nil {
		return err
	}
	t.printf("listening on %v", t.server.Addr())
	defer context.AfterFunc(ctx, func() { t.queue.Post(t.close) })()
	go t.readLines(in)
	t.queue.Run(running)
	return t.typing
}

// readLines has the main goroutine send each line, and close the server after the last one.
func (t *terminal) readLines(in io.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxTyped)
	for lines.Scan() {
		line := append(bytes.Clone(lines.Bytes()), '\n')
		t.queue.Post(func() { t.sendToAll(line) })
	}
	t.queue.Post(func() {
		t.typing = lines.Err()
		t.close()
	})
}

func (t *terminal) sendToAll(line []byte) {
	for _, c := range t.clients {
		if err := c.socket.Send(line); err != nil {
			t.printf("%v: %v", c.socket.RemoteAddr(), err)
			c.socket.Abort() // it does not read
		}
	}
}

// close closes the server and the clients. ClosedHandler is called when the clients have what was sent to them.
func (t *terminal) close() {
	t.server.Close()
	for _, c := range t.clients {
		c.socket.Close()
	}
}

func (t *terminal) connected(server *tcpserver.TcpServer) {
	socket := server.NextPendingConnection()
	if socket == nil {
		return // it has gone
	}
	c := &client{socket: socket}
	t.clients = append(t.clients, c)
	t.printf("%v has connected; clients: %d", socket.RemoteAddr(), len(t.clients))
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead:    func(*tcpserver.TcpSocket) { t.said(c) },
		Disconnected: func(_ *tcpserver.TcpSocket, err error) { t.disconnected(c, err) },
	})
}

// said shows the lines that a client has said.
func (t *terminal) said(c *client) {
	c.text = append(c.text, c.socket.ReadAll()...)
	for {
		line, rest, whole := bytes.Cut(c.text, []byte{'\n'})
		if !whole {
			break
		}
		t.show(c, line)
		c.text = rest
	}
	if len(c.text) > maxLine {
		cut := len(c.text)
		for i := cut - utf8.UTFMax + 1; i < cut; i++ {
			if !utf8.FullRune(c.text[i:]) {
				cut = i // the rest of this character is still to come
			}
		}
		t.show(c, c.text[:cut])
		c.text = c.text[cut:]
	}
}

func (t *terminal) disconnected(c *client, err error) {
	if len(c.text) > 0 {
		t.show(c, c.text)
	}
	t.clients = slices.DeleteFunc(t.clients, func(o *client) bool { return o == c })
	t.printf("%v has gone; clients: %d", c.socket.RemoteAddr(), len(t.clients))
	if err != nil {
		t.printf("%v", err)
	}
}

// show prints a line without what could change the terminal.
func (t *terminal) show(c *client, line []byte) {
	printable := func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return -1
		}
		return r
	}
	t.printf("%v: %s", c.socket.RemoteAddr(), strings.Map(printable, strings.ToValidUTF8(string(line), "\uFFFD")))
}

func (t *terminal) printf(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }
