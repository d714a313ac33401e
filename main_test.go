package tcpserver_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end: the poller ends with its last user.
func TestMain(m *testing.M) {
	if playRole() {
		return
	}
	// The runtime's own poller is opened by the first listener and never closed.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	goroutines, files := runtime.NumGoroutine(), openFiles()
	code := m.Run()
	if code == 0 && leaked(goroutines, files) {
		code = 1
	}
	os.Exit(code)
}

func leaked(goroutines, files int) bool {
	// What was closed last may still be on its way out.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines && openFiles() <= files {
			return false
		}
	}
	fmt.Fprintf(os.Stderr, "leaked: %d goroutines, %d before; %d descriptors, %d before\n",
		runtime.NumGoroutine(), goroutines, openFiles(), files)
	pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
	return true
}
