package examples_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// need skips the test when a program is not there, and says which; under
// CI=true it fails, so that nothing is left out unseen.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed, and CI=true", p)
			}
			t.Skipf("SKIPPED: %s is not installed, so this example was not run", p)
		}
	}
}

// cached gives the folder in which something made from the given files is kept
// between runs; it is filled by fill when it is new.
func cached(t *testing.T, kind string, fill func(dir string), files ...string) string {
	t.Helper()
	sum := sha256.New()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	root := os.Getenv("KAR_TEST_CACHE")
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		root = filepath.Join(cache, "kar-test")
	}
	dir := filepath.Join(root, kind+"-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err == nil {
		return dir
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fill(dir)
	if err := os.WriteFile(filepath.Join(dir, ".complete"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command runs a program of the installation in a folder.
func command(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// node copies an example to a folder of its own beside its installed packages and returns it.
func node(t *testing.T, example string) string {
	t.Helper()
	need(t, "node", "npm")
	manifest := filepath.Join(example, "package.json")
	installed := cached(t, "npm", func(dir string) {
		b, err := os.ReadFile(manifest)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "package.json"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		command(t, dir, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
	}, manifest)
	dir := t.TempDir()
	copyTree(t, example, dir)
	if err := os.Symlink(filepath.Join(installed, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// python makes a virtual environment from the requirements and returns its interpreter.
func python(t *testing.T, requirements string) string {
	t.Helper()
	need(t, "python3")
	dir := cached(t, "pip", func(dir string) {
		command(t, dir, "python3", "-m", "venv", "venv")
		list, err := filepath.Abs(requirements)
		if err != nil {
			t.Fatal(err)
		}
		command(t, dir, filepath.Join(dir, "venv", "bin", "pip"), "install", "-q", "-r", list)
	}, requirements)
	return filepath.Join(dir, "venv", "bin", "python")
}

// copyTree copies the files of a folder; what an installation left there is not copied.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "node_modules" || n == "target" || n == "__pycache__" {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
