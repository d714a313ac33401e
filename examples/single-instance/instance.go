package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pullaccept/tcpserver"
)

// A start is what the first instance learns of another one.
type start struct {
	Dir    string   `json:"dir"` // where file names among the arguments begin
	Args   []string `json:"args"`
	Secret string   `json:"secret,omitempty"`
}

func newStart(args []string) (start, error) {
	dir, err := os.Getwd()
	return start{Dir: dir, Args: args}, err
}

const (
	maxStart     = 1 << 20 // how long a start may be, in bytes
	patience     = 5 * time.Second
	acknowledged = "ok\n"
)

// defaultNetwork returns the network on which instances meet: on Windows not "unix", because old versions have none,
// and the file of a socket has no permissions there.
func defaultNetwork() string {
	if runtime.GOOS == "windows" {
		return "tcp"
	}
	return "unix"
}

// A place is where the instances of a program meet: a directory of the user's own. It has a lock, which the first
// instance holds for as long as it runs and which the system releases if it crashes, and what the others need to
// connect to it: a unix socket, or the address of a socket on 127.0.0.1 and a secret, because every user of the machine
// can connect there.
type place struct{ dir, network string }

func (p place) lock() string    { return filepath.Join(p.dir, "lock") }
func (p place) socket() string  { return filepath.Join(p.dir, "socket") }
func (p place) address() string { return filepath.Join(p.dir, "address") }

// A meeting is the contents of the address file.
type meeting struct {
	Address string `json:"address"`
	Secret  string `json:"secret"`
}

// open returns the first instance, if this is it: started is called, by exec, for each later one. Otherwise it hands
// this start over to the first instance and returns nil.
func (p place) open(
	ctx context.Context, this start, exec tcpserver.Executor, started func(start),
) (*instance, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		lock, err := tryLock(p.lock())
		if err != nil {
			return nil, err
		}
		if lock != nil {
			return p.serve(lock, exec, started)
		}
		if err = p.handOver(ctx, this); err == nil {
			return nil, nil
		}
		// The first instance does not listen yet, or has just ended.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another instance is running and does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// An instance is the first one.
type instance struct {
	place   place
	lock    *os.File
	server  *tcpserver.TcpServer
	secret  string
	started func(start)
}

func (p place) serve(lock *os.File, exec tcpserver.Executor, started func(start)) (*instance, error) {
	i := &instance{place: p, lock: lock, started: started}
	i.server = &tcpserver.TcpServer{
		NewConnectionHandler: i.connected, Executor: exec, ReadBufferSize: maxStart, IdleTimeout: patience,
	}
	if err := i.listen(); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

func (i *instance) listen() error {
	p := i.place
	if p.network == "unix" {
		os.Remove(p.socket()) // an instance that has crashed may have left it; the lock says that there is none
		i.server.SocketMode = 0o600
		return i.server.Listen("unix", p.socket())
	}
	if err := i.server.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	i.secret = rand.Text()
	text, err := json.Marshal(meeting{i.server.Addr().String(), i.secret})
	if err != nil {
		return err
	}
	// Others see the whole file or none.
	whole := p.address() + ".new"
	if err := os.WriteFile(whole, text, 0o600); err != nil {
		return err
	}
	return os.Rename(whole, p.address())
}

// close ends the instance. It is called on the goroutine that runs the handlers, so that none is called afterwards.
func (i *instance) close() {
	i.server.Close()
	i.server.CloseConnections()
	i.lock.Close()
}

func (i *instance) connected(server *tcpserver.TcpServer) {
	if socket := server.NextPendingConnection(); socket != nil {
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: i.readyRead})
	}
}

// readyRead takes the one line that another instance sends. If it does not come, the connection ends by IdleTimeout.
func (i *instance) readyRead(socket *tcpserver.TcpSocket) {
	line, ok := socket.ReadLine()
	if !ok {
		if socket.BytesAvailable() >= maxStart {
			socket.Abort()
		}
		return
	}
	var s start
	if json.Unmarshal(line, &s) != nil || subtle.ConstantTimeCompare([]byte(s.Secret), []byte(i.secret)) == 0 {
		socket.Abort()
		return
	}
	s.Secret = ""
	socket.Send([]byte(acknowledged))
	socket.Close()
	i.started(s)
}

// handOver sends a start to the first instance, and returns when that has taken it.
func (p place) handOver(ctx context.Context, s start) error {
	conn, err := p.dial(ctx, &s)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if err := json.NewEncoder(conn).Encode(s); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && answer != acknowledged {
		err = errors.New("an answer of another program")
	}
	return err
}

// dial connects to the first instance, and sets the secret that it expects.
func (p place) dial(ctx context.Context, s *start) (net.Conn, error) {
	var d net.Dialer
	if p.network == "unix" {
		return d.DialContext(ctx, "unix", p.socket())
	}
	text, err := os.ReadFile(p.address())
	if err != nil {
		return nil, err
	}
	var m meeting
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	s.Secret = m.Secret
	return d.DialContext(ctx, "tcp", m.Address)
}
