package gateway

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryMetricIsExplained compares /metrics with docs/operations.md, both ways.
func TestEveryMetricIsExplained(t *testing.T) {
	b, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	w := newWorld(t)
	w.send("GET", "//kar/health", "") // makes the first series of the histogram
	_, text, _ := w.send("GET", "//metrics", "")
	served := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (kar_\S+) `).FindAllStringSubmatch(text, -1) {
		served[m[1]] = true
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/operations.md does not explain %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`(kar_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if !served[m[1]] {
			t.Errorf("docs/operations.md explains %s, which is not there", m[1])
		}
	}
	if len(served) < 40 {
		t.Errorf("%d metrics", len(served))
	}
}
