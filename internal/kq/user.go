//go:build darwin || dragonfly || freebsd

package kq

import "golang.org/x/sys/unix"

// HasUser: there are events that a program makes itself.
const (
	HasUser = true
	User    = unix.EVFILT_USER
	Trigger = unix.NOTE_TRIGGER
)
