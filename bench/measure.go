package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A sample is what one round shows of one server. Durations are microseconds, memory is bytes a connection.
type sample struct {
	messages             float64
	rate, p50, p99, p999 float64
	longest              float64 // of all round trips or first answers
	late, runs           float64 // bursts with a first answer later than lateFirst, and all
	cpu                  float64 // processor time of the server a message
	heap, resident       float64
}

const (
	// burstWork makes sure that both loops have more to do than they can, as long as the burst lasts.
	burstWork = "20us"
	lateFirst = 100e3 // microseconds
)

// measure starts the server and its load, and runs a warm-up and a round.
func measure(dir string, s server, m mode, seconds float64) (got sample, err error) {
	args := s.args
	if s.takesBuffer && m.largeMessages {
		args = append(args[:len(args):len(args)], "-buffer", "65536")
	}
	serverCores, loadCores := "0", "1"
	if m.burst > 0 {
		serverCores, loadCores = "0,1", "0,1"
		args = append(args[:len(args):len(args)], "-work", burstWork)
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
	heap, resident, err := srv.memory()
	if err != nil {
		return got, err
	}
	load, err := start(loadCores, filepath.Join(dir, "load"),
		append([]string{"-addr", addr, "-seconds", fmt.Sprint(seconds)}, m.load...)...)
	if err != nil {
		return got, err
	}
	defer load.stop()
	if _, err := load.line(); err != nil {
		return got, err
	}
	if m.idle > 0 {
		heapNow, residentNow, err := srv.memory()
		n := float64(m.idle)
		return sample{heap: (heapNow - heap) / n, resident: (residentNow - resident) / n}, err
	}
	if m.ramp || m.burst > 0 {
		return measureFirst(load, max(m.burst, 1))
	}
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

// parse reads an answer of the load.
func parse(answer string) (got sample, err error) {
	_, err = fmt.Sscanf(answer, "messages=%g rate=%g p50=%g p99=%g p999=%g max=%g",
		&got.messages, &got.rate, &got.p50, &got.p99, &got.p999, &got.longest)
	return got, err
}

// measureFirst has the load run so many times. What it answers is of the first message of each connection.
func measureFirst(load *process, runs int) (got sample, err error) {
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

// measureHTTP has wrk ask for a short page over 50 connections, for its shortest time: a second.
func measureHTTP(srv *process, addr string) (got sample, err error) {
	before := srv.cpu()
	out, err := exec.Command("taskset", "-c", "1", "wrk", "-t1", "-c50", "-d1s", "--latency", "http://"+addr+"/").Output()
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
		return got, fmt.Errorf("wrk got no answer")
	}
	got.cpu = used / 1e3 / requests
	return got, nil
}

// microseconds reads a duration as wrk writes it: 1.20ms.
func microseconds(s string) float64 {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return float64(d.Nanoseconds()) / 1e3
}

// A process is a program that answers lines with lines, and ends with its input.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a program on the cores of a list, with as many processors as it has.
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

// stop is not interested in how the program ends: some servers log that their clients have gone.
func (p *process) stop() {
	p.in.Close()
	p.cmd.Wait()
}

// line returns the next line that is meant for the harness: one that begins with "= ".
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

func (p *process) ask(question string) (string, error) {
	if _, err := fmt.Fprintln(p.in, question); err != nil {
		return "", err
	}
	return p.line()
}

// memory returns the heap in use, 0 if the program does not count it, and the resident memory, in bytes.
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

// cpu returns the processor time that all threads have used so far, in nanoseconds.
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
