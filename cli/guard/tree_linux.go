package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
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
// in the tree happened to start: it belongs to the user, not to the tree. An error says
// that there may be others.
func descendants(root int) ([]proc, error) { return descendantsIn("/proc", root) }

func descendantsIn(table string, root int) ([]proc, error) {
	dir, err := os.Open(table)
	if err != nil {
		return nil, errUnseen(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err == nil && !slices.Contains(names, strconv.Itoa(os.Getpid())) {
		err = errNoSelf // nothing is mounted there any more
	}

	type entry struct {
		proc
		parent int
		zombie bool
	}
	children := map[int][]entry{}
	hides := !slices.Contains(names, "1") // as the option hidepid=2 does
	for _, name := range names {
		pid, aerr := strconv.Atoi(name)
		if aerr != nil {
			continue
		}
		s, serr := statusIn(table + "/" + name + "/stat")
		if serr != nil {
			// Who has ended meanwhile is no error; anything else may hide what descends from it.
			if err == nil && !errors.Is(serr, fs.ErrNotExist) && !errors.Is(serr, syscall.ESRCH) {
				err = serr
			}
			continue
		}
		e := entry{proc{pid: pid, stopped: s.state == 'T' || s.state == 't'}, s.parent, s.state == 'Z' || s.state == 'X'}
		children[s.parent] = append(children[s.parent], e)
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
		if hides {
			found = append(found, hiddenBelow(table, parent, names)...)
		}
	}
	if err != nil {
		return found, errUnseen(err)
	}
	return found, nil
}

// hiddenBelow are the children of a process which the table does not show: those of other
// users. What is below them becomes a child of the reaper when they end.
func hiddenBelow(table string, parent int, shown []string) (found []proc) {
	dir := table + "/" + strconv.Itoa(parent) + "/task/"
	for _, task := range namesIn(dir) {
		list, _ := os.ReadFile(dir + task + "/children") // of a task that has ended there are none
		for _, name := range strings.Fields(string(list)) {
			if pid, err := strconv.Atoi(name); err == nil && !slices.Contains(shown, name) && syscall.Kill(pid, 0) == syscall.EPERM {
				found = append(found, proc{pid: pid})
			}
		}
	}
	return found
}

// ownerOf names the user of a process, for people.
func ownerOf(pid int) string {
	info, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return "another user"
	}
	id := strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return "another user, " + u.Username + " (" + id + ")"
	}
	return "another user, " + id
}

// errUnseen is the error of a process table that cannot be read.
func errUnseen(cause error) error {
	return fmt.Errorf("the processes of the component cannot be seen: %w", cause)
}

// errNoSelf says that /proc does not show this process.
var errNoSelf = errors.New("/proc does not show the process that reads it")

// standsStill tells whether a process that was seen to stop is stopped now.
func standsStill(pid int) bool {
	state, _, ok := readStat(pid)
	return ok && (state == 'T' || state == 't')
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
