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

func TestFeatureTableNamesTestsThatExist(t *testing.T) {
	table, err := os.ReadFile(filepath.FromSlash("docs/coming-from.md"))
	require.NoError(t, err)
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
	named := regexp.MustCompile(`\b(?:Test|Example|Benchmark|Fuzz)[A-Z]\w*`).FindAllString(string(table), -1)
	assert.Greater(t, len(named), 100)
	for _, name := range named {
		assert.True(t, defined[name], "%s does not exist", name)
	}
}
