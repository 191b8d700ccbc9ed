package cli

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// limitMemory lets the collector know how much memory there is, unless
// GOMEMLIMIT says it, and returns how much of it accepted work may take: the
// rest is for what is on its way in and out, and for garbage.
func (p *program) limitMemory() (work int64) {
	limit := cgroupLimit(os.DirFS("/"))
	if limit > 0 && p.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
	if soft := debug.SetMemoryLimit(-1); soft != math.MaxInt64 {
		if soft >= 8*ballastBytes {
			p.relaxCollector()
		}
		return soft / 5 * 2
	}
	p.relaxCollector()
	return physicalMemory(os.DirFS("/")) / 4 // which others need, too
}

// noLimit is below what version 1 says for no limit.
const noLimit = 1 << 60

// cgroupLimit is the least memory limit of the control groups around this
// process, of either version, in bytes; 0 for none.
func cgroupLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := int64(noLimit)
	for line := range strings.Lines(string(groups)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		if part[0] != "0" || part[1] != "" {
			if !slices.Contains(strings.Split(part[1], ","), "memory") {
				continue
			}
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// In a container the path may be that of the machine: its own group is the root then.
		for dir := path.Clean("/" + part[2]); ; dir = path.Dir(dir) {
			if n := number(root, path.Join(mount, dir, file)); n > 0 {
				least = min(least, n)
			}
			if dir == "/" {
				break
			}
		}
	}
	if least == noLimit {
		return 0
	}
	return least
}

func number(root fs.FS, name string) int64 {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil { // "max"
		return 0
	}
	return n
}

// physicalMemory is that of the machine in bytes, 0 when it does not say.
func physicalMemory(root fs.FS) int64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}
