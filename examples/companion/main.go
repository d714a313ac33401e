// Companion is a program that a phone controls: it shows its address as a QR code in the terminal, and the phone's
// browser gets a page with two buttons. The page and its websockets are served by net/http on a TcpServer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"github.com/mdp/qrterminal/v3"
)

func main() {
	addr := flag.String("addr", ":7005", "address to listen on; without a host, this computer's in the local network")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := start(ctx, *addr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "companion:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, addr string) error {
	addr, err := reachable(addr)
	if err != nil {
		return err
	}
	return newShow(os.Stdout).run(ctx, addr, func(page string) { invite(os.Stdout, page) })
}

// reachable returns addr, HOST:PORT. If it has no host, or one that stands for all addresses of this computer, it gets
// one that a phone can reach.
func reachable(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		ip, err := localIP()
		if err != nil {
			return "", err
		}
		host = ip.String()
	}
	return net.JoinHostPort(host, port), nil
}

// localIP returns the address that this computer has in the local network. It sends nothing: connecting a UDP socket
// only chooses a route. 192.0.2.1 is for documentation and belongs to nobody (RFC 5737).
func localIP() (net.IP, error) {
	conn, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return nil, errors.New("there is no local network; choose an address with -addr")
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP, nil
}

// invite shows the address of the page.
func invite(out io.Writer, page string) {
	qrterminal.GenerateHalfBlock(page, qrterminal.L, out)
	fmt.Fprintf(out, "On your phone: %s\n", page)
}
