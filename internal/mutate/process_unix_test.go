//go:build unix

package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGroupEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := command(ctx, addressLimit, "sh", "-c", "sleep 60 & wait").CombinedOutput() // reads until sleep ends
	require.Error(t, err)
	assert.Less(t, time.Since(begin), killDelay)
}

func TestAddressSpaceIsLimited(t *testing.T) {
	out, err := command(t.Context(), 1<<20, "sh", "-c", "ulimit -v").Output()
	require.NoError(t, err)
	if got := string(out); got != "unlimited\n" { // where the system has no such limit
		assert.Equal(t, "1048576\n", got)
	}
}
