package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReadmeTour does what the README's tour says, word for word: what runs on
// is left running, as in a terminal of its own, and everything else must succeed.
func TestReadmeTour(t *testing.T) {
	need(t, "sh", "curl")
	page, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, tour, _ := strings.Cut(string(page), "## A minute's tour")
	tour, _, _ = strings.Cut(tour, "\n## ")
	m := newMesh(t)
	m.env = append(m.env, "PATH="+filepath.Dir(m.bin)+":"+os.Getenv("PATH"))
	if base := filepath.Base(m.bin); base != "kar" {
		t.Fatalf("the binary must be called kar, not %s", base)
	}
	dir, done := "", 0
	var running []*component
	for _, line := range strings.Split(tour, "\n") {
		line, ok := strings.CutPrefix(line, "    ")
		if !ok {
			continue
		}
		done++
		switch {
		case strings.HasPrefix(line, "cd examples/"):
			example, _, _ := strings.Cut(strings.TrimPrefix(line, "cd examples/"), " ")
			dir = node(t, example)
		case line == "kar gateway":
			for _, c := range running { // "end the components and run kar gateway stop first"
				c.stop()
			}
			m.ok("gateway", "stop")
			dir = node(t, "greeter-js")
			m.shell(dir, line)
		case strings.HasPrefix(line, "kar run "):
			running = append(running, m.shell(dir, line))
		default:
			m.answers(dir, line)
		}
	}
	if done < 11 {
		t.Errorf("only %d commands were found in the tour", done)
	}
}

// shell starts a line that goes on, as in a terminal of its own.
func (m *mesh) shell(dir, line string) *component {
	m.t.Helper()
	c := &component{t: m.t, out: &output{}, done: make(chan struct{})}
	c.cmd = exec.Command("sh", "-c", "exec "+line)
	c.cmd.Env, c.cmd.Dir = m.env, dir
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.WaitDelay = 5 * time.Second
	if err := c.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		c.cmd.Wait()
		close(c.done)
	}()
	m.t.Cleanup(func() {
		c.stop()
		if m.t.Failed() {
			m.t.Logf("%s printed:\n%s", line, c.out)
		}
	})
	return c
}

// answers runs a line that ends. curl knows no waiting, so it may be early.
func (m *mesh) answers(dir, line string) {
	m.t.Helper()
	var out []byte
	var err error
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		cmd := exec.Command("sh", "-c", line)
		cmd.Env, cmd.Dir = m.env, dir
		out, err = cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(line, "curl") || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	if strings.Contains(line, "Alice") && !strings.Contains(string(out), "Hello Alice!") {
		m.t.Errorf("%s: %s", line, out)
	}
}
