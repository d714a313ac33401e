// Package toolkits has no code. Its directories have a program for each toolkit that docs/gui.md has a section of.
package toolkits

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// code is a block of it in docs/gui.md, with what precedes it: the file that it is from, or that it is not compiled.
var code = regexp.MustCompile("(?s)<!-- ([^\n]+) -->\n```go\n(.*?)```\n")

func TestCodeInDocumentIsInTheProgramsThatAreTested(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "gui.md"))
	require.NoError(t, err)
	blocks := code.FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, strings.Count(string(page), "```go"), "each has its source")
	compiled := 0
	for _, block := range blocks {
		source, text := block[1], block[2]
		if source == "not compiled" {
			continue
		}
		file, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(source)))
		require.NoError(t, err)
		require.Contains(t, string(file), text, source)
		compiled++
	}
	require.NotZero(t, compiled)
}
