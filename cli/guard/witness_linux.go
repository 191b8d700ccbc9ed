package guard

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A witness knows which processes of the tree listen on the component's port. The
// kernel marks a process as exiting before it closes what that process held: so who
// is not marked after the end of a connection has ended it itself.
type witness struct {
	mu     sync.Mutex
	looked time.Time
	// roots hold the listening socket and have not got it from their parent;
	// workers have.
	roots, workers []listener
	programs       programs
}

// A listener is one process, not just its number.
type listener struct {
	pid   int
	start uint64
}

// lookEvery is how long those seen are taken for all while they live.
const lookEvery = time.Second

// Meet notes who listens on the port.
func (c *Child) Meet(port int) {
	w := &c.seen
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.roots) > 0 && time.Since(w.looked) < lookEvery && allLive(w.roots) && allLive(w.workers) {
		return
	}
	w.looked = time.Now()
	w.roots, w.workers = nil, nil
	holding := c.holding(listeners(port))
	pids := map[int]bool{}
	for _, p := range holding {
		pids[p.pid] = true
	}
	for _, p := range holding {
		if _, parent, ok := readStat(p.pid); ok && pids[parent] {
			w.workers = append(w.workers, p)
		} else {
			w.roots = append(w.roots, p)
		}
	}
}

// Answers notes who holds the component's end of a connection from port from. Lived
// is for use once it has ended: it tells whether whoever ended it lives. Known is
// false when no process of the tree listens, as with a container's engine.
func (c *Child) Answers(port, from int) (lived func() (yes, known bool)) {
	at := c.holding(accepted(port, from))
	return func() (yes, known bool) {
		c.seen.mu.Lock()
		roots, workers := c.seen.roots, c.seen.workers
		c.seen.mu.Unlock()
		if len(roots) == 0 {
			return false, false
		}
		if !allLive(roots) {
			return false, true
		}
		for _, p := range at {
			// A process that is made for one connection ends after it, in order.
			if end := endOf(p); end != lives && (end != inOrder || slices.Contains(roots, p)) {
				return false, true
			}
		}
		for _, p := range workers {
			if len(at) == 0 && endOf(p) == killed {
				return false, true
			}
		}
		return true, true
	}
}

// youngestListener is the point of [BootTime] at which the youngest process that
// listens on the port has begun, at the latest; of any tree when c is nil or nothing
// of the command's listens.
func (c *Child) youngestListener(port int) (began time.Duration, known bool) {
	sockets := listeners(port)
	var pids []int
	if c != nil {
		for _, p := range c.holding(sockets) {
			pids = append(pids, p.pid)
		}
	}
	if len(pids) == 0 {
		pids = holders(sockets)
	}
	for _, pid := range pids {
		if ticks, ok := startOf(pid); ok {
			// The kernel gives ticks of 10 ms, rounded down.
			began, known = max(began, time.Duration(ticks+1)*10*time.Millisecond), true
		}
	}
	return began, known
}

// holding are the processes of the tree that have one of the sockets.
func (c *Child) holding(sockets []string) (out []listener) {
	if len(sockets) == 0 {
		return nil
	}
	wanted := map[string]bool{}
	for _, s := range sockets {
		wanted[s] = true
	}
	tree, _ := descendants(c.guard.Process.Pid) // whoever is not seen counts as outside
	for _, p := range tree {
		if start, ok := startOf(p.pid); ok && holds(p.pid, wanted) {
			out = append(out, listener{p.pid, start})
		}
	}
	return out
}

// How a process stands.
type ending int

const (
	lives   ending = iota
	inOrder        // it ends or has ended, with the code 0
	killed         // it ends or has ended in another way
	gone           // nobody can tell any more
)

func allLive(list []listener) bool {
	return !slices.ContainsFunc(list, func(p listener) bool { return endOf(p) != lives })
}

// endOf looks at all threads: the first may end before the others.
func endOf(p listener) ending {
	dir := "/proc/" + strconv.Itoa(p.pid)
	whole, ok := readStatus(dir + "/stat")
	if !ok || whole.start != p.start {
		return gone
	}
	if !whole.exiting {
		return lives
	}
	for _, name := range namesIn(dir + "/task") {
		if thread, ok := readStatus(dir + "/task/" + name + "/stat"); ok && !thread.exiting {
			return lives
		}
	}
	if whole.code == 0 {
		return inOrder
	}
	return killed
}

type status struct {
	state   byte
	parent  int
	exiting bool
	start   uint64 // ticks since the machine began
	code    int
	image   image
}

// pfExiting is the kernel's mark of a thread that has begun to exit.
const pfExiting = 0x4

// readStatus reads a stat file of /proc. The name of the program is in parentheses and
// may contain anything; what comes after it are the fields from the third of proc(5) on.
func readStatus(path string) (s status, ok bool) {
	s, err := statusIn(path)
	return s, err == nil
}

// statusIn is the same with the reason.
func statusIn(path string) (s status, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 50 {
		return s, errors.New(path + " is not as proc(5) says")
	}
	parent, err1 := strconv.Atoi(string(f[1]))
	flags, err2 := strconv.ParseUint(string(f[6]), 10, 64)
	start, err3 := strconv.ParseUint(string(f[19]), 10, 64)
	code, err4 := strconv.Atoi(string(f[49]))
	s = status{state: f[0][0], parent: parent, start: start, code: code}
	s.image = imageIn(f)
	s.exiting = s.state == 'Z' || s.state == 'X' || flags&pfExiting != 0
	return s, errors.Join(err1, err2, err3, err4)
}
