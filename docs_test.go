package tcpserver_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDocsNameTestsThatExist(t *testing.T) {
	defined := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Example|Benchmark|Fuzz)\w*)\(`)
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(source, -1) {
			defined[string(m[1])] = true
		}
		return err
	}))
	reference := regexp.MustCompile(`\b(?:Test|Example|Benchmark|Fuzz)[A-Z]\w*`)
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	named := map[string]int{}
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md", "examples/README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, name := range reference.FindAllString(string(text), -1) {
			named[filepath.Base(page)]++
			assert.True(t, defined[name], "%s: %s does not exist", page, name)
		}
	}
	// The pages that promise something say which tests check it.
	assert.Greater(t, named["coming-from.md"], 100)
	assert.Greater(t, named["guarantees.md"], 100)
	assert.Greater(t, named["platforms.md"], 20)
}
