package parts

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// A child is a process that ends, where the system can do that, with this one.
type child struct {
	process *os.Process
	ended   chan struct{}
	err     error // how it ended; nil after an orderly end
}

// startChild starts cmd from a thread that lives as long as the child, because
// on Linux the child gets its signal when the thread that started it ends.
func startChild(cmd *exec.Cmd) (*child, error) {
	cmd.SysProcAttr = endWithParent()
	started := make(chan error)
	c := &child{ended: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.ended)
		}
	}()
	return c, <-started
}

func (c *child) signal(s syscall.Signal) error {
	select {
	case <-c.ended:
		return os.ErrProcessDone
	default:
	}
	if err := c.process.Signal(s); err != nil || s != syscall.SIGSTOP {
		return err
	}
	return awaitStopped(c.process.Pid)
}
