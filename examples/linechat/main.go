// Linechat sends each line of a client to all other clients. Any number of people can join with nc. The callbacks run
// one after another, so nothing needs a lock.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"unicode"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/msgserver"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7002", "address to listen on")
	flag.Parse()
	if err := run(*addr); err != nil {
		slog.Error("linechat", "error", err)
		os.Exit(1)
	}
}

func run(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	server := new(tcpserver.TcpServer)
	if err := server.Listen("tcp", addr); err != nil {
		return err
	}
	slog.Info("listening", "addr", server.Addr())
	err := newChat().server.Serve(ctx, server)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// maxLine is the length of the longest line that is accepted, in bytes.
const maxLine = 512

// A user is a client. Its first line is its name; until then it receives no lines.
type user struct {
	socket *tcpserver.TcpSocket
	name   string
}

// A chat is the server and its users.
type chat struct {
	server msgserver.ThreadServer[*user, string]
	users  map[*user]bool // those with a name
}

func newChat() *chat {
	c := &chat{users: make(map[*user]bool)}
	c.server.ClientConnected = c.connected
	c.server.ReadClientMessage = msgserver.Lines[*user](maxLine)
	c.server.ClientMessage = c.said
	c.server.ClientDisconnected = c.disconnected
	c.server.OnError = func(err error, _ []byte) { slog.Warn("client", "error", err) }
	return c
}

func (c *chat) connected(socket *tcpserver.TcpSocket) (*user, error) {
	slog.Info("connected", "remote", socket.RemoteAddr())
	c.server.SendData(socket, []byte("Your name?\n"))
	return &user{socket: socket}, nil
}

func (c *chat) said(u *user, line string) {
	line = strings.TrimSpace(strings.Map(printable, line))
	switch {
	case line == "":
	case u.name == "":
		u.name = line
		c.users[u] = true
		c.tell(u, fmt.Sprintf("* %s has come; %d here", u.name, len(c.users)))
	default:
		c.tell(u, fmt.Sprintf("%s: %s", u.name, line))
	}
}

// printable drops control characters, which could change the terminals of others.
func printable(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case unicode.IsPrint(r):
		return r
	}
	return -1
}

func (c *chat) disconnected(u *user, err error) {
	slog.Info("disconnected", "remote", u.socket.RemoteAddr(), "name", u.name, "error", err)
	if c.users[u] {
		delete(c.users, u)
		c.tell(u, fmt.Sprintf("* %s has gone; %d here", u.name, len(c.users)))
	}
}

// tell sends a line to all users except the one it is from.
func (c *chat) tell(from *user, line string) {
	data := []byte(line + "\n")
	for u := range c.users {
		if u != from {
			c.server.SendData(u.socket, data)
		}
	}
}
