package cli

import (
	"testing"
	"testing/fstest"
)

func TestMemoryLimitOfControlGroups(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"none":                  {fstest.MapFS{}, 0},
		"version 2":             {fstest.MapFS{"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("100663296\n")}, 96 << 20},
		"version 2, none":       {fstest.MapFS{"proc/self/cgroup": file("0::/a\n"), "sys/fs/cgroup/a/memory.max": file("max\n")}, 0},
		"a parent has the less": {fstest.MapFS{"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("200\n"), "sys/fs/cgroup/a/memory.max": file("100\n")}, 100},
		"in a container":        {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("300\n")}, 300},
		"version 1": {fstest.MapFS{
			"proc/self/cgroup":                                 file("8:pids:/\n4:cpu,memory:/docker/x\n0::/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":       file("500\n"),
			"sys/fs/cgroup/memory/other/memory.limit_in_bytes": file("1\n"),
		}, 500},
		"version 1, none": {fstest.MapFS{"proc/self/cgroup": file("4:memory:/x\n"), "sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
	} {
		if got := cgroupLimit(c.files); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if got := physicalMemory(fstest.MapFS{"proc/meminfo": file("MemTotal:       1024 kB\nMemFree: 1 kB\n")}); got != 1<<20 {
		t.Errorf("physical memory %d", got)
	}
}
