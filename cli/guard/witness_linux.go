package guard

import (
	"bytes"
	"os"
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
			if end := endOf(p); end != lives && (end != inOrder || contains(roots, p)) {
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

// YoungestListener is the point of [BootTime] at which the youngest process that
// listens on the port has begun, at the latest; of any tree when c is nil or nothing
// of the command's listens.
func (c *Child) YoungestListener(port int) (began time.Duration, known bool) {
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
	for _, p := range descendants(c.guard.Process.Pid) {
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
	for _, p := range list {
		if endOf(p) != lives {
			return false
		}
	}
	return true
}

func contains(list []listener, p listener) bool {
	for _, q := range list {
		if p == q {
			return true
		}
	}
	return false
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
	exiting bool
	start   uint64
	code    int
}

// pfExiting is the kernel's mark of a thread that has begun to exit.
const pfExiting = 0x4

func readStatus(path string) (s status, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s, false
	}
	// What comes after the name in parentheses, from the third field of proc(5) on.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 50 {
		return s, false
	}
	flags, err1 := strconv.ParseUint(string(f[6]), 10, 64)
	start, err2 := strconv.ParseUint(string(f[19]), 10, 64)
	code, err3 := strconv.Atoi(string(f[49]))
	ended := f[0][0] == 'Z' || f[0][0] == 'X'
	return status{exiting: ended || flags&pfExiting != 0, start: start, code: code}, err1 == nil && err2 == nil && err3 == nil
}
