package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A server is a program under test.
type server struct {
	name    string
	program string   // the directory of its source, below servers
	args    []string // of the program
	buffer  bool     // it takes -buffer, for large messages
	http    bool     // it speaks HTTP, which is a mode of its own
	few     bool     // opening many connections takes it minutes: left out of the modes with 15,000
	works   bool     // it takes -work and uses as many cores as it has
}

func (s server) title() string { return s.name }

var allServers = []server{
	{name: "C", program: "c"},
	{name: "tcpserver handlers", program: "tcpserver", args: []string{"-style", "handlers"}, works: true},
	{name: "tcpserver blocking", program: "tcpserver", args: []string{"-style", "blocking"}, buffer: true, works: true},
	{name: "net", program: "std", buffer: true, works: true},
	{name: "gnet", program: "gnet", works: true},
	{name: "nbio", program: "nbio"},
	{name: "netpoll", program: "netpoll"},
	{name: "evio", program: "evio"},
	{name: "Qt", program: "qt", few: true},
	{name: "net http", program: "std", args: []string{"-style", "http"}, http: true},
	{name: "tcpserver http", program: "tcpserver", args: []string{"-style", "http"}, http: true},
}

// A mode is a kind of load.
type mode struct {
	name  string
	load  []string // arguments of the load
	large bool     // messages larger than the buffer of a goroutine by default
	idle  int      // connections whose memory is measured; 0: speed is
	http  bool     // the load is wrk
	many  bool     // 15,000 connections
	join  bool     // what counts is the first answer of each connection, one run a round
	burst int      // so many runs a round, on two cores; what counts is the first answer of each connection
}

func (m mode) title() string { return m.name }

var allModes = []mode{
	{name: "ping-pong 1", load: []string{"-conns", "1"}},
	{name: "ping-pong 100", load: []string{"-conns", "100"}},
	{name: "ping-pong 1000", load: []string{"-conns", "1000"}},
	{name: "ping-pong 5000", load: []string{"-conns", "5000"}},
	{name: "ping-pong 15000", load: []string{"-conns", "15000"}, many: true},
	{name: "pipelined", load: []string{"-conns", "50", "-depth", "16"}},
	{name: "streaming", load: []string{"-conns", "4", "-size", "65536"}, large: true},
	{name: "connect-echo-close", load: []string{"-conns", "8", "-churn"}},
	{name: "accept", load: []string{"-conns", "5000", "-join"}, join: true},
	{name: "burst", load: []string{"-conns", "1000", "-burst"}, burst: 10},
	{name: "http", http: true},
	{name: "beside 15000 idle", load: []string{"-conns", "1", "-idle", "15000"}, many: true},
	{name: "idle 15000", load: []string{"-conns", "0", "-idle", "15000"}, idle: 15000, many: true},
}

// available leaves out what this machine has no load for.
func available(modes []mode) (some []mode) {
	_, err := exec.LookPath("wrk")
	for _, m := range modes {
		if m.http && err != nil {
			fmt.Fprintln(os.Stderr, "http is left out:", err)
			continue
		}
		some = append(some, m)
	}
	return some
}

// servers returns those of all that the mode is for.
func (m mode) servers(all []server) (some []server) {
	for _, s := range all {
		if s.http == m.http && !(s.few && (m.many || m.join)) && (s.works || m.burst == 0) {
			some = append(some, s)
		}
	}
	return some
}

// build makes the programs and returns those servers that could be built.
func build(dir string, servers []server) ([]server, error) {
	if err := command("go", "build", "-o", filepath.Join(dir, "load"), "./load"); err != nil {
		return nil, err
	}
	var built []server
	done := map[string]bool{}
	for _, s := range servers {
		target := filepath.Join(dir, s.program)
		if !done[s.program] {
			var err error
			switch s.program {
			case "c":
				err = command("gcc", "-O2", "-o", target, "servers/c/echo.c")
			case "qt":
				if err = buildQt(target); err != nil {
					fmt.Fprintln(os.Stderr, "Qt is left out:", err)
					continue
				}
			default:
				err = command("go", "build", "-o", target, "./servers/"+s.program)
			}
			if err != nil {
				return nil, err
			}
			done[s.program] = true
		}
		built = append(built, s)
	}
	return built, nil
}

// buildQt needs the headers of Qt 6 or 5: Debian's qt6-base-dev or qtbase5-dev.
func buildQt(target string) error {
	for _, module := range []string{"Qt6Network", "Qt5Network"} {
		flags, err := exec.Command("pkg-config", "--cflags", "--libs", module).Output()
		if err != nil {
			continue
		}
		args := append([]string{"-O2", "-fPIC", "-o", target, "servers/qt/echo.cpp"}, strings.Fields(string(flags))...)
		return command("g++", args...)
	}
	return fmt.Errorf("neither Qt6Network nor Qt5Network is installed")
}

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}
