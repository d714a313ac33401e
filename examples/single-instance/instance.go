package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
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

// A start is what the first instance learns of another one. Names of files are bytes, because they need not be UTF-8,
// to which JSON would change a string.
type start struct {
	Dir    []byte   `json:"dir"` // where file names among the arguments begin
	Args   [][]byte `json:"args"`
	Secret string   `json:"secret,omitempty"`
}

func newStart(args []string) (start, error) {
	dir, err := os.Getwd()
	s := start{Dir: []byte(dir)}
	for _, arg := range args {
		s.Args = append(s.Args, []byte(arg))
	}
	return s, err
}

const (
	maxStart     = 1 << 20 // how long the line of a start may be, in bytes
	patience     = 5 * time.Second
	haste        = 500 * time.Millisecond // within which the first instance proves itself, or is asked again
	acknowledged = "ok\n"
)

var errTooLong = errors.New("the arguments are too long")

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
// can connect there, and listen there once the first instance has crashed.
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
		if err = p.handOver(ctx, this); err == nil || errors.Is(err, errTooLong) {
			return nil, err
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
	// An instance that has crashed may have left these; the lock says that there is none.
	os.Remove(p.socket())
	os.Remove(p.address())
	if p.network == "unix" {
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
	os.Remove(i.place.address()) // as long as the port is not another program's
	i.server.Close()
	i.server.CloseConnections()
	i.lock.Close()
}

func (i *instance) connected(server *tcpserver.TcpServer) {
	if socket := server.NextPendingConnection(); socket != nil {
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: i.asked})
	}
}

// asked proves to another instance that this is the first one, and not a program that listens where that has been.
func (i *instance) asked(socket *tcpserver.TcpSocket) {
	if nonce, ok := readLine(socket); ok {
		socket.Send(proof(i.secret, nonce))
		socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: i.told})
	}
}

// told takes the start that another instance sends then.
func (i *instance) told(socket *tcpserver.TcpSocket) {
	line, ok := readLine(socket)
	if !ok {
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

// readLine takes a line. If the rest of it does not come, the connection ends by IdleTimeout.
func readLine(socket *tcpserver.TcpSocket) (line []byte, ok bool) {
	line, ok = socket.ReadLine()
	if !ok && socket.BytesAvailable() >= maxStart {
		socket.Abort()
	}
	return line, ok
}

// proof returns the line with which a program that knows the secret answers a line that nobody could foresee. On a unix
// socket the secret is empty: only the user's own programs can listen there.
func proof(secret string, nonce []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(nonce)
	return fmt.Appendf(nil, "%x\n", mac.Sum(nil))
}

// handOver sends a start to the first instance, and returns when that has taken it. What has been sent may have been
// taken, so handOver sends nothing to a program that does not prove itself soon, and waits as long as ctx allows
// afterwards.
func (p place) handOver(ctx context.Context, s start) error {
	asking, cancel := context.WithTimeout(ctx, haste)
	defer cancel()
	conn, err := p.dial(asking, &s)
	if err != nil {
		return err
	}
	defer conn.Close()
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if len(line) > maxStart {
		return errTooLong
	}
	lines := bufio.NewReader(conn)
	nonce := []byte(rand.Text() + "\n")
	if err := exchange(asking, conn, lines, nonce, proof(s.Secret, nonce)); err != nil {
		return err
	}
	return exchange(ctx, conn, lines, line, []byte(acknowledged))
}

// exchange sends a line and waits for the answer that the first instance gives to it.
func exchange(ctx context.Context, conn net.Conn, lines *bufio.Reader, line, want []byte) error {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if _, err := conn.Write(line); err != nil {
		return err
	}
	answer, err := lines.ReadSlice('\n')
	if err == nil && !hmac.Equal(answer, want) {
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
