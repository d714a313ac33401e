package servertest

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// Main runs the tests of m and exits. The run fails if a goroutine or a descriptor is left at its end, because the
// poller ends with its last user.
func Main(m *testing.M) {
	// The runtime's own poller is opened by the first listener and never closed.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	goroutines, files := runtime.NumGoroutine(), OpenFiles()
	code := m.Run()
	fuzzing := flag.Lookup("test.fuzz").Value.String() != "" // which has goroutines of its own
	if code == 0 && !fuzzing && Leaked(goroutines, files) {
		code = 1
	}
	os.Exit(code)
}

// Leaked reports whether there are more goroutines or open files than before, and writes the goroutines to standard
// error if so. It waits for what was closed last, which may still be ending.
func Leaked(goroutines, files int) bool {
	return leaked(5*time.Second, os.Stderr, goroutines, files)
}

func leaked(wait time.Duration, report io.Writer, goroutines, files int) bool {
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines && OpenFiles() <= files {
			return false
		}
	}
	fmt.Fprintf(report, "leaked: %d goroutines, %d before; %d descriptors, %d before\n",
		runtime.NumGoroutine(), goroutines, OpenFiles(), files)
	pprof.Lookup("goroutine").WriteTo(report, 1)
	return true
}

// OpenFiles returns how many descriptors the process has open, or 0 where that is not known. On Windows it is not: the
// runtime's threads have handles too, and start as they are needed; see OpenHandles.
func OpenFiles() int {
	if runtime.GOOS == "windows" {
		return 0 // under Wine the directory below may exist
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}
