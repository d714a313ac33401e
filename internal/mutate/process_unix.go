//go:build unix

package main

import (
	"context"
	"os/exec"
	"strconv"
	"syscall"
)

// command returns a command whose process leads a group of its own. The end of ctx kills the group. If limit is not 0,
// a process of the group has an address space of at most so many KiB, where the system supports that.
func command(ctx context.Context, limit int, name string, args ...string) *exec.Cmd {
	if limit > 0 {
		const script = `ulimit -v "$0" 2>/dev/null; exec "$@"`
		name, args = "sh", append([]string{"-c", script, strconv.Itoa(limit), name}, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = killDelay
	return cmd
}

func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
