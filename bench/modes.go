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
	largeMessages bool     // messages larger than the buffer of a goroutine by default
	idle          int      // connections whose memory is measured; 0: speed is
	http          bool     // the load is wrk
	manyConns     bool     // 15,000 connections
	ramp          bool     // what counts is the first answer of each connection, one run a round
	burst         int      // so many runs a round, on two cores; what counts is the first answer of each connection
}

func (m mode) title() string { return m.name }

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
		if s.http == m.http && !(s.slowToConnect && (m.manyConns || m.ramp)) && (s.takesWork || m.burst == 0) {
			some = append(some, s)
		}
	}
	return some
}
