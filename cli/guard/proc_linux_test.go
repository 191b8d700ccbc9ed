package guard

import (
	"os"
	"path/filepath"
	"testing"
)

// A /proc of another pid namespace, or none, is no ground to stand on.
func TestProcOfAnotherNamespace(t *testing.T) {
	if err := checkProc("/proc"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if checkProc(dir) == nil {
		t.Error("no /proc was taken for one")
	}
	if err := os.Symlink("1", filepath.Join(dir, "self")); err != nil {
		t.Fatal(err)
	}
	if checkProc(dir) == nil {
		t.Error("the /proc of another namespace was taken for our own")
	}
}
