//go:build !unix

package main

import (
	"context"
	"os/exec"
)

func command(ctx context.Context, _ int, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = killDelay
	return cmd
}

func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }
