package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A cpuMeter adds up the processor time that processes spend while something
// is measured. Unlike calls/s it says the same on a machine that does other
// things as well.
type cpuMeter struct {
	groups []cpuGroup
	calls  int
}

type cpuGroup struct {
	name   string
	pids   []int
	before time.Duration
	spent  time.Duration
}

// meter measures these processes with all their descendants, and this program,
// which makes the load.
func meter(names []string, procs ...*proc) *cpuMeter {
	m := &cpuMeter{}
	for i, p := range procs {
		m.groups = append(m.groups, cpuGroup{name: names[i], pids: tree(p.cmd.Process.Pid)})
	}
	m.groups = append(m.groups, cpuGroup{name: "load", pids: []int{os.Getpid()}})
	return m
}

// withKafka measures the broker as well, which this program started.
func (m *cpuMeter) withKafka() *cpuMeter {
	var brokers []int
	for _, pid := range tree(os.Getpid()) {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(line, []byte("kafka.Kafka")) {
			brokers = append(brokers, pid)
		}
	}
	m.groups = append(m.groups, cpuGroup{name: "Kafka", pids: brokers})
	return m
}

func (m *cpuMeter) begin() {
	for i := range m.groups {
		m.groups[i].before = spentBy(m.groups[i].pids)
	}
}

func (m *cpuMeter) end(calls int) {
	for i := range m.groups {
		g := &m.groups[i]
		g.spent += spentBy(g.pids) - g.before
	}
	m.calls += calls
}

// perCall is in microseconds.
func (m *cpuMeter) perCall() (total float64) {
	for _, g := range m.groups {
		total += float64(g.spent) / 1e3 / float64(max(m.calls, 1))
	}
	return total
}

// String is the time for one call, where it is spent, and what it makes of two cores.
func (m *cpuMeter) String() string {
	var text []string
	for _, g := range m.groups {
		text = append(text, fmt.Sprintf("%s %.0f", g.name, float64(g.spent)/1e3/float64(max(m.calls, 1))))
	}
	return fmt.Sprintf("%.0f µs of CPU a call (%s): at most %.0f/s on two cores", m.perCall(), strings.Join(text, ", "), 2e6/m.perCall())
}

// spentBy is in user and kernel mode, to 10 ms; 0 where there is no /proc.
func spentBy(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, ok := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if err != nil || !ok || len(fields) < 13 {
			continue
		}
		user, _ := strconv.Atoi(fields[11])
		kernel, _ := strconv.Atoi(fields[12])
		sum += time.Duration(user+kernel) * 10 * time.Millisecond
	}
	return sum
}

// metered is load whose processor time is measured too, without the warm-up.
func metered(m *cpuMeter, addr string, clients int, warm, length time.Duration, do step) (figure, error) {
	if _, err := load("tcp", addr, clients, 0, warm, 0, do); err != nil {
		return figure{}, err
	}
	m.begin()
	f, all, err := loadOver("tcp", []string{addr}, clients, 0, length, 0, do)
	m.end(len(all))
	return f, err
}
