package guard

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
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

// A process table that cannot be read, or not whole, is no empty tree.
func TestUnreadableTableIsNotEmpty(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	empty := t.TempDir() // where /proc was unmounted
	torn := t.TempDir()
	if err := os.Mkdir(filepath.Join(torn, strconv.Itoa(os.Getpid())), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(torn, "17", "stat"), 0o755); err != nil { // reading it fails
		t.Fatal(err)
	}
	for _, table := range []string{gone, empty, torn} {
		if tree, err := descendantsIn(table, os.Getpid()); err == nil {
			t.Errorf("%s: %v and no error", table, tree)
		}
	}
	if tree, err := descendants(os.Getpid()); err != nil {
		t.Errorf("%v, %v", tree, err)
	}
}

// What cannot be seen is not called ended, and is not waited for without an end.
func TestKillOfAnUnseenTree(t *testing.T) {
	unseen := errors.New("unseen")
	if got := beyondReach(nil, unseen); !errors.Is(got, unseen) {
		t.Errorf("%v", got)
	}
	if got := beyondReach([]proc{{pid: 1, denied: true}, {pid: 2}}, unseen); got != nil {
		t.Errorf("one that can be killed is left, and %v", got)
	}
}
