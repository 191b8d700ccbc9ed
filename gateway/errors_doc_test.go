package gateway

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// codes reads the error codes out of the source, so that none can be forgotten.
func codes(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../runtime/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			if name, ok := value.Type.(*ast.Ident); !ok || name.Name != "Code" {
				continue
			}
			code, err := strconv.Unquote(value.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[code] = true
		}
	}
	if len(found) < 40 {
		t.Fatalf("only %d codes found in runtime/errors.go; does it still declare them as constants of type Code?", len(found))
	}
	return found
}

func TestEachCodeHasAPageAndEachPageACode(t *testing.T) {
	index, err := os.ReadFile("../docs/errors/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../docs/errors/*.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, page := range pages {
		if name := strings.TrimSuffix(filepath.Base(page), ".md"); name != "README" {
			have[name] = true
		}
	}
	want := codes(t)
	for code := range want {
		if !have[code] {
			t.Errorf("docs/errors/%s.md is missing", code)
		}
		if !strings.Contains(string(index), "("+code+".md)") {
			t.Errorf("docs/errors/README.md does not link to %s.md", code)
		}
	}
	for page := range have {
		if !want[page] {
			t.Errorf("docs/errors/%s.md is about no code", page)
			continue
		}
		text, err := os.ReadFile("../docs/errors/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		start := "# " + page + "\n\nHTTP status " + strconv.Itoa(runtime.Code(page).Status()) + ". "
		if !strings.HasPrefix(string(text), start) || len(strings.Fields(string(text))) < 20 {
			t.Errorf("docs/errors/%s.md must start with %q and say something", page, start)
		}
	}
}
