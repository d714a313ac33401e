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
	for page, atLeast := range map[string]int{"coming-from.md": 100, "platforms.md": 20} {
		text, err := os.ReadFile(filepath.Join("docs", page))
		require.NoError(t, err)
		named := reference.FindAllString(string(text), -1)
		assert.Greater(t, len(named), atLeast)
		for _, name := range named {
			assert.True(t, defined[name], "%s: %s does not exist", page, name)
		}
	}
}
