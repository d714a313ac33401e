//go:build netbsd || openbsd

package kq

// HasUser: the system has no events that a program makes itself, or x/sys does not know them.
const (
	HasUser = false
	User    = 0
	Trigger = 0
)
