package guard

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestEndThatIsSeenLate: the process table may be empty before the reaper has said
// how the command ended; what KAR has killed has not ended in order.
func TestEndThatIsSeenLate(t *testing.T) {
	c := exec.Command("sleep", "1000")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ends := make(chan reaped, 16)
	g := &guard{start: &startSpec{}, pid: c.Process.Pid, reaped: ends}
	go func() {
		_ = c.Wait()
		time.Sleep(300 * time.Millisecond) // a reaper that has no processor
		ends <- reaped{pid: c.Process.Pid, status: c.ProcessState.Sys().(syscall.WaitStatus)}
		ends <- reaped{none: true}
	}()
	if got := exitCode(g.killAll(false)); got != 137 {
		t.Errorf("code %d", got)
	}
	g = &guard{start: &startSpec{}, pid: c.Process.Pid, reaped: make(chan reaped)}
	if got := exitCode(g.killAll(false)); got != 137 {
		t.Errorf("code %d of an end that nobody has seen", got)
	}
}
