package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A sample is what one round measures of one server. Durations are in microseconds, memory is in bytes per connection.
type sample struct {
	messages             float64
	rate, p50, p99, p999 float64
	longest              float64 // of all round trips or first answers
	late, runs           float64 // bursts with a first answer later than lateFirst, and all bursts
	cpu                  float64 // processor time of the server per message
	heap, resident       float64
}

const (
	// burstWork per message is more than two loops can do for as long as the burst lasts, so that both stay busy.
	burstWork = "20us"
	lateFirst = 100e3 // microseconds
	// warmConns is the number of connections that are open before the memory of others is measured. A server has then
	// allocated what it allocates once: the buffers of its loop and the first size of its tables.
	warmConns = 100
)

// measure starts the server and its load, and returns what the mode measures.
func measure(dir string, s server, m mode, seconds float64) (got sample, err error) {
	args := slices.Clone(s.args)
	if s.takesBuffer && m.largeMessages {
		args = append(args, "-buffer", "65536")
	}
	serverCores, loadCores := "0", "1"
	if m.burst > 0 {
		serverCores, loadCores = "0,1", "0,1"
		args = append(args, "-work", burstWork)
	}
	srv, err := start(serverCores, filepath.Join(dir, s.program), args...)
	if err != nil {
		return got, err
	}
	defer srv.stop()
	addr, err := srv.line()
	if err != nil {
		return got, err
	}
	if m.http {
		return measureHTTP(srv, addr)
	}
	startLoad := func(args ...string) (*process, error) {
		return start(loadCores, filepath.Join(dir, "load"),
			append([]string{"-addr", addr, "-seconds", fmt.Sprint(seconds)}, args...)...)
	}
	if m.idle > 0 {
		return measureMemory(srv, m, startLoad)
	}
	load, err := startLoad(m.load...)
	if err != nil {
		return got, err
	}
	defer load.stop()
	if _, err := load.line(); err != nil {
		return got, err
	}
	if m.ramp || m.burst > 0 {
		return measureFirstAnswers(load, max(m.burst, 1))
	}
	return measureThroughput(srv, load)
}

// measureThroughput runs the load twice, first to warm up.
func measureThroughput(srv, load *process) (got sample, err error) {
	if _, err := load.ask("warm up"); err != nil {
		return got, err
	}
	before := srv.cpu()
	answer, err := load.ask("run")
	if err != nil {
		return got, err
	}
	used := srv.cpu() - before
	got, err = parse(answer)
	got.cpu = used / 1e3 / got.messages
	return got, err
}

// measureMemory returns how much the server's memory grows per connection of the mode's load.
func measureMemory(srv *process, m mode, startLoad func(...string) (*process, error)) (got sample, err error) {
	var heap, resident [2]float64 // before and after
	for i, args := range [][]string{{"-conns", "0", "-idle", fmt.Sprint(warmConns)}, m.load} {
		load, err := startLoad(args...)
		if err != nil {
			return got, err
		}
		defer load.stop()
		if _, err := load.line(); err != nil {
			return got, err
		}
		if heap[i], resident[i], err = srv.memory(); err != nil {
			return got, err
		}
	}
	n := float64(m.idle)
	return sample{heap: (heap[1] - heap[0]) / n, resident: (resident[1] - resident[0]) / n}, nil
}

// parse reads an answer of the load.
func parse(answer string) (got sample, err error) {
	_, err = fmt.Sscanf(answer, "messages=%g rate=%g p50=%g p99=%g p999=%g max=%g",
		&got.messages, &got.rate, &got.p50, &got.p99, &got.p999, &got.longest)
	return got, err
}

// measureFirstAnswers runs the load several times and measures the first answer of each connection. The p50 is the
// median of the runs, and the other percentiles are those of the worst run.
func measureFirstAnswers(load *process, runs int) (got sample, err error) {
	var p50s []float64
	for range runs {
		answer, err := load.ask("run")
		if err != nil {
			return got, err
		}
		one, err := parse(answer)
		if err != nil {
			return got, err
		}
		p50s = append(p50s, one.p50)
		got.p99, got.p999 = max(got.p99, one.p99), max(got.p999, one.p999)
		got.longest = max(got.longest, one.longest)
		got.runs++
		if one.longest > lateFirst {
			got.late++
		}
	}
	got.p50 = median(p50s)
	return got, nil
}

// measureHTTP runs wrk, which requests a short page over 50 connections, for one second, the shortest time it accepts.
func measureHTTP(srv *process, addr string) (got sample, err error) {
	before := srv.cpu()
	out, err := exec.Command("taskset", "-c", "1",
		"wrk", "-t1", "-c50", "-d1s", "--latency", "http://"+addr+"/").Output()
	if err != nil {
		return got, err
	}
	used := srv.cpu() - before
	var requests float64
	for line := range strings.Lines(string(out)) {
		field := strings.Fields(line)
		switch {
		case len(field) == 2 && field[0] == "50%":
			got.p50 = microseconds(field[1])
		case len(field) == 2 && field[0] == "99%":
			got.p99 = microseconds(field[1])
		case len(field) > 2 && field[1] == "requests":
			requests, err = strconv.ParseFloat(field[0], 64)
		case len(field) == 2 && field[0] == "Requests/sec:":
			got.rate, err = strconv.ParseFloat(field[1], 64)
		case strings.Contains(line, "Non-2xx") || strings.Contains(line, "Socket errors"):
			err = fmt.Errorf("wrk: %s", strings.TrimSpace(line))
		}
		if err != nil {
			return got, err
		}
	}
	if requests == 0 {
		return got, errors.New("wrk received no answer")
	}
	got.cpu = used / 1e3 / requests
	return got, nil
}

// microseconds parses a duration as wrk prints it, such as 1.20ms. It returns 0 if it cannot.
func microseconds(s string) float64 {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return float64(d.Nanoseconds()) / 1e3
}

// A process is a program that answers each line of its input with a line, and exits when its input ends.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a program on a list of cores, such as "0,1", with GOMAXPROCS set to their number.
func start(cores, program string, args ...string) (*process, error) {
	cmd := exec.Command("taskset", append([]string{"-c", cores, program}, args...)...)
	cmd.Env = append(os.Environ(), fmt.Sprint("GOMAXPROCS=", 1+strings.Count(cores, ",")))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &process{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

// stop ends the program and waits for it. It ignores the exit status: some servers fail when their clients disconnect.
func (p *process) stop() {
	p.in.Close()
	p.cmd.Wait()
}

// line returns the next line for the harness, without the "= " that marks it: some of the servers print other lines.
func (p *process) line() (string, error) {
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			return "", err
		}
		if answer, ok := strings.CutPrefix(line, "= "); ok {
			return strings.TrimSpace(answer), nil
		}
	}
}

// ask sends a line and returns the answer.
func (p *process) ask(question string) (string, error) {
	if _, err := fmt.Fprintln(p.in, question); err != nil {
		return "", err
	}
	return p.line()
}

// memory returns the heap in use and the resident memory, in bytes. The heap is 0 if the program does not count it.
func (p *process) memory() (heap, resident float64, err error) {
	answer, err := p.ask("memory")
	if err != nil {
		return 0, 0, err
	}
	heap, err = strconv.ParseFloat(answer, 64)
	if err != nil {
		return 0, 0, err
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(statm))[1], 64)
	return heap, pages * float64(os.Getpagesize()), err
}

// cpu returns the processor time that the threads of the process have used, in nanoseconds.
func (p *process) cpu() (total float64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	for _, name := range threads {
		if stat, err := os.ReadFile(name); err == nil {
			ns, _ := strconv.ParseFloat(strings.Fields(string(stat))[0], 64)
			total += ns
		}
	}
	return total
}
