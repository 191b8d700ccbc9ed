package runtime

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestCodes: clients rely on the status of each code; testdata/codes says what it
// is, and that nobody has forgotten one.
func TestCodes(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	add := func(c Code) {
		if c.Hint() == "" {
			t.Errorf("%s has no hint", c)
		}
		fmt.Fprintf(&got, "%s %d\n", c, c.Status())
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value); err == nil {
				add(Code(s))
			}
		}
		return true
	})
	add("a code that nobody knows")
	if *update {
		if err := os.WriteFile("testdata/codes", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/codes")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Error("the codes are not what they were (-update writes them anew):", firstDifference(string(want), got.String()))
	}
}
