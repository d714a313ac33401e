package soak

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

var restarts = flag.Int("restarts", 50, "number of restarts of TestRestartsLoseNothing")

// enough is how many connections a generation serves before it is replaced.
const enough = 10

// A generation is one of the servers that hand a socket over, each to the next.
type generation struct {
	*tcpserver.TcpServer
	serve  func(*tcpserver.TcpSocket)
	served atomic.Int64
	enough chan struct{} // closed when the server has served so many connections
}

// newGeneration returns the server of a generation. Those with even numbers serve with handlers, the others with
// goroutines.
func newGeneration(number int) *generation {
	g := &generation{TcpServer: new(tcpserver.TcpServer), enough: make(chan struct{})}
	if number%2 == 0 {
		handlers := &tcpserver.SocketHandlers{ReadyRead: echo, BytesWritten: resume}
		g.serve = func(socket *tcpserver.TcpSocket) { socket.SetHandlers(handlers) }
		g.NewConnectionHandler = func(*tcpserver.TcpServer) { g.serveNext() }
		return g
	}
	g.serve = func(socket *tcpserver.TcpSocket) {
		go func() {
			defer socket.Close()
			io.Copy(socket, socket)
		}()
	}
	return g
}

// run takes connections until the server is closed, unless its handler does.
func (g *generation) run() {
	if g.NewConnectionHandler == nil {
		for socket := range g.Connections(context.Background()) {
			g.count()
			g.serve(socket)
		}
	}
}

// serveNext serves the next pending connection, and reports whether there was one.
func (g *generation) serveNext() bool {
	socket := g.NextPendingConnection()
	if socket == nil {
		return false
	}
	g.count()
	g.serve(socket)
	return true
}

func (g *generation) count() {
	if g.served.Add(1) == enough {
		close(g.enough)
	}
}

// finish ends the server once the next generation accepts, and waits until its connections have ended. Those that are
// pending are served; further ones wait in the system, for the next generation.
func (g *generation) finish(ctx context.Context) error {
	g.PauseAccepting()
	for g.IsAccepting() {
		time.Sleep(time.Millisecond)
	}
	for g.serveNext() {
	}
	return g.Shutdown(ctx)
}

// A crowd is clients that connect, talk and leave all the time.
type crowd struct {
	addr            net.Addr
	stop            atomic.Bool
	all             sync.WaitGroup
	connects, asked atomic.Int64
}

func gather(t *testing.T, addr net.Addr) *crowd {
	c := &crowd{addr: addr}
	for i := range 8 {
		random := rand.New(rand.NewPCG(uint64(i), 0))
		c.all.Go(func() {
			for !c.stop.Load() && !t.Failed() {
				if err := c.visit(random); err != nil {
					t.Errorf("connection %d: %v", c.connects.Load(), err)
				}
			}
		})
	}
	return c
}

// visit makes a connection and some round trips. A few connections outlast several generations.
func (c *crowd) visit(random *rand.Rand) error {
	conn, err := net.Dial(c.addr.Network(), c.addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	c.connects.Add(1)
	if err := conn.SetDeadline(time.Now().Add(servertest.Patience)); err != nil {
		return err
	}
	rounds := 1 + random.IntN(3)
	if random.IntN(50) == 0 {
		rounds = 300
	}
	for range rounds {
		message := fmt.Appendln(nil, "request", random.Uint64())
		if _, err := conn.Write(message); err != nil {
			return err
		}
		if err := equal(conn, message); err != nil {
			return err
		}
		c.asked.Add(1)
	}
	return nil
}

// leave ends all connections and returns how many there have been.
func (c *crowd) leave(t *testing.T) int64 {
	c.stop.Store(true)
	c.all.Wait()
	t.Log(c.connects.Load(), "connections,", c.asked.Load(), "requests")
	return c.connects.Load()
}

// While servers hand their socket over, each to the next, no connection is refused or reset, no request is left
// unanswered, and no descriptor and no goroutine is left.
func TestRestartsLoseNothing(t *testing.T) {
	t.Run("tcp", func(t *testing.T) { restart(t, "tcp", "127.0.0.1:0") })
	t.Run("unix", func(t *testing.T) {
		path := socketPath(t)
		restart(t, "unix", path)
		require.NoFileExists(t, path)
	})
}

// restart restarts the server on an address again and again, while clients keep coming.
func restart(t *testing.T, network, addr string) {
	before := measure()
	g := newGeneration(0)
	if err := g.Listen(network, addr); err != nil && network == "unix" {
		servertest.Skip(t, "no unix sockets: ", err)
	}
	crowd := gather(t, g.Addr())
	var running sync.WaitGroup
	var served atomic.Int64
	finish := func(g *generation) {
		if err := g.finish(servertest.Context(t)); err != nil {
			t.Error(err)
		}
		served.Add(g.served.Load())
	}
	for i := range *restarts {
		servertest.Receive(t, g.enough)
		next := newGeneration(i + 1)
		handOver(t, g.TcpServer, next.TcpServer)
		running.Go(next.run)
		old := g
		running.Go(func() { finish(old) })
		g = next
	}
	servertest.Receive(t, g.enough)
	connects := crowd.leave(t)
	finish(g)
	running.Wait()
	require.Equal(t, connects, served.Load())
	require.False(t, servertest.Leaked(before.goroutines, before.files))
}

// handOver makes next listen on the socket of old, which still listens there, too.
func handOver(t *testing.T, old, next *tcpserver.TcpServer) {
	f, err := old.File()
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, next.ListenFile(f))
	old.SetUnlinkOnClose(false)
	next.SetUnlinkOnClose(true)
}

// socketPath returns a path in a new directory that is short enough for a unix socket.
func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "soak")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// The same with a process for each generation, which starts the process of the next.
func TestProcessRestartsLoseNothing(t *testing.T) {
	first := tcpserver.TcpServer{}
	require.NoError(t, first.Listen("tcp", "127.0.0.1:0"))
	defer first.Close()
	addr := first.Addr()
	f, err := first.File()
	require.NoError(t, err)
	defer f.Close()
	cmd := command("generation", "0")
	cmd.ExtraFiles = []*os.File{f}
	p := start(t, cmd)
	require.NoError(t, first.Close())
	require.NoError(t, f.Close())

	crowd := gather(t, addr)
	processes := max(2, *restarts/50)
	var served int64
	for range processes {
		served += count(t, p.ask("restart"))
	}
	connects := crowd.leave(t)
	served += count(t, p.ask("finish"))
	p.stop()
	require.Equal(t, connects, served)
}

func count(t *testing.T, answer string) int64 {
	n, err := strconv.ParseInt(answer, 10, 64)
	require.NoError(t, err)
	return n
}

// The descriptors that a process inherits besides the standard ones.
const (
	listenerFD = 3 + iota
	readyFD
)

// runGeneration is the role of a generation. Its argument is the generation's number. When it reads the line "restart",
// it starts the next, which inherits the socket, the standard input and the standard output. Then, or when it reads
// "finish", it finishes, and writes how many connections it has served.
func runGeneration(args []string) error {
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	g := newGeneration(number)
	f := os.NewFile(listenerFD, "listener")
	if err := errors.Join(g.ListenFile(f), f.Close()); err != nil {
		return err
	}
	go g.run()
	if number > 0 {
		ready := os.NewFile(readyFD, "ready")
		if _, err := fmt.Fprintln(ready, "ready"); err != nil {
			return err
		}
		ready.Close()
	}
	var order string
	fmt.Fscanln(os.Stdin, &order) // it reads no further than the line
	if order == "restart" {
		<-g.enough
		if err := g.startNext(number + 1); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), servertest.Patience)
	defer cancel()
	if err := g.finish(ctx); err != nil {
		return err
	}
	_, err = fmt.Println(g.served.Load())
	return err
}

// startNext starts the process of the next generation and waits until that accepts.
func (g *generation) startNext(number int) error {
	f, err := g.File()
	if err != nil {
		return err
	}
	defer f.Close()
	ready, done, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := command("generation", strconv.Itoa(number))
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = os.Stdin, os.Stdout, []*os.File{f, done}
	err = cmd.Start()
	done.Close()
	if err != nil {
		return err
	}
	_, err = fmt.Fscanln(ready, new(string))
	return err
}
