package parts

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEndsWithParent: a process that is killed leaves no server behind. The
// test runs itself as the parent.
func TestEndsWithParent(t *testing.T) {
	if endWithParent() == nil {
		t.Skip("SKIPPED: this system cannot do that")
	}
	if os.Getenv("KAR_TEST_PARENT") != "" {
		c, err := startChild(exec.Command("sleep", "60"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("child", c.process.Pid)
		<-c.ended
		return
	}
	parent := exec.Command(os.Args[0], "-test.run=TestEndsWithParent")
	parent.Env = append(os.Environ(), "KAR_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "child "); ok {
			pid, _ = strconv.Atoi(n)
		}
	}
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		t.Fatalf("the child %d does not run", pid)
	}
	parent.Process.Kill()
	parent.Wait()
	for deadline := time.Now().Add(10 * time.Second); !gone(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its parent", pid)
		}
	}
}

// gone also counts a zombie, which waits for whoever adopted it.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, ok := strings.Cut(string(b), ") ")
	return ok && after[0] == 'Z'
}
