package mesh_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestMeshSoakSlowLog makes appends slow. With 600 ms each everything goes on,
// and what dies, with and without anybody to report it, is noticed and its work
// done elsewhere. With 2 s each no owner can prove that it still is the owner, so
// components pause; a machine that is lost is still noticed, and afterwards
// everything goes on.
func TestMeshSoakSlowLog(t *testing.T) {
	soak(t)
	var proxy *link
	k := parts.NeedKafka(t, parts.KafkaOptions{Advertise: func(_ int, addr string) (string, error) {
		proxy = newLink(t, addr)
		return proxy.Listen, nil
	}})
	m, w := newMesh(t, options{kafka: k, env: []string{"KAR_LEASE=", "KAR_GATEWAY_LEASE="}}), newWitness(t)
	gs := m.three()
	comps := []*component{m.component(w, ""), m.component(w, ""), m.component(w, ""), m.component(w, "")}
	t.Cleanup(func() { proxy.Toxics.ResetToxics(t.Context()) }) // or everything ends slowly
	l := m.load(w, loadOptions{clients: 12, ms: 100, attempts: true, patience: 4 * time.Minute, try: 30 * time.Second})
	l.progress("before", 10)
	during := func(what string, hurt func()) {
		t.Helper()
		begin := time.Now()
		hurt()
		l.progressFor(90*time.Second, "with slow appends: "+what, 3)
		l.gaps(t, "with slow appends: "+what, begin, time.Now())
	}
	proxy.slow(600 * time.Millisecond)
	during("nothing else", func() {})
	during("a component killed", func() {
		comps[0].quit.Store(true)
		_ = syscall.Kill(comps[0].app, syscall.SIGKILL)
	})
	during("a machine lost", comps[1].vanish)
	during("a gateway killed", func() {
		m.forget(gs[0])
		gs[0].end(syscall.SIGKILL)
	})
	proxy.quick()
	l.progress("quick again", 10)

	before := m.metric("kar_hosts_lost_total")
	proxy.slow(2 * time.Second)
	begin := time.Now()
	comps[2].vanish()
	eventually(t, 90*time.Second, "the machine is counted lost", func() bool { return m.metric("kar_hosts_lost_total") > before })
	t.Logf("with appends of 2 s a lost machine was noticed after %s", time.Since(begin).Round(100*time.Millisecond))
	time.Sleep(time.Until(begin.Add(30 * time.Second))) // the length of the trace
	l.gaps(t, "with appends of 2 s", begin, time.Now())
	proxy.quick()
	begin = time.Now()
	l.progress("afterwards", 20)
	l.gaps(t, "afterwards", begin, time.Now())
	l.verify()
	comps[3].untouched()
}

// vanish ends everything of a component in one instant: nobody is left who could report it.
func (c *component) vanish() {
	c.quit.Store(true)
	all := []int{c.cmd.Process.Pid, parent(c.app), c.app}
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range all {
			_ = syscall.Kill(pid, s)
		}
	}
}
