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
	ms, err := mutantsIn(map[string][]byte{"p.go": []byte(src)})
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

// TestNoBugs: changes after which a program does the same are not planted.
func TestNoBugs(t *testing.T) {
	src := `package p
const none = 0
type q struct{ list []*int; at, max int }
func (x *q) f(a int) {
	x.list[0] = nil
	x.list = x.list[1:]
	h(make([]byte, a, 80), make(map[int]int, 4), q{at: none})
	if a > x.max {
		x.max = a
	}
	if a == x.at {
		return
	}
}
func sizeHint() int { return 160 }
`
	ms, err := mutantsIn(map[string][]byte{"p.go": []byte(src)})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		switch got := m.op + " " + m.summary(); {
		case strings.HasPrefix(got, "condition "), got == "operator == → !=", strings.HasPrefix(got, "left out x.list = "), strings.HasPrefix(got, "left out h("), strings.HasPrefix(got, "left out x.max"), got == "number 0 → 1", got == "number 1 → 2":
		default:
			t.Errorf("planted %s", got)
		}
	}
}

// TestChoiceIsStable: a change elsewhere plants the same bugs.
func TestChoiceIsStable(t *testing.T) {
	src := "package p\nfunc f(a int) { a++; a--; a = a + 2; g(a) }\n"
	one, err := mutantsIn(map[string][]byte{"p.go": []byte(src)})
	if err != nil {
		t.Fatal(err)
	}
	two, err := mutantsIn(map[string][]byte{"p.go": []byte(strings.Replace(src, "func f", "// more\nfunc g(int) { g(1) }\nfunc f", 1))})
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
