package guard

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/karmesh/kar/runtime"
)

// canReap says that orphans of the tree come back to this process, so that
// "no children" proves that nothing is left.
const canReap = true

// becomeReaper makes this process the parent of every orphan below it.
func becomeReaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// childAttr puts the command in its own process group and lets the kernel kill
// it when the guard's thread dies; the caller must stay locked to its thread.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// checkProc makes sure that root, /proc, is of this process's own pid namespace: the
// tree is read there, and numbers of another namespace would name strangers.
func checkProc(root string) error {
	self, err := os.Readlink(root + "/self")
	if err != nil || self != strconv.Itoa(os.Getpid()) {
		return runtime.Errorf(runtime.CodeBadConfig,
			"%s does not show the processes of this pid namespace, so a command could be neither frozen nor killed: mount it (mount -t proc proc /proc, unshare --mount-proc, bwrap --proc /proc)", root)
	}
	return nil
}

// BootTime is the clock of leases: it goes on while the machine sleeps.
func BootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// descendants lists the live processes below root by the parents that /proc
// names; zombies are left out, and so is a background gateway that some command
// in the tree happened to start: it belongs to the user, not to the tree.
func descendants(root int) []proc {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)

	type entry struct {
		proc
		parent int
		zombie bool
	}
	children := map[int][]entry{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		state, parent, ok := readStat(pid)
		if !ok {
			continue
		}
		e := entry{proc{pid: pid, stopped: state == 'T' || state == 't'}, parent, state == 'Z' || state == 'X'}
		children[parent] = append(children[parent], e)
	}
	var found []proc
	queue := []int{root}
	for len(queue) > 0 {
		parent := queue[0]
		queue = queue[1:]
		for _, e := range children[parent] {
			if isBackgroundGateway(e.pid) {
				continue
			}
			if !e.zombie {
				found = append(found, e.proc)
			}
			queue = append(queue, e.pid)
		}
	}
	return found
}

// readStat reads state and parent from /proc/PID/stat.
func readStat(pid int) (state byte, parent int, ok bool) {
	s, ok := readStatus("/proc/" + strconv.Itoa(pid) + "/stat")
	return s.state, s.parent, ok
}

// isBackgroundGateway recognises `kar gateway --background` of this binary.
func isBackgroundGateway(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil || !bytes.Contains(line, []byte("\x00gateway\x00--background\x00")) {
		return false
	}
	theirs, err1 := os.Stat(dir + "/exe")
	ours, err2 := os.Stat("/proc/self/exe")
	return err1 == nil && err2 == nil && os.SameFile(theirs, ours)
}

// zombies lists the ended children of parent that nobody has waited for.
func zombies(parent int) (pids []int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if state, ppid, ok := readStat(pid); ok && ppid == parent && state == 'Z' && !isBackgroundGateway(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
