package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMapNamesEveryFile: the file maps of architecture.md name each file of the
// rules and of the engine, and none that is gone.
func TestMapNamesEveryFile(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`(?:[a-z]+/)*([a-z0-9_]+\\.go)`").FindAllStringSubmatch(string(page), -1) {
		named[m[1]] = true
	}
	there := map[string]bool{}
	for _, room := range []string{"runtime", "runtime/engine"} {
		files, err := filepath.Glob(filepath.Join("..", room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(room, err)
		}
		for _, f := range files {
			name := filepath.Base(f)
			there[name] = true
			if !strings.HasSuffix(name, "_test.go") && !named[name] {
				t.Errorf("architecture.md does not say what %s/%s is about", room, name)
			}
		}
	}
	for name := range named {
		if !there[name] {
			t.Errorf("architecture.md names %s, which is not there", name)
		}
	}
}
