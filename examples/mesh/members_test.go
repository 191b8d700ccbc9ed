package mesh_test

import (
	"strings"
	"testing"
	"time"
)

// TestMeshHalfTheList: one gateway cannot reach Redis, so that its entry in the
// list has run out, and another one joins. Who has streams to both introduces
// them; each share moves once, and the requests go on.
func TestMeshHalfTheList(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	link := newLink(t, m.redis.Addr())
	_, port, _ := strings.Cut(link.Listen, ":")
	a, b := m.launchEnv("REDIS_PORT="+port), m.launch()
	m.ready(a)
	m.ready(b)
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 8, kinds: []string{"touch", "tell"}, keyless: true})
	l.progress("before", 50)
	link.cut()
	eventually(t, 30*time.Second, "the list lacks the gateway", func() bool { return b.metric("kar_gateways_known") == 1 })
	before := m.metric("kar_partitions_taken_over_total")
	d := m.launch()
	m.ready(d)
	eventually(t, 30*time.Second, "each has a share", func() bool {
		return a.metric("kar_partitions_owned") > 0 && b.metric("kar_partitions_owned") > 0 && d.metric("kar_partitions_owned") > 0
	})
	from := time.Now()
	time.Sleep(5 * gatewayLease)
	if longest := l.gaps(t, "one gateway without the list", from, time.Now()); longest > 4*gatewayLease && !overloaded(t) {
		t.Errorf("a client made no progress for %s", longest)
	}
	if n := m.metric("kar_partitions_taken_over_total") - before; n > 0 {
		t.Errorf("%v partitions were taken from living gateways", n)
	}
	link.mend()
	l.progress("after", 50)
	l.verify()
	c.untouched()
}

// launchEnv starts a gateway with settings of its own.
func (m *mesh) launchEnv(env ...string) *gateway {
	m.t.Helper()
	address := "127.0.0.1:" + freePort(m.t)
	g := &gateway{url: "http://" + address, process: m.start(env, "gateway", "--listen", address)}
	m.mu.Lock()
	m.gateways = append(m.gateways, g)
	m.mu.Unlock()
	return g
}
