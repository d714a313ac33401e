//go:build netbsd || openbsd

package kq

// HasUser reports whether there are user events, which a program triggers itself. Here there are none: the system
// lacks them, or golang.org/x/sys does not define them.
const (
	HasUser = false
	User    = 0
	Trigger = 0
)
