package main

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// TestNamedBugsApply: each bug written by hand still finds its text.
func TestNamedBugsApply(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	ms, err := named(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, m.mutated(), 0); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// TestOperators: what is planted in a few lines.
func TestOperators(t *testing.T) {
	src := `package p
func f(a int) bool {
	if a == 1 && g() {
		h(t{x: a, s: "two words"})
		return true
	}
	slog.Info("no bug here", 7)
	a++
	return false
}
`
	ms, err := mutantsIn("p.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range ms {
		got = append(got, m.op+" "+m.summary())
		if _, err := parser.ParseFile(token.NewFileSet(), "p.go", m.mutated(), 0); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	want := []string{
		"left out a++ → ",
		"other answer false → true",
		"condition false a == 1 && g() → false && (a == 1 && g())",
		"condition true a == 1 && g() → true || (a == 1 && g())",
		"operator && → ||",
		"operator == → !=",
		"number 1 → 2",
		"left out h(t{x: a, s: \"two words\"}) → ",
		"other answer true → false",
		"field forgotten x: a, → ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("planted\n%s", strings.Join(got, "\n"))
	}
}

// TestChoiceIsStable: a change elsewhere plants the same bugs.
func TestChoiceIsStable(t *testing.T) {
	src := "package p\nfunc f(a int) { a++; a--; a = a + 2; g(a) }\n"
	one, err := mutantsIn("p.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	two, err := mutantsIn("p.go", []byte(strings.Replace(src, "func f", "// more\nfunc g(int) { g(1) }\nfunc f", 1)))
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]bool{}
	for _, m := range two {
		places[m.place] = true
	}
	for _, m := range choose(one, "1", 3) {
		if !places[m.place] {
			t.Errorf("%s is another one", m)
		}
	}
}
