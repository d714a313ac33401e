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
	name          string
	program       string   // the directory of its source in servers
	args          []string // of the program
	takesBuffer   bool     // the program has the flag -buffer, for large messages
	http          bool     // it is an HTTP server, for the mode http alone
	slowToConnect bool     // opening many connections takes minutes, so it is not in modes with 15,000 or in accept
	takesWork     bool     // the program has the flag -work, and uses all its cores
}

func (s server) title() string { return s.name }

var allServers = []server{
	{name: "C", program: "c"},
	{name: "tcpserver handlers", program: "tcpserver", args: []string{"-style", "handlers"}, takesWork: true},
	{name: "tcpserver blocking", program: "tcpserver", args: []string{"-style", "blocking"},
		takesBuffer: true, takesWork: true},
	{name: "net", program: "std", takesBuffer: true, takesWork: true},
	{name: "gnet", program: "gnet", takesWork: true},
	{name: "nbio", program: "nbio"},
	{name: "netpoll", program: "netpoll"},
	{name: "evio", program: "evio"},
	{name: "Qt", program: "qt", slowToConnect: true},
	{name: "net http", program: "std", args: []string{"-style", "http"}, http: true},
	{name: "tcpserver http", program: "tcpserver", args: []string{"-style", "http"}, http: true},
}

// build builds the load and the servers. It returns the servers without Qt's if that cannot be built.
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
					fmt.Fprintln(os.Stderr, "leaving out Qt:", err)
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

// buildQt builds the server of Qt with Qt 6 or else Qt 5: Debian's qt6-base-dev or qtbase5-dev.
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
