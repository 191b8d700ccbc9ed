package runtime

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScenarios plays each file of testdata: a line that starts with > is a
// command, the lines after it are what the rules decided (records, prefixed
// with +) and what follows from it (effects, prefixed with =).
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := playFile(t, string(want), false)
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("the rules decide otherwise now (go test ./runtime -run TestScenarios -update rewrites, then review):\n%s", firstDifference(string(want), got))
			}
		})
	}
}

// TestScenariosWithoutMemory: an owner that holds no body decides and sends what
// one with all of them does.
func TestScenariosWithoutMemory(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, f := range files {
		want, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := playFile(t, string(want), true); got != string(want) {
			t.Errorf("%s: without memory\n%s", f, firstDifference(string(want), got))
		}
	}
}

func playFile(t *testing.T, text string, lean bool) string {
	var out strings.Builder
	w := newWorld(t)
	w.lean, w.count = lean, true
	w.setPartitions(1)
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, ">"):
			w.out.Reset()
			w.command(strings.TrimSpace(line[1:]))
			fmt.Fprintln(&out, line)
			out.WriteString(w.out.String())
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		}
	}
	return out.String()
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		x, y := "(end)", "(end)"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d\n  want %s\n  got  %s", i+1, x, y)
		}
	}
	return ""
}
