package cli

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The tests in this file are about what talks to components, on real processes.

// TestStopDeactivatesIdleActors: what an app saves when it is told that an actor
// goes is saved on a quiet stop as well.
func TestStopDeactivatesIdleActors(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	p, _, _ := u.component(dir, "-grace", "1m")
	const actors = 12
	for n := range actors {
		if got := u.kar("invoke", "-app", "a", "T", strconv.Itoa(n), "void"); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.wait()
	for n := range actors {
		if !exists(dir, fmt.Sprintf("deactivated-%d", n)) {
			t.Errorf("actor %d was not deactivated", n)
		}
	}
}

// aloneComponent is a component that nobody started for `kar run`.
func (u *user) aloneComponent(dir string, flags ...string) (sidecar *process) {
	u.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		u.t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	self, err := os.Executable()
	if err != nil {
		u.t.Fatal(err)
	}
	app := exec.Command(self)
	app.Env = append(u.env[:len(u.env):len(u.env)], "KAR_TEST_COMPONENT="+dir, "KAR_APP_PORT="+port)
	if err := app.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	return u.start(append([]string{"run", "-app", "a", "-actors", "T", "-app_port", port, "-v", "warning"}, flags...)...)
}

// TestSidecarAloneEndsWithoutProof: the orderly end of a sidecar that does not own
// its component proves nothing about it, so it waits for what runs there.
func TestSidecarAloneEndsWithoutProof(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	p := u.aloneComponent(dir, "-grace", "100ms")
	call := u.start("invoke", "-app", "a", "T", "x", "hold")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	u.component(dir)
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.says("another signal ends at once")
	touch(t, filepath.Join(dir, "leave"))
	if got := call.wait(); got.code != 0 || got.out != "\"1\"\n" {
		t.Errorf("%+v", got)
	}
	if got := p.wait(); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if exists(dir, "attempt-2") {
		t.Error("it was run again beside itself")
	}
}

// TestSidecarAloneInHaste: a second signal ends it at once, and then it reports
// nothing; only the lease tells.
func TestSidecarAloneInHaste(t *testing.T) {
	u, dir := newUser(t, "KAR_LEASE=1m"), t.TempDir()
	p := u.aloneComponent(dir, "-grace", "1h")
	call := u.start("invoke", "-app", "a", "T", "x", "hold")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.says("exiting")
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	if got := p.wait(); got.code != 0 || !strings.Contains(got.errout, "not reported") {
		t.Errorf("%+v", got)
	}
	u.component(dir)
	// The gateway is asked after the end: another request is served, this one is not tried.
	if got := u.kar("invoke", "-app", "a", "T", "y", "echo", "1"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if exists(dir, "attempt-2") || call.out.String() != "" {
		t.Error("it was run again beside itself")
	}
	_ = call.cmd.Process.Kill()
}
