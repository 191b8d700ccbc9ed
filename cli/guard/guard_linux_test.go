package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// TestMain lets this binary play the guard, and a sidecar that tests can kill.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard":
			os.Exit(Main(reportToFile))
		case "sidecar":
			os.Exit(playSidecar(os.Args[2], os.Args[3:]))
		case "freeze":
			os.Exit(playFreeze(os.Args[2]))
		case "become-root":
			os.Exit(becomeRoot())
		}
	}
	os.Exit(m.Run())
}

// reportToFile stands in for a gateway; its address is a file name.
func reportToFile(_ context.Context, g Gateway, boot, reason string) error {
	return os.WriteFile(g.Address, []byte(boot+": "+reason+" "+g.Token+" "+g.CA), 0o600)
}

func playSidecar(gateway string, command []string) int {
	c, code, err := Start(Spec{Command: command, Env: os.Environ(), Gateway: Gateway{Address: gateway, Token: "the-token", CA: "the-ca"}, Boot: "boot-1",
		Stopped: func(sig syscall.Signal) { fmt.Println("stopped:", sig) }})
	if err != nil {
		return code
	}
	if os.Getenv("KAR_TEST_OUTSIDE") != "" {
		c.Outside()
		fmt.Println(os.Getpid()) // the guard has it
	}
	exit, _ := c.Wait(context.Background())
	return exit.Code
}

// tree is a command whose processes print their pids: a shell, a sleep below
// it, and one that has left session and group.
const tree = `sleep 1000 & echo $!; setsid sleep 1001 & echo $!; echo $$; wait`

func startTree(t *testing.T, script string) (c *Child, pids []int) {
	t.Helper()
	if goruntime.GOOS != "linux" {
		t.Skip("the tree beyond the process group is only reached on Linux")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, _, err = Start(Spec{Command: []string{"sh", "-c", script}, Env: os.Environ(), Stdout: w, Stderr: w})
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill("the test ends") })
	return c, readPIDs(t, r, 3)
}

func readPIDs(t *testing.T, r io.Reader, n int) (pids []int) {
	t.Helper()
	lines := bufio.NewScanner(r)
	for len(pids) < n && lines.Scan() {
		pid, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil {
			t.Fatalf("the tree says %q", lines.Text())
		}
		pids = append(pids, pid)
	}
	if len(pids) < n {
		t.Fatalf("the tree ended after %v", pids)
	}
	return pids
}

// stateOf is the letter in /proc/PID/stat, 0 for a process that is gone.
func stateOf(pid int) byte {
	state, _, ok := readStat(pid)
	if !ok || state == 'Z' || state == 'X' {
		return 0
	}
	return state
}

// until polls a condition of the outside world, which cannot be waited for.
func until(t *testing.T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > limit {
			t.Fatalf("after %v still not: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

func allGone(pids []int) func() bool {
	return func() bool {
		for _, pid := range pids {
			if stateOf(pid) != 0 {
				return false
			}
		}
		return true
	}
}

func TestExitCodes(t *testing.T) {
	for script, want := range map[string]Exit{
		"exit 0":        {Code: 0},
		"exit 7":        {Code: 7},
		"kill -TERM $$": {Code: 143, Signal: 15},
		"kill -KILL $$": {Code: 137, Signal: 9},
	} {
		c, _, err := Start(Spec{Command: []string{"sh", "-c", script}, Env: os.Environ()})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := c.Wait(t.Context()); got != want {
			t.Errorf("%s: got %+v, want %+v", script, got, want)
		}
	}
}

func TestProgramThatCannotRun(t *testing.T) {
	dir := t.TempDir()
	notExecutable := filepath.Join(dir, "data")
	broken := filepath.Join(dir, "broken")
	for file, mode := range map[string]os.FileMode{notExecutable: 0o600, broken: 0o700} {
		if err := os.WriteFile(file, []byte("neither a script nor a program"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]int{
		"no-such-program-anywhere": 127, filepath.Join(dir, "absent"): 127,
		notExecutable: 126, dir: 126, broken: 126,
	} {
		_, code, err := Start(Spec{Command: []string{command}, Env: os.Environ()})
		var re *runtime.Error
		if code != want || !errors.As(err, &re) || re.Code != runtime.CodeNoCommand {
			t.Errorf("%s: got code %d and %v, want %d", command, code, err, want)
		}
	}
}

func TestEndTakesTheTreeDown(t *testing.T) {
	c, pids := startTree(t, `sleep 1000 & echo $!; setsid sleep 1001 & echo $!; echo $$; exit 3`)
	exit, err := c.Wait(t.Context())
	if err != nil || exit.Code != 3 {
		t.Fatalf("got %+v, %v", exit, err)
	}
	if !allGone(pids)() {
		t.Error("the end was reported while something of the tree was left")
	}
}

func TestKillReturnsWhenNothingIsLeft(t *testing.T) {
	c, pids := startTree(t, tree)
	c.Kill("because")
	if !allGone(pids)() {
		t.Error("Kill returned while something of the tree was left")
	}
	exit, _ := c.Wait(t.Context())
	if exit.Reason != "because" || exit.Code != 137 {
		t.Errorf("got %+v", exit)
	}
}

func TestKill9Guard(t *testing.T) {
	c, pids := startTree(t, tree)
	if err := syscall.Kill(c.guard.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	took := until(t, 2*time.Second, "no survivor of the tree", allGone(pids))
	<-c.Done()
	exit, _ := c.Wait(t.Context())
	if exit.Code != 137 || !allGone(pids)() {
		t.Errorf("got %+v", exit)
	}
	t.Logf("no survivor after %v", took)
}

func TestKill9Sidecar(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "sidecar", report, "sh", "-c", tree)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := readPIDs(t, out, 3)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	took := until(t, 2*time.Second, "no survivor of the tree", allGone(pids))
	until(t, 2*time.Second, "the exit is reported", func() bool {
		b, _ := os.ReadFile(report)
		return string(b) == "boot-1: the sidecar ended the-token the-ca"
	})
	_ = cmd.Wait()
	t.Logf("no survivor after %v", took)
}

// The app is outside of the tree, as that of a container engine's client is: that the
// tree has ended is no proof, and nobody is told.
func TestKill9SidecarOfAnAppOutside(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "sidecar", report, "sh", "-c", tree)
	cmd.Env = append(os.Environ(), "KAR_TEST_OUTSIDE=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := readPIDs(t, out, 4)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil { // to the end of the guard
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !allGone(pids)() {
		t.Error("something of the tree is left")
	}
	if b, err := os.ReadFile(report); err == nil {
		t.Errorf("it is reported that %q", b)
	}
}

func TestFreezeStopsTheWholeTree(t *testing.T) {
	c, pids := startTree(t, tree)
	c.Freeze()
	for _, pid := range pids {
		if s := stateOf(pid); s != 'T' {
			t.Errorf("process %d is in state %c after Freeze", pid, s)
		}
	}
	c.Freeze() // twice is fine
	c.Thaw()
	until(t, 2*time.Second, "the tree goes on", func() bool { return noneStopped(pids) })
}

func noneStopped(pids []int) bool {
	for _, pid := range pids {
		if stateOf(pid) == 'T' {
			return false
		}
	}
	return true
}

func allStopped(pids []int) func() bool {
	return func() bool {
		for _, pid := range pids {
			if stateOf(pid) != 'T' {
				return false
			}
		}
		return true
	}
}

func TestLeaseThatRunsOutFreezes(t *testing.T) {
	c, pids := startTree(t, tree)
	c.Lease(BootTime() + 30*time.Millisecond)
	until(t, 2*time.Second, "the tree is stopped without another word", allStopped(pids))
	c.Lease(BootTime() + time.Hour)
	until(t, 2*time.Second, "the tree goes on under a new lease", func() bool { return noneStopped(pids) })

	c.Freeze()
	c.Lease(BootTime() + time.Hour)
	c.Freeze() // an answered order: the lease before it has been handled
	if !allStopped(pids)() {
		t.Error("a lease thawed what the sidecar had frozen")
	}
}

func TestSignalGoesToTheGroup(t *testing.T) {
	c, _ := startTree(t, `trap 'exit 9' USR1; sleep 1000 & echo $!; echo $$; echo $$; wait; wait`)
	c.Signal(syscall.SIGUSR1)
	exit, _ := c.Wait(t.Context())
	if exit.Code != 9 {
		t.Errorf("got %+v, want the code of the trap", exit)
	}
}

func TestOutputPassesByteForByte(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Start(Spec{
		Command: []string{"sh", "-c", `head -c 1048576 /dev/zero | tr '\0' x; printf '\377\000'`},
		Env:     os.Environ(), Stdout: w, Stderr: w,
	})
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	want := strings.Repeat("x", 1<<20) + "\xff\x00"
	if string(got) != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}
