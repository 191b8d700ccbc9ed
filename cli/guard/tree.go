package guard

import (
	"syscall"
	"time"
)

// A proc is one process of a tree.
type proc struct {
	pid     int
	stopped bool // by SIGSTOP and the like
}

// signalTree sends sig to the process group and to everything that descends
// from root (root itself excluded), and returns the processes it saw. On
// systems where descendants cannot be listed only the group is reached.
func signalTree(root, group int, sig syscall.Signal) []proc {
	if group > 0 {
		_ = syscall.Kill(-group, sig)
	}
	procs := descendants(root)
	for _, p := range procs {
		_ = syscall.Kill(p.pid, sig)
	}
	return procs
}

// freezeTree stops the tree and returns when all of it is seen to have
// stopped. A process that hangs in the kernel stops when it comes out of it;
// after two seconds such a one is not waited for.
func freezeTree(root, group int) {
	deadline := time.Now().Add(2 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		running := false
		for _, p := range signalTree(root, group, syscall.SIGSTOP) {
			running = running || !p.stopped
		}
		if !running || time.Now().After(deadline) {
			return
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
