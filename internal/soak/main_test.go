// Package soak runs the server for long, with many connections and many restarts, and checks that nothing is lost and
// nothing is left. Plain `go test` does little of it; `.ci/run` does all:
//
//	go test ./internal/soak -connections 15000 -for 1m -restarts 1000 -quits 10000
package soak

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// roleVariable makes the test binary one of the processes that a test needs besides its own. It is set to the role and
// its arguments.
const roleVariable = "TCPSERVER_SOAK_ROLE"

var roles = map[string]func(args []string) error{"clients": runClients, "generation": runGeneration}

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) {
	role := strings.Fields(os.Getenv(roleVariable))
	if len(role) == 0 {
		flag.Parse()
		servertest.Main(m)
	}
	if err := roles[role[0]](role[1:]); err != nil {
		fmt.Fprintln(os.Stderr, role[0]+":", err)
		os.Exit(1)
	}
}

// command returns a command that plays a role.
func command(role ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join(role, " "))
	cmd.Stderr = os.Stderr
	return cmd
}

// A process plays a role. It is told what to do with lines on its standard input, and answers with lines on its
// standard output.
type process struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts the process of cmd. It skips the test if the process cannot inherit what it should.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	if err = cmd.Start(); errors.Is(err, errors.ErrUnsupported) {
		servertest.Skip(t, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { cmd.Process.Kill() })
	return &process{t, cmd, in, bufio.NewReader(out)}
}

// ask sends a line and returns the answer.
func (p *process) ask(line string) string {
	p.t.Helper()
	_, err := fmt.Fprintln(p.in, line)
	require.NoError(p.t, err)
	answer, err := p.out.ReadString('\n')
	require.NoError(p.t, err, "the process has ended")
	return strings.TrimSpace(answer)
}

// stop ends the process.
func (p *process) stop() {
	p.t.Helper()
	require.NoError(p.t, p.in.Close())
	require.NoError(p.t, p.cmd.Wait())
}

// heapInUse returns how many bytes of the heap are in use.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // a sync.Pool is emptied by two collections
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// echo sends back what has arrived, as far as there is room for it in the send queue.
func echo(socket *tcpserver.TcpSocket) {
	received := socket.Peek(64 << 10)
	if socket.Send(received) == nil {
		socket.Discard(len(received))
	} else {
		socket.PauseReading()
	}
}

func resume(socket *tcpserver.TcpSocket, _ int) { socket.ResumeReading() }

// equal reports whether the next bytes of r are those of want.
func equal(r io.Reader, want []byte) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("received other bytes than were sent")
	}
	return nil
}
