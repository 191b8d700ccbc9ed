package parts

import (
	"os"
	"testing"
)

// Need goes on when err is nil. Else what the test needs cannot be had: the test is
// skipped loudly, and fails when CI=true.
func Need(t testing.TB, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s cannot be had, and CI=true: %v", what, err)
	default:
		t.Skipf("SKIPPED: this needs %s: %v", what, err)
	}
}
