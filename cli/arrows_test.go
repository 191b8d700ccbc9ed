package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path of this repository; it stands in go.mod and here.
const module = "github.com/karmesh/kar/"

// arrows says which rooms a room may import. Imports point down, so that a
// room can be understood, tested and replaced with only what is below it; rooms
// on one level meet in cli alone. A room that is missing here is a finding too:
// a new one gets its place before it gets code.
func arrows() map[string][]string {
	return map[string][]string{
		"runtime":                     {},
		"runtime/wire":                {"runtime"},
		"runtime/embedded":            {"runtime"},
		"runtime/kafka":               {"runtime"},
		"runtime/redis":               {"runtime"},
		"runtime/engine":              {"runtime"},
		"runtime/runtimetest":         {"runtime", "runtime/engine"},
		"runtime/runtimetest/parts":   {},
		"runtime/runtimetest/mutants": {},
		"activator/tunnel":            {"runtime"},
		"activator/host":              {"runtime", "activator/tunnel"},
		"activator":                   {"runtime", "activator/tunnel"},
		"gateway":                     {"runtime", "runtime/engine"},
		"gateway/doors":               {"runtime"},
		"gateway/peer":                {"runtime", "runtime/engine"},
		"events":                      {"runtime", "runtime/engine"},
		"cli/guard":                   {"runtime"},
		"cli/background":              {"runtime"},
		"cli": {
			"runtime", "runtime/engine", "runtime/embedded", "runtime/kafka", "runtime/redis", "activator", "activator/host",
			"gateway", "gateway/doors", "gateway/peer", "events", "cli/guard", "cli/background",
		},
		"cli/kar": {"cli"},
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// list is `go list -json` for all packages of the rooms, without their tests.
func list(t *testing.T) (pkgs []goPackage) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "./...")
	cmd.Dir = ".."
	var errout bytes.Buffer
	cmd.Stderr = &errout
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &errout)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImportsPointDown(t *testing.T) {
	allowed := arrows()
	for _, p := range list(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		if top, _, _ := strings.Cut(room, "/"); top == "docs" || top == "examples" || top == "bench" || top == "sdk" || top == "deploy" {
			continue // checks of texts; programs that use KAR from outside, or measure all of it
		}
		may, known := allowed[room]
		if !known {
			t.Errorf("%s has no place in arrows(): say what it may import", room)
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(may, other) {
				t.Errorf("%s imports %s, which is not below it", room, other)
			}
		}
	}
}

// TestRulesUseTheStandardLibraryOnly: the package runtime must run anywhere,
// and nothing in it may act on the world.
func TestRulesUseTheStandardLibraryOnly(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != strings.TrimSuffix(module, "/")+"/runtime" {
			continue
		}
		for _, imported := range p.Imports {
			first, _, _ := strings.Cut(imported, "/")
			if strings.Contains(first, ".") {
				t.Errorf("runtime imports %s, which is not in the standard library", imported)
			}
			switch imported {
			case "os", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "syscall", "os/exec":
				t.Errorf("runtime imports %s: it decides, the engine acts", imported)
			}
		}
		return
	}
	t.Error("the package runtime was not found")
}

// TestRulesAreSequential: a core belongs to one goroutine, and what it decides
// depends on its inputs only.
func TestRulesAreSequential(t *testing.T) {
	files, err := filepath.Glob("../runtime/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of the package runtime: %v", err)
	}
	set := token.NewFileSet()
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.ChanType:
				t.Errorf("%s: goroutines and channels belong to the engine", set.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer"}, n.Sel.Name) {
					t.Errorf("%s: time comes in as an argument", set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}
