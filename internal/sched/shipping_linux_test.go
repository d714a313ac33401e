//go:build !sim

package sched_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The names of this package are aliases: a program that uses the library contains neither the scheduler nor the
// simulated system, and of this package only Go, because the compiler does not inline go statements.
func TestProgramContainsNothingOfSimulation(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	binary := filepath.Join(t.TempDir(), "echo")
	build := exec.Command("go", "build", "-o", binary, "github.com/pullaccept/tcpserver/examples/echo")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command("go", "tool", "nm", binary).Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "tcpserver.(*loop).run")
	for symbol := range strings.Lines(string(out)) {
		if !strings.HasSuffix(symbol, "/internal/sched.Go\n") {
			assert.NotRegexp(t, `/internal/(sched|sim)|testing/synctest`, symbol)
		}
	}
	out, err = exec.Command("go", "list", "-deps", "github.com/pullaccept/tcpserver").Output()
	require.NoError(t, err)
	assert.NotContains(t, strings.Split(string(out), "\n"), "github.com/pullaccept/tcpserver/internal/sim")
}
