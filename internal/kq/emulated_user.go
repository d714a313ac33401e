//go:build linux && kqemu && !kqemu_pipe

package kq

// HasUser is true, so that the tests cover systems with user events.
const HasUser = true
