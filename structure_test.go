package tcpserver_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These tests keep the structure that CONTRIBUTING.md and docs/design.md describe.

// goFiles calls f for each Go file of the repository.
func goFiles(t *testing.T, f func(path string, source []byte)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := os.ReadFile(path)
		f(filepath.ToSlash(path), source)
		return err
	}))
}

func parse(t *testing.T, path string, source []byte) (*token.FileSet, *ast.File) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
	require.NoError(t, err)
	return set, file
}

func TestOnlyThePollersNameTheSelector(t *testing.T) {
	named := 0
	goFiles(t, func(path string, source []byte) {
		if strings.Contains(path, "/") {
			return
		}
		_, file := parse(t, path, source)
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Name == "selector" {
				named++
				assert.Regexp(t, `^poll`, path)
			}
			return true
		})
	})
	assert.Positive(t, named)
}

func TestSystemCallsDoNotKnowTheServer(t *testing.T) {
	const module = `"github.com/pullaccept/tcpserver`
	files := 0
	goFiles(t, func(path string, source []byte) {
		if !strings.HasPrefix(path, "internal/sys/") || path == "internal/sys/sim.go" {
			return
		}
		files++
		_, file := parse(t, path, source)
		for _, spec := range file.Imports {
			assert.False(t, strings.HasPrefix(spec.Path.Value, module), "%s imports %s", path, spec.Path.Value)
		}
	})
	assert.Positive(t, files)
}

func TestPortableFilesDoNotImportSysUnix(t *testing.T) {
	allowed := regexp.MustCompile(`^(poll_\w+|\w+_test)\.go$`)
	goFiles(t, func(path string, source []byte) {
		if strings.Contains(path, "/") || allowed.MatchString(path) {
			return
		}
		_, file := parse(t, path, source)
		for _, spec := range file.Imports {
			assert.NotContains(t, spec.Path.Value, "golang.org/x/sys", path)
		}
	})
}

func TestContributingListsTheFilesOfTheRoot(t *testing.T) {
	page, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	var listed []string
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			listed = append(listed, regexp.MustCompile(`\b\w+\.go\b`).FindAllString(cells[1], -1)...)
		}
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	files = slices.DeleteFunc(files, func(file string) bool { return strings.HasSuffix(file, "_test.go") })
	assert.ElementsMatch(t, files, listed)
}

func TestFunctionsAndLinesAreShort(t *testing.T) {
	const maxFunction, maxLine, tab = 70, 120, "    "
	goFiles(t, func(path string, source []byte) {
		set, file := parse(t, path, source)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1
				assert.LessOrEqual(t, lines, maxFunction, "%s: %s", path, f.Name.Name)
			}
		}
		number := 0
		for line := range strings.Lines(string(source)) {
			number++
			line = strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", tab)
			assert.LessOrEqual(t, len([]rune(line)), maxLine, "%s:%d", path, number)
		}
	})
}
