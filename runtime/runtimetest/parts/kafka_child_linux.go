package parts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// awaitStopped returns when no thread of the process runs any more, which is a
// little after SIGSTOP was sent.
func awaitStopped(pid int) error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		stopped := len(files) > 0
		for _, f := range files {
			b, err := os.ReadFile(f)
			// The state follows the name, which stands in parentheses.
			if _, after, ok := strings.Cut(string(b), ") "); err == nil && ok && after[0] != 'T' && after[0] != 't' {
				stopped = false
			}
		}
		if stopped {
			return nil
		}
	}
	return fmt.Errorf("parts: process %d does not stop", pid)
}
