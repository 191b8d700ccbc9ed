package guard

import (
	"fmt"
	"syscall"
	"time"
)

// A proc is one process of a tree.
type proc struct {
	pid     int
	stopped bool // by SIGSTOP and the like
	denied  bool // the last signal was refused: it runs as another user
}

// signalTree sends sig to the process group and to everything that descends
// from root (root itself excluded), and returns the processes it saw. On
// systems where descendants cannot be listed only the group is reached.
func signalTree(root, group int, sig syscall.Signal) []proc {
	if group > 0 {
		_ = syscall.Kill(-group, sig)
	}
	procs := descendants(root)
	for i, p := range procs {
		procs[i].denied = syscall.Kill(p.pid, sig) == syscall.EPERM
	}
	return procs
}

// freezeTree stops the tree and returns when all of it is seen to have
// stopped. A process that hangs in the kernel stops when it comes out of it;
// after two seconds such a one is not waited for. The error names a process that
// runs on.
func freezeTree(root, group int) error {
	deadline := time.Now().Add(2 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		var running, denied int
		for _, p := range signalTree(root, group, syscall.SIGSTOP) {
			switch {
			case p.stopped:
			case p.denied:
				denied = p.pid
			default:
				running = p.pid
			}
		}
		switch {
		case running != 0 && !time.Now().After(deadline):
		case denied != 0:
			return fmt.Errorf("the process %d runs as another user and cannot be stopped", denied)
		case running != 0:
			return fmt.Errorf("the process %d has not stopped", running)
		default:
			return nil
		}
		time.Sleep(pause)
	}
}

// killTree kills the tree until nothing is left of it. A process in the
// middle of fork can escape one look at the process table, so only the second
// look in a row that finds nothing counts.
func killTree(root, group int, empty func() bool) {
	clean := 0
	for pause := time.Millisecond; clean < 2; pause = min(2*pause, 50*time.Millisecond) {
		left := len(signalTree(root, group, syscall.SIGKILL))
		if left == 0 && (empty == nil || empty()) {
			clean++
		} else {
			clean = 0
		}
		if clean < 2 {
			time.Sleep(pause)
		}
	}
}
