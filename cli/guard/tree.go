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

// deniedFor is how long the end of what cannot be killed is waited for.
const deniedFor = 10 * time.Second

// signalTree sends sig to the process group and to everything that descends
// from root (root itself excluded), and returns the processes it saw. On
// systems where descendants cannot be listed only the group is reached. An error
// says that there may be others.
func signalTree(root, group int, sig syscall.Signal) ([]proc, error) {
	refused := group > 0 && syscall.Kill(-group, sig) == syscall.EPERM
	procs, err := descendants(root)
	for i, p := range procs {
		procs[i].denied = syscall.Kill(p.pid, sig) == syscall.EPERM
	}
	if refused && !canReap {
		procs = append(procs, proc{pid: group, denied: true})
	}
	return procs, err
}

// unheld names a process below root that this user may not signal, or says that the
// processes cannot be seen.
func unheld(root int) (pid int, err error) {
	procs, err := signalTree(root, 0, 0)
	if err != nil {
		return 0, err
	}
	for _, p := range procs {
		if p.denied {
			return p.pid, deniedError(p.pid)
		}
	}
	return 0, nil
}

func deniedError(pid int) error {
	return fmt.Errorf("the process %d runs as %s and can be neither stopped nor killed", pid, ownerOf(pid))
}

// freezeTree stops the tree and returns when all of it is seen to have
// stopped. A process that hangs in the kernel stops when it comes out of it;
// after two seconds such a one is not waited for. The error names a process that
// runs on.
func freezeTree(root, group int) error {
	deadline := time.Now().Add(2 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		var running, denied int
		procs, err := signalTree(root, group, syscall.SIGSTOP)
		for _, p := range procs {
			switch {
			case p.stopped:
			case p.denied:
				denied = p.pid
			default:
				running = p.pid
			}
		}
		switch {
		case (running != 0 || err != nil) && !time.Now().After(deadline):
		case err != nil:
			return err
		case denied != 0:
			return deniedError(denied)
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
// look in a row that finds nothing counts; empty is asked then, and told whether
// the table could be read. What cannot be killed or seen is announced when it is all
// that is left, and given up when its end has not come in time: the error says what it is.
func killTree(root, group int, limit time.Duration, announce func(error), empty func(seen bool) bool) error {
	clean := 0
	var since time.Time // when it began to be all that is left
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		procs, err := signalTree(root, group, syscall.SIGKILL)
		switch {
		case len(procs) == 0 && empty(err == nil):
			if clean++; clean == 2 {
				return nil
			}
		default:
			clean = 0
		}
		if beyond := beyondReach(procs, err); beyond == nil {
			since = time.Time{}
		} else if since.IsZero() {
			since = time.Now()
		} else if waited := time.Since(since); waited > limit {
			return beyond
		} else if announce != nil && waited > limit/40 { // its end may be on its way
			announce(beyond)
			announce = nil
		}
		time.Sleep(pause)
	}
}

// beyondReach is nil while a process is left that a signal reaches, or none at all.
func beyondReach(procs []proc, err error) error {
	for _, p := range procs {
		if !p.denied {
			return nil
		}
	}
	if err == nil && len(procs) > 0 {
		return deniedError(procs[0].pid)
	}
	return err
}
