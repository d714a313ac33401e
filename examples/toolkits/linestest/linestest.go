// Package linestest tests programs that show a lines.Server.
package linestest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = time.Minute

// Exchange has several clients send lines, one after another, each of which must be answered: a wake-up that gets lost
// would hold up all of them. Then one of them ends the program.
func Exchange(t *testing.T, addr string) {
	t.Helper()
	const clients, lines = 8, 100
	var done sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		done.Go(func() { errs[i] = exchange(addr, fmt.Sprintf("client %d", i), lines) })
	}
	done.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, exchange(addr, "quit", 1))
}

// exchange sends a line so many times, and expects an answer to each.
func exchange(addr, line string, times int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	answers := bufio.NewReader(conn)
	for i := range times {
		if _, err := fmt.Fprintf(conn, "%s\n", line); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		if _, text, _ := strings.Cut(strings.TrimSuffix(answer, "\n"), ": "); text != line {
			return fmt.Errorf("answer %d is %q", i, answer)
		}
	}
	return nil
}

// Main is called by TestMain. If Run has started the test binary, it runs the program, on the main thread, as toolkits
// want it.
func Main(m *testing.M, program func()) {
	if os.Getenv("LINES_PROGRAM") != "" {
		program()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var listening = regexp.MustCompile(`listening on (\S+)`)

// Run runs the program, which must log its address, exchanges lines with it, and expects that it ends by itself. It
// returns what the program has logged. On systems with X11 it needs a display.
func Run(t *testing.T) string {
	t.Helper()
	if os.Getenv("DISPLAY") == "" && needsDisplay {
		t.Skip("no display; .ci/desktop has one")
	}
	program := exec.Command(os.Args[0], "-addr", "127.0.0.1:0")
	program.Env = append(os.Environ(), "LINES_PROGRAM=1")
	stderr, err := program.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, program.Start())
	watchdog := time.AfterFunc(2*patience, func() { program.Process.Kill() })
	defer watchdog.Stop()
	var logged strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		logged.WriteString(lines.Text() + "\n")
		if match := listening.FindStringSubmatch(lines.Text()); match != nil {
			Exchange(t, match[1])
		}
	}
	require.NoError(t, program.Wait(), logged.String())
	return logged.String()
}
