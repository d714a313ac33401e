// Package servertest contains what the tests of all packages share: waiting, connections, probes of the system, socket
// calls, and the check for leaks.
//
// It does not import the root package, so that the root's internal tests can use it too: functions that need a server
// take an interface or an address. It imports internal/sys, whose tests that use it are external ones.
package servertest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience is how long a test waits for something that must happen. No test depends on its value.
const Patience = time.Minute

// Context returns a context that ends after [Patience], or with the test.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Receive waits for a value.
func Receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(Patience):
		require.FailNow(t, "nothing was received")
		panic("unreachable")
	}
}

// ReceiveNothing checks that no value arrives for a moment.
func ReceiveNothing[T any](t testing.TB, from <-chan T) {
	t.Helper()
	select {
	case v := <-from:
		require.FailNow(t, "a value was received", "%v", v)
	case <-time.After(50 * time.Millisecond):
	}
}

// Eventually polls until condition holds, for conditions that nothing signals.
func Eventually(t testing.TB, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, Patience, time.Millisecond)
}

// Skip skips the test because the system cannot do what it needs. The test fails if docs/platforms.md does not name it.
func Skip(t testing.TB, why ...any) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", "platforms.md"))
	require.NoError(t, err)
	name, _, _ := strings.Cut(t.Name(), "/")
	require.Contains(t, string(page), name)
	t.Skip(why...)
}

// moduleRoot returns the directory that contains go.mod. Tests run in the directory of their package.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		require.NotEqual(t, parent, dir, "no go.mod above the package")
		dir = parent
	}
}
