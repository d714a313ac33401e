package tcpserver

import (
	"bytes"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// goroutineID returns the number of the calling goroutine. The runtime reveals it only in stack traces, and taking
// one costs some microseconds, so goroutineID is for rare cases.
func goroutineID() uint64 {
	var trace [64]byte
	line := trace[:runtime.Stack(trace[:], false)]
	number, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("goroutine ")), []byte(" "))
	id, _ := strconv.ParseUint(string(number), 10, 64)
	return id
}

// handlerCallers returns the names of the functions that call handlers and callbacks, as they appear in stack traces.
var handlerCallers = sync.OnceValue(func() []string {
	name := func(f any) string { return runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name() }
	return []string{name((*TcpServer).call), name((*TcpSocket).call)}
})

// inHandler reports whether the calling goroutine is running a handler or a callback. It walks the stack.
func inHandler() bool {
	pcs := make([]uintptr, 64)
	n := runtime.Callers(1, pcs)
	for ; n == len(pcs); n = runtime.Callers(1, pcs) {
		pcs = make([]uintptr, 2*len(pcs))
	}
	frames := runtime.CallersFrames(pcs[:n])
	for {
		frame, more := frames.Next()
		if slices.Contains(handlerCallers(), frame.Function) {
			return true
		}
		if !more {
			return false
		}
	}
}
