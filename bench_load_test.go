//go:build linux

package tcpserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary a server or the load of a benchmark: it is set to the role and its arguments. The
// benchmarks run a server in a process of its own on one core, and the load in another process on another core.
const roleVariable = "TCPSERVER_BENCH_ROLE"

var roles = map[string]func(args []string) error{
	"load": func(args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return generateLoad(args[0], n)
	},
	"serve": serveForBenchmark,
}

// playRole plays the role that roleVariable is set to, if any, and reports whether there was one.
func playRole() bool {
	role := strings.Fields(os.Getenv(roleVariable))
	if len(role) == 0 {
		return false
	}
	if err := roles[role[0]](role[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// A helper is a process that plays a role. It answers each line of its standard input with a line on its standard
// output, and exits when its input ends.
type helper struct {
	b   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startHelper(b testing.TB, role ...string) *helper {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join(role, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	h := &helper{b, cmd, in, bufio.NewReader(out)}
	return h
}

func (h *helper) stop() {
	h.in.Close()
	require.NoError(h.b, h.cmd.Wait())
}

func (h *helper) line() string {
	line, err := h.out.ReadString('\n')
	require.NoError(h.b, err)
	return strings.TrimSpace(line)
}

// ask sends a line and returns the numbers in the answer.
func (h *helper) ask(format string, args ...any) []float64 {
	_, err := fmt.Fprintf(h.in, format+"\n", args...)
	require.NoError(h.b, err)
	var numbers []float64
	for field := range strings.FieldsSeq(h.line()) {
		n, err := strconv.ParseFloat(field, 64)
		require.NoError(h.b, err)
		numbers = append(numbers, n)
	}
	return numbers
}

// pin restricts all threads of the process, and those it starts later, to one core. With a single core it does nothing.
func pin(core int) {
	if runtime.NumCPU() < 2 {
		return
	}
	var set unix.CPUSet
	set.Set(core)
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			unix.SchedSetaffinity(tid, &set)
		}
	}
	runtime.GOMAXPROCS(1)
}

const messageSize = 64

// generateLoad keeps one message in flight on each of n connections. It is a bare epoll loop, so that the server and
// not the load is the bottleneck. It answers a line with a number of milliseconds with messages per second, and the
// median and 99th percentile of the round-trip time in microseconds.
func generateLoad(addr string, n int) error {
	pin(1)
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	sent := map[int32]time.Time{}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}); err != nil {
			return err
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return err
		}
		sent[int32(fd)] = time.Time{}
	}
	fmt.Println("connected")
	return answerLines(func(line string) error {
		ms, err := strconv.Atoi(line)
		if err != nil {
			return err
		}
		took, elapsed := pingPong(ep, sent, time.Duration(ms)*time.Millisecond)
		slices.Sort(took)
		fmt.Printf("%.0f %.1f %.1f\n", float64(len(took))/elapsed.Seconds(),
			float64(took[len(took)/2])/1e3, float64(took[len(took)*99/100])/1e3)
		return nil
	})
}

// pingPong sends a message on every connection, and another after each answer for the duration d. Then it waits for the
// last answers.
func pingPong(ep int, sent map[int32]time.Time, d time.Duration) (took []time.Duration, elapsed time.Duration) {
	var message [messageSize]byte
	start := time.Now()
	for fd := range sent {
		sent[fd] = time.Now()
		unix.Write(int(fd), message[:])
	}
	end := start.Add(d)
	var events [256]unix.EpollEvent
	for flying := len(sent); flying > 0; {
		n, _ := unix.EpollWait(ep, events[:], 1000)
		now := time.Now()
		for _, ev := range events[:max(n, 0)] {
			unix.Read(int(ev.Fd), message[:])
			took = append(took, now.Sub(sent[ev.Fd]))
			if now.Before(end) {
				sent[ev.Fd] = now
				unix.Write(int(ev.Fd), message[:])
			} else {
				flying--
			}
		}
	}
	return took, time.Since(start)
}

func answerLines(answer func(line string) error) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := answer(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// serveForBenchmark is the role of a server. It prints its address, and answers each line with the processor time that
// it has used, in nanoseconds, the number of allocations, and the bytes of heap in use.
func serveForBenchmark(args []string) error {
	pin(0)
	addr, err := benchServers[args[0]]()
	if err != nil {
		return err
	}
	fmt.Println(addr)
	return answerLines(func(string) error {
		var use syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
			return err
		}
		var mem runtime.MemStats
		runtime.GC()
		runtime.GC() // the second collection empties the pools
		runtime.ReadMemStats(&mem)
		fmt.Println(use.Utime.Nano()+use.Stime.Nano(), mem.Mallocs, mem.HeapAlloc)
		return nil
	})
}
