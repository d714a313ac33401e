package ui

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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	frame   = time.Second / 60
	clients = 1000

	// floodVariable makes the test binary the clients of a flood. It is set to the address of the server.
	floodVariable = "TCPSERVER_FLOOD"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(floodVariable); addr != "" {
		if err := flood(addr); err != nil {
			fmt.Fprintln(os.Stderr, "flood:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// flood connects the clients and prints "connected". After a line on its standard input they send lines as fast as they
// can, until that ends. Then it prints how many bytes they have sent.
func flood(addr string) error {
	runtime.GOMAXPROCS(1) // leave the other processor to the window
	conns := make([]net.Conn, clients)
	for i := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		conns[i] = conn
	}
	fmt.Println("connected")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	text := []byte(strings.Repeat("Lucy can't drink milk.\n", 100))
	var sent atomic.Int64
	var stop atomic.Bool
	var done sync.WaitGroup
	for _, conn := range conns {
		done.Go(func() {
			for !stop.Load() {
				n, err := conn.Write(text)
				sent.Add(int64(n))
				if err != nil {
					break
				}
			}
			conn.Close()
		})
	}
	io.Copy(io.Discard, in)
	stop.Store(true)
	done.Wait()
	_, err := fmt.Println(sent.Load())
	return err
}

// BenchmarkFrames measures the time from frame to frame of a window that is refreshed 60 times a second, without a
// server and while 1,000 clients of another process send it lines as fast as they can. A frame handles what the server
// has queued and lays out the window; painting, which is the graphics processor's work, is left out. Nothing that a
// client has sent may be missing at the end.
//
//	CGO_ENABLED=0 go test -run '^$' -bench Frames -benchtime 600x ./ui
func BenchmarkFrames(b *testing.B) {
	b.Run("alone", func(b *testing.B) { measureFrames(b, newDesk(b)) })
	b.Run("flooded", func(b *testing.B) {
		d := newDesk(b)
		require.NoError(b, d.ListenOn("127.0.0.1:0"))
		f := startFlood(b, d)
		before := d.server.Stats()
		received := d.received
		measureFrames(b, d)
		b.ReportMetric(float64(d.received-received)/1e6/b.Elapsed().Seconds(), "MB/s")
		require.Zero(b, before.Dropped)
		sent := f.stop(d)
		require.EqualValues(b, sent, d.received)
		require.Zero(b, d.server.Stats().Dropped)
	})
}

// measureFrames runs b.N frames. One that takes too long makes the next one late, as where a display sets the pace.
func measureFrames(b *testing.B, d *desk) {
	var intervals, work []time.Duration
	var heap uint64
	b.ResetTimer()
	start := time.Now()
	last, next := start, start
	for range b.N {
		for now := time.Now(); !next.After(now); {
			next = next.Add(frame)
		}
		time.Sleep(time.Until(next))
		began := time.Now()
		d.queue.RunPending()
		work = append(work, time.Since(began))
		intervals = append(intervals, began.Sub(last))
		last = began
		if len(work)%60 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap = max(heap, m.HeapInuse)
		}
	}
	b.StopTimer()
	late := 0
	for _, interval := range intervals {
		if interval > frame*3/2 {
			late++
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(milliseconds(intervals, 0.5), "ms-p50")
	b.ReportMetric(milliseconds(intervals, 0.99), "ms-p99")
	b.ReportMetric(milliseconds(intervals, 1), "ms-max")
	b.ReportMetric(milliseconds(work, 0.99), "ms-work-p99")
	b.ReportMetric(float64(late)/float64(b.N)*100, "%late")
	b.ReportMetric(float64(heap)/(1<<20), "MiB-heap")
}

// milliseconds returns a quantile.
func milliseconds(of []time.Duration, quantile float64) float64 {
	of = slices.Sorted(slices.Values(of))
	i := int(quantile * float64(len(of)-1))
	return float64(of[i]) / float64(time.Millisecond)
}

// A floodProcess is the process of the clients.
type floodProcess struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out chan string
}

// startFlood starts the process and waits until all clients are connected and accepted.
func startFlood(t testing.TB, d *desk) *floodProcess {
	t.Helper()
	args := []string{os.Args[0]}
	if nice, err := exec.LookPath("nice"); err == nil { // in life the clients use the processors of other computers
		args = []string{nice, "-n", "19", os.Args[0]}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), floodVariable+"="+d.server.Addr().String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	f := &floodProcess{t, cmd, in, make(chan string, 2)}
	go func() {
		defer close(f.out)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			f.out <- lines.Text()
			d.queue.Post(func() {}) // until looks at its condition
		}
	}()
	d.until(func() bool { return len(f.out) > 0 && len(d.clients) == clients })
	require.Equal(t, "connected", <-f.out)
	_, err = io.WriteString(in, "go\n")
	require.NoError(t, err)
	return f
}

// stop has the clients stop, waits until the window has everything, and returns how many bytes they have sent.
func (f *floodProcess) stop(d *desk) int64 {
	f.t.Helper()
	require.NoError(f.t, f.in.Close())
	for len(f.out) == 0 || len(d.clients) > 0 { // as long as something arrives
		before := d.received
		d.until(func() bool { return d.received > before || len(f.out) > 0 && len(d.clients) == 0 })
	}
	sent, err := strconv.ParseInt(<-f.out, 10, 64)
	require.NoError(f.t, err)
	require.NoError(f.t, f.cmd.Wait())
	return sent
}

func TestFloodLosesNothing(t *testing.T) {
	d := newDesk(t)
	require.NoError(t, d.ListenOn("127.0.0.1:0"))
	f := startFlood(t, d)
	d.until(func() bool { return d.received > 1<<20 })
	require.EqualValues(t, f.stop(d), d.received)
	require.Zero(t, d.server.Stats().Dropped)
}
