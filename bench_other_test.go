//go:build !linux

package tcpserver_test

// playRole is for the benchmarks that compare servers, which run on Linux.
func playRole() bool { return false }
