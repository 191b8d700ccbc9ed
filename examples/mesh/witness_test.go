package mesh_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A witness stands outside of KAR. Each run of a request holds a connection to
// it while it lasts, says "end" as its last word, and the kernel closes the
// connection of a process that dies. A run that begins while another one of the
// same account has neither said so nor died is an overlap, unless the other
// one's process is stopped; such a one must never say "end" any more.
type witness struct {
	t    *testing.T
	path string
	l    net.Listener
	wg   sync.WaitGroup

	mu       sync.Mutex
	running  map[string]*run // by account
	ghosts   []*run
	runs     map[string]int // attempts begun, by key
	accounts map[string]int // attempts begun, by account
	alive    map[string]int // the process in which an actor is active, by account
	notes    map[string]int // activations and deactivations: "activated T/x 4711"
	overlaps []string
}

type run struct {
	line string
	pid  int
	conn *net.UnixConn
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	dir, err := os.MkdirTemp("", "kar-wit-") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{t: t, path: filepath.Join(dir, "w"), running: map[string]*run{}, runs: map[string]int{}, accounts: map[string]int{},
		alive: map[string]int{}, notes: map[string]int{}}
	if w.l, err = net.Listen("unix", w.path); err != nil {
		t.Fatal(err)
	}
	w.wg.Go(func() {
		for {
			c, err := w.l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.watch(c.(*net.UnixConn)) })
		}
	})
	t.Cleanup(func() {
		w.close()
		os.RemoveAll(dir)
	})
	return w
}

func (w *witness) watch(c *net.UnixConn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	if what, ok := strings.CutPrefix(line, "note "); ok {
		w.note(strings.TrimSpace(what))
		c.Write([]byte("go\n"))
		c.Close()
		return
	}
	r := &run{line: strings.TrimSpace(line), conn: c}
	var account, key string
	if err == nil {
		_, err = fmt.Sscan(line, &account, &key, &r.pid)
	}
	if err != nil {
		c.Close()
		return
	}
	w.mu.Lock()
	if last := w.running[account]; last != nil {
		w.judge(last, r)
	}
	w.running[account] = r
	w.runs[key]++
	w.accounts[account]++
	w.mu.Unlock()
	c.Write([]byte("go\n"))
}

// note counts what becomes of an actor, and says when it is active in two
// processes that live.
func (w *witness) note(line string) {
	var what, account string
	var pid int
	if _, err := fmt.Sscan(line, &what, &account, &pid); err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes[line]++
	switch last := w.alive[account]; {
	case what == "deactivated" && last == pid:
		delete(w.alive, account)
	case what == "activated":
		if last != 0 && last != pid && living(last) {
			w.overlaps = append(w.overlaps, fmt.Sprintf("%s is active in process %d, and was in %d, which lives", account, pid, last))
		}
		w.alive[account] = pid
	}
}

// left are the actors that were active in a process and have not been told of its end.
func (w *witness) left(pid int) (accounts []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line, n := range w.notes {
		if rest, ok := strings.CutPrefix(line, "activated "); ok && strings.HasSuffix(rest, fmt.Sprint(" ", pid)) {
			if d := w.notes["deactivated "+rest]; d != n {
				accounts = append(accounts, fmt.Sprintf("%s: %d times activated, %d deactivated", rest, n, d))
			}
		}
	}
	return accounts
}

// noted counts notes of a kind about a process.
func (w *witness) noted(what string, pid int) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line, times := range w.notes {
		if strings.HasPrefix(line, what+" ") && strings.HasSuffix(line, fmt.Sprint(" ", pid)) {
			n += times
		}
	}
	return n
}

// living tells whether a process runs, or could again: a stopped one does not count.
func living(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err == nil && rest != "" && !strings.ContainsAny(rest[:1], "TZX")
}

// judge looks whether the run before is over when the next begins.
func (w *witness) judge(last, next *run) {
	switch ended, gone := last.state(); {
	case ended || gone:
		last.conn.Close()
	case stopped(last.pid):
		w.ghosts = append(w.ghosts, last)
	default:
		last.conn.Close()
		w.overlaps = append(w.overlaps, fmt.Sprintf("%q was running when %q began", last.line, next.line))
	}
}

// state looks, without waiting, whether a run has said that it has ended, or is gone.
func (r *run) state() (ended, gone bool) {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return false, true
	}
	err = raw.Read(func(fd uintptr) bool {
		n, err := syscall.Read(int(fd), make([]byte, 8))
		switch {
		case errors.Is(err, syscall.EAGAIN):
		case n > 0:
			ended = true
		default:
			gone = true
		}
		return true
	})
	return ended, gone || err != nil
}

// stopped tells whether a process has been stopped by a signal.
func stopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err == nil && strings.HasPrefix(rest, "T")
}

// of is how often the request with a key has been begun.
func (w *witness) of(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[key]
}

func (w *witness) total() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.runs {
		n += x
	}
	return n
}

// seen is what was wrong until now.
func (w *witness) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.ghosts {
		if ended, _ := g.state(); ended {
			w.overlaps = append(w.overlaps, fmt.Sprintf("%q went on although another run had begun", g.line))
		}
	}
	return append([]string(nil), w.overlaps...)
}

func (w *witness) close() {
	w.l.Close()
	w.mu.Lock()
	for _, r := range w.running {
		r.conn.Close()
	}
	for _, r := range w.ghosts {
		r.conn.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// TestMeshWitnessSeesOverlap makes sure that the witness can say no.
func TestMeshWitnessSeesOverlap(t *testing.T) {
	w := newWitness(t)
	begin := func(line string) net.Conn {
		c, err := net.Dial("unix", w.path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(c, line)
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		return c
	}
	pid := os.Getpid()
	begin(fmt.Sprintf("a 1 %d 1", pid)).Close() // died
	first := begin(fmt.Sprintf("a 2 %d 1", pid))
	fmt.Fprintln(first, "end") // and has not closed yet
	begin(fmt.Sprintf("b 3 %d 1", pid))
	begin(fmt.Sprintf("a 4 %d 1", pid))
	if got := w.seen(); len(got) != 0 {
		t.Fatalf("overlaps %q", got)
	}
	begin(fmt.Sprintf("a 4 %d 2", pid))
	if got := w.seen(); len(got) != 1 || w.of("4") != 2 || w.total() != 5 {
		t.Fatalf("%d runs of 4, %d in all, overlaps %q", w.of("4"), w.total(), got)
	}
}
