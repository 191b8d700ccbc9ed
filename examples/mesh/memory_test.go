package mesh_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMeshSoakMemory parks more work than the gateway may have memory, for a
// component that is not there. The gateway takes what it can, refuses the rest
// at the door, stays within bounds also when it starts anew with all of it, and
// hands everything over once somebody is there.
func TestMeshSoakMemory(t *testing.T) {
	soak(t)
	const limit = 160 << 20
	m, w := newMesh(t, options{env: []string{fmt.Sprintf("GOMEMLIMIT=%d", limit), "KAR_PARTITIONS=4"}}), newWitness(t)
	g := m.gateway()
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	padding := strings.Repeat("x", 256<<10)
	var accepted []string
	refused := 0
	for i := 0; i < 1500 && refused < 20; i++ { // 375 MiB
		key := fmt.Sprintf("parked-%d", i)
		status, head, text, err := send(client, http.MethodPost, g.url+"/apps/a/kar/v1/actor/T/"+key+"/call/touch",
			map[string]string{"Pragma": "async"}, fmt.Sprintf("[%q,0,%q]", key, padding))
		switch {
		case err == nil && status == http.StatusAccepted:
			accepted = append(accepted, key)
		case err == nil && status == http.StatusTooManyRequests && head.Get("Kar-Error") != "" && head.Get("Retry-After") != "":
			refused++
		default:
			t.Fatalf("%s: %d %.200s %v", key, status, text, err)
		}
	}
	t.Logf("%d tells of 256 KiB were accepted, %d refused; the gateway had %d MiB at most", len(accepted), refused, g.peak()>>20)
	if len(accepted) < 50 {
		t.Errorf("only %d were accepted", len(accepted))
	}
	within := func(what string) {
		t.Helper()
		if peak := g.peak(); peak > limit*3/2 {
			t.Errorf("%s: the gateway had %d MiB, and may have %d", what, peak>>20, limit>>20)
		}
	}
	within("while work was parked")
	m.forget(g)
	g.end(syscall.SIGKILL)
	begin := time.Now()
	g = m.gateway()
	t.Logf("the next gateway was ready after %s with %d MiB", time.Since(begin).Round(time.Millisecond), g.peak()>>20)
	within("at the start")
	c := m.component(w, "")
	eventually(t, 3*time.Minute, "all has been run", func() bool { return w.total() >= len(accepted) })
	t.Logf("all had been run after %s; the gateway had %d MiB at most", time.Since(begin).Round(time.Millisecond), g.peak()>>20)
	within("while work was handed over")
	for _, key := range accepted {
		if n := w.of(key); n != 1 {
			t.Errorf("%s was run %d times", key, n)
		}
	}
	if w.total() != len(accepted) {
		t.Errorf("%d runs of %d accepted requests", w.total(), len(accepted))
	}
	for _, o := range w.seen() {
		t.Error(o)
	}
	c.untouched()
	m.touch("afterwards", "afterwards")
}

// peak is the most memory that a gateway has had, in bytes.
func (g *gateway) peak() (bytes int64) {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	must(g.t, err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	_, err = fmt.Sscan(rest, &bytes)
	must(g.t, err)
	return bytes << 10
}
