package guard

import (
	"os"
	"strconv"
	"strings"
)

// ForeignListener is a process that takes the connections to a port of 127.0.0.1 and
// is certainly not the command's: 0 when there is none, or when that cannot be known.
// A process outside of the tree that began later than the command may listen on its
// behalf, as a container engine's does.
func (c *Child) ForeignListener(port int) (pid int) {
	owners := holders(listeners(port))
	if len(owners) == 0 {
		return 0
	}
	root := c.guard.Process.Pid
	ours := map[int]bool{root: true}
	tree, err := descendants(root)
	if err != nil {
		return 0
	}
	for _, p := range tree {
		ours[p.pid] = true
	}
	began, ok := startOf(root)
	if !ok {
		return 0
	}
	for _, owner := range owners {
		theirs, ok := startOf(owner)
		if ours[owner] || !ok || theirs >= began {
			return 0
		}
		pid = owner
	}
	return pid
}

// ListensOutside tells that somebody listens on the port and no process of the tree is
// seen to, as with a container engine or another daemon that the command is a client of.
func (c *Child) ListensOutside(port int) bool {
	sockets := listeners(port)
	return len(sockets) > 0 && len(c.holding(sockets)) == 0
}

// listeners are the sockets that take a connection to 127.0.0.1, as /proc/net names
// them: one that is bound to that address goes before those that are bound to any.
func listeners(port int) []string {
	var exact, others []string
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" {
				continue
			}
			address, hex, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err != nil || int(n) != port {
				continue
			}
			switch {
			case address == "0100007F" || address == "0000000000000000FFFF00000100007F":
				exact = append(exact, "socket:["+f[9]+"]")
			case strings.Trim(address, "0") == "":
				others = append(others, "socket:["+f[9]+"]")
			}
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return others
}

// holders are the processes that have one of the sockets, of those that may be looked at.
func holders(sockets []string) (pids []int) {
	if len(sockets) == 0 {
		return nil
	}
	wanted := map[string]bool{}
	for _, s := range sockets {
		wanted[s] = true
	}
	for _, name := range namesIn("/proc") {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if holds(pid, wanted) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// holds tells whether a process has one of the sockets open.
func holds(pid int, sockets map[string]bool) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	for _, fd := range namesIn(dir) {
		if to, err := os.Readlink(dir + fd); err == nil && sockets[to] {
			return true
		}
	}
	return false
}

func namesIn(path string) []string {
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return names
}

// startOf is when a process began, in ticks since the machine did.
func startOf(pid int) (ticks uint64, ok bool) {
	s, ok := readStatus("/proc/" + strconv.Itoa(pid) + "/stat")
	return s.start, ok
}
