package cli

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// peak is the most memory that a process has had, in MB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kb, _ := strconv.Atoi(f[1])
			return kb >> 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// TestMoreWorkThanMemory: a gateway with 64 MiB of memory accepts 100 MB of work
// that nobody takes yet, dies, starts with all of it, and lets it be done once.
func TestMoreWorkThanMemory(t *testing.T) {
	const tells, size, most = 600, 160_000, 110
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	u, dir := newUser(t, "GOMEMLIMIT=64MiB"), t.TempDir()
	p := u.start("gateway", "--listen", address)
	p.says("gateway ready")
	var senders sync.WaitGroup
	next := make(chan int)
	for range 4 {
		senders.Go(func() {
			for n := range next {
				body := []byte(`["` + strings.Repeat("x", size) + `"]`)
				r, _ := http.NewRequest(http.MethodPost, fmt.Sprintf("http://%s/apps/a/kar/v1/actor/T/%d/call/take", address, n), bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/kar+json")
				r.Header.Set("Pragma", "async")
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Error(err)
					continue
				}
				if _ = answer.Body.Close(); answer.StatusCode != http.StatusAccepted {
					t.Errorf("tell %d: %s", n, answer.Status)
				}
			}
		})
	}
	for n := range tells {
		next <- n
	}
	close(next)
	senders.Wait()
	if mb := peak(t, p.cmd.Process.Pid); mb > most {
		t.Errorf("%d MB of memory to accept %d MB", mb, tells*size/1_000_000)
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	p.wait()
	again := u.start("gateway", "--listen", address)
	again.says("gateway ready")
	u.component(dir)
	for n := range tells {
		if got := awaitFile(t, filepath.Join(dir, fmt.Sprint("ran-", n))); got != strconv.Itoa(size+4) {
			t.Fatalf("tell %d came with %s bytes", n, got)
		}
	}
	for n := range tells {
		if exists(dir, fmt.Sprint("again-", n)) {
			t.Errorf("tell %d ran twice", n)
		}
	}
	if mb := peak(t, again.cmd.Process.Pid); mb > most {
		t.Errorf("%d MB of memory to start and to send", mb)
	}
}
