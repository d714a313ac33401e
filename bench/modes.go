package main

import (
	"fmt"
	"os"
	"os/exec"
)

// A mode is a kind of load.
type mode struct {
	name          string
	load          []string // arguments of the load
	largeMessages bool     // messages larger than the default buffer of a goroutine
	idle          int      // connections whose memory is measured
	http          bool     // the load is wrk
	manyConns     bool     // 15,000 connections
	ramp          bool     // one run per round, which measures the first answer of each connection
	burst         int      // runs per round, on two cores, which measure the first answer of each connection
}

func (m mode) title() string { return m.name }

// throughput reports whether the mode measures messages per second.
func (m mode) throughput() bool { return m.idle == 0 && m.burst == 0 && !m.ramp }

var allModes = []mode{
	{name: "ping-pong 1", load: []string{"-conns", "1"}},
	{name: "ping-pong 100", load: []string{"-conns", "100"}},
	{name: "ping-pong 1000", load: []string{"-conns", "1000"}},
	{name: "ping-pong 5000", load: []string{"-conns", "5000"}},
	{name: "ping-pong 15000", load: []string{"-conns", "15000"}, manyConns: true},
	{name: "pipelined", load: []string{"-conns", "50", "-depth", "16"}},
	{name: "streaming", load: []string{"-conns", "4", "-size", "65536"}, largeMessages: true},
	{name: "connect-echo-close", load: []string{"-conns", "8", "-churn"}},
	{name: "accept", load: []string{"-conns", "5000", "-ramp"}, ramp: true},
	{name: "burst", load: []string{"-conns", "1000", "-burst"}, burst: 10},
	{name: "http", http: true},
	{name: "beside 15000 idle", load: []string{"-conns", "1", "-idle", "15000"}, manyConns: true},
	{name: "idle 15000", load: []string{"-conns", "0", "-idle", "15000"}, idle: 15000, manyConns: true},
}

// available leaves out http if this machine does not have wrk, its load.
func available(modes []mode) (some []mode) {
	_, err := exec.LookPath("wrk")
	for _, m := range modes {
		if m.http && err != nil {
			fmt.Fprintln(os.Stderr, "leaving out http:", err)
			continue
		}
		some = append(some, m)
	}
	return some
}

// servers returns the servers that take part in the mode.
func (m mode) servers(all []server) (some []server) {
	for _, s := range all {
		if s.http == m.http && !(s.slowToConnect && (m.manyConns || m.ramp)) && (s.takesWork || m.burst == 0) {
			some = append(some, s)
		}
	}
	return some
}
