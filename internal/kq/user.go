//go:build darwin || dragonfly || freebsd

package kq

import "golang.org/x/sys/unix"

// HasUser reports whether there are user events, which a program triggers itself.
const (
	HasUser = true
	User    = unix.EVFILT_USER
	Trigger = unix.NOTE_TRIGGER
)
