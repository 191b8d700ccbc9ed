package cli

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/cli/background"
)

// TestGatewayLetsGoOfFiles: the background gateway outlives the command that has started
// it, but not what that command was given: a pipe ends, a lock becomes free, and the
// low priority of one job is not that of all components.
func TestGatewayLetsGoOfFiles(t *testing.T) {
	u := newUser(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("nice", "-n", "19", u.bin, "get", "-app", "a", "-s", "sidecars")
	cmd.Env = u.env
	cmd.ExtraFiles = []*os.File{w, w, w} // the first has the number of the gateway's own pipe
	out, err := cmd.CombinedOutput()
	_ = w.Close()
	if err != nil {
		t.Fatal(err, string(out))
	}
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the gateway holds a pipe of who started it: %v", err)
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil || os.Getuid() != 0 {
		return // who may not raise a priority leaves it
	}
	pid := background.Place{Dir: u.state}.ReadNote().PID
	if nice, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid); err != nil || nice != 20 { // the kernel gives 20-n
		t.Errorf("priority %d, %v", nice, err)
	}
}
