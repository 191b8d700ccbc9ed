package guard

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// becomeRoot does what sudo does, in a set-uid copy of this binary.
func becomeRoot() int {
	if err := syscall.Setuid(0); err != nil {
		fmt.Println("0")
		return 1
	}
	fmt.Println(os.Getpid())
	time.Sleep(time.Minute)
	return 0
}

// playFreeze runs a program that becomes another user, and says what the guard makes of
// it. Guard and sidecar end when they cannot kill it.
func playFreeze(program string) int {
	r, w, err := os.Pipe()
	if err != nil {
		return 1
	}
	var said string
	c, _, err := Start(Spec{
		Command: []string{program, "become-root"}, Env: os.Environ(), Stdout: w,
		Beyond: func(what string, _ time.Duration) { said = what }, deniedFor: 200 * time.Millisecond,
	})
	if err != nil {
		fmt.Println("start", err)
		return 1
	}
	line, _ := bufio.NewReader(r).ReadString('\n')
	pid, _ := c.Unheld()
	fmt.Printf("%s %d %v\n", strings.TrimSpace(line), pid, c.Freeze())
	if os.Getenv("KAR_TEST_LOSE_GUARD") != "" {
		_ = c.guard.Process.Kill()
	}
	c.Kill("the test ends")
	exit, _ := c.Wait(context.Background())
	fmt.Printf("said %s\nleft %s\n", said, exit.Left)
	return 0
}

// A process of another user can be neither frozen nor killed, and the guard says so. It
// does not wait for its end for ever, and calls nothing ended that runs.
func TestProcessOfAnotherUserIsNotFrozen(t *testing.T) {
	for _, guardLives := range []bool{true, false} {
		t.Run(fmt.Sprint("guard lives ", guardLives), func(t *testing.T) { anotherUser(t, guardLives, false) })
	}
}

// The same where /proc does not show the processes of other users.
func TestHiddenProcessOfAnotherUser(t *testing.T) {
	mounts := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", hideOthers+"setpriv --reuid 65534 --regid 65534 --clear-groups true")
	if out, err := mounts.CombinedOutput(); err != nil {
		t.Skip("a /proc of one's own cannot be mounted here: ", err, string(out))
	}
	for _, guardLives := range []bool{true, false} {
		t.Run(fmt.Sprint("guard lives ", guardLives), func(t *testing.T) { anotherUser(t, guardLives, true) })
	}
}

const hideOthers = "mount -t proc -o hidepid=2 proc /proc && "

func anotherUser(t *testing.T, guardLives, hidden bool) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a set-uid program of another user")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // nobody has to read it
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	plain, raised := filepath.Join(dir, "plain"), filepath.Join(dir, "raised")
	for path, mode := range map[string]os.FileMode{plain: 0o755, raised: 0o755 | os.ModeSetuid} {
		if err := os.WriteFile(path, binary, 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), plain, "freeze", raised)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	names := "runs as another user, root (0)"
	if hidden {
		names = "runs as another user"
		cmd = exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", hideOthers+`exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`,
			"sh", plain, "freeze", raised)
		cmd.Dir, cmd.Stderr = dir, os.Stderr
	}
	if !guardLives {
		cmd.Env = append(os.Environ(), "KAR_TEST_LOSE_GUARD=1")
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, string(out))
	}
	said, rest, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	pid, _ := strconv.Atoi(said)
	if pid == 0 {
		t.Skip("set-uid programs do not work here")
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	line, end, _ := strings.Cut(rest, "\n")
	if !strings.HasPrefix(line, said+" ") || !strings.Contains(line, "another user") {
		t.Fatalf("the process %d of another user: %q", pid, line)
	}
	names = "the process " + said + " " + names
	if !strings.Contains(end, "said "+names) || !strings.Contains(end, "left "+names) {
		t.Errorf("at the end: %q", end)
	}
}
