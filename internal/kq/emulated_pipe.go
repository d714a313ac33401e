//go:build linux && kqemu && kqemu_pipe

package kq

// HasUser is false, so that the tests cover systems without user events.
const HasUser = false
