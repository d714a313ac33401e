//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package tcpserver

const SoReusePort = soReusePort
