package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests in this file stop processes of a component with SIGSTOP while
// another component could take over its work.

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func send(t *testing.T, sig syscall.Signal, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatalf("%v to %d: %v", sig, pid, err)
		}
	}
}

// TestStoppedChildIsNotRetried: a child that is stopped, with a sidecar that
// lives, has not ended. Nothing proves otherwise, so nobody else gets its work.
func TestStoppedChildIsNotRetried(t *testing.T) {
	const lease = 500 * time.Millisecond
	u, dir := newUser(t, "KAR_LEASE="+lease.String()), t.TempDir()
	_, app, _ := u.component(dir)
	call := u.start("invoke", "-app", "a", "T", "x", "write")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	u.component(dir)
	send(t, syscall.SIGSTOP, app)
	t.Cleanup(func() { _ = syscall.Kill(app, syscall.SIGCONT) })
	touch(t, filepath.Join(dir, "leave"))
	// Owners count a silent host lost a second after its lease.
	begin := time.Now()
	eventually(t, "lease and margin have passed", func() bool { return time.Since(begin) > lease+2*time.Second })
	if exists(dir, "attempt-2") || exists(dir, "writes-1") || call.out.String() != "" {
		t.Fatal("something went on, or was done again, while the child was stopped")
	}
	send(t, syscall.SIGCONT, app)
	if got := call.wait(); got.code != 0 || got.out != "\"1\"\n" {
		t.Errorf("got %+v", got)
	}
	if exists(dir, "attempt-2") {
		t.Error("it was run twice")
	}
}

// TestStoppedTreeGetsNothingIn: a whole component that is stopped for longer
// than its lease is counted lost, and when it goes on it changes nothing more.
func TestStoppedTreeGetsNothingIn(t *testing.T) {
	u, dir := newUser(t, "KAR_LEASE=500ms"), t.TempDir()
	p, app, guard := u.component(dir)
	sidecar := p.cmd.Process.Pid
	call := u.start("invoke", "-app", "a", "T", "x", "write")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	_, other, _ := u.component(dir)
	send(t, syscall.SIGSTOP, guard, app, sidecar)
	t.Cleanup(func() { _ = syscall.Kill(guard, syscall.SIGCONT); _ = syscall.Kill(app, syscall.SIGKILL) })
	if by := awaitFile(t, filepath.Join(dir, "attempt-2")); by != strconv.Itoa(other) {
		t.Errorf("attempt 2 is run by %s, want %d", by, other)
	}
	touch(t, filepath.Join(dir, "leave"))
	if got := call.wait(); got.code != 0 || got.out != "\"2\"\n" {
		t.Errorf("got %+v", got)
	}
	// The child goes on first, so that its write waits when the sidecar comes.
	send(t, syscall.SIGCONT, app)
	awaitFile(t, filepath.Join(dir, "writes-1"))
	send(t, syscall.SIGCONT, sidecar, guard)
	if got := p.wait(); got.code == 0 || !strings.Contains(got.errout, "counted lost") {
		t.Errorf("kar run: %+v", got)
	}
	eventually(t, "the child is gone", func() bool { return syscall.Kill(app, 0) == syscall.ESRCH })
	if b, err := os.ReadFile(filepath.Join(dir, "wrote-1")); err == nil && strings.HasPrefix(string(b), "2") {
		t.Errorf("the late write was answered with %s", b)
	}
	if got := u.kar("get", "-app", "a", "-t", "T", "-i", "x", "-o", "json"); !strings.Contains(got.out, `"k":2`) && !strings.Contains(got.out, `"k": 2`) {
		t.Errorf("the state is %q, want what attempt 2 wrote", got.out)
	}
	if exists(dir, "attempt-3") {
		t.Error("it was run again after it had ended")
	}
}
