//go:build !linux

package tcpserver_test

// playRole returns false: the benchmarks that compare servers run on Linux only.
func playRole() bool { return false }
