//go:build linux && kqemu && !kqemu_pipe

package kq

const HasUser = true
