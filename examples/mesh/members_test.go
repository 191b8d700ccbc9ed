package mesh_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
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

// refused waits until a gateway has ended by itself and says why.
func (g *gateway) refused(code, word string) {
	g.t.Helper()
	g.quit.Store(true)
	if exit := g.code(30 * time.Second); exit == 0 || !strings.Contains(g.out.String(), code) || !strings.Contains(g.out.String(), word) {
		g.t.Errorf("exit code %d, and it should say %s and %s:\n%s", exit, code, word, g.out)
	}
}

// TestMeshGatewayThatDoesNotFit: those with another Redis, another Kafka and another
// lease are refused by name, and nobody notices them.
func TestMeshGatewayThatDoesNotFit(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	m.ready(m.launch())
	m.ready(m.launch())
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 8, kinds: []string{"touch", "tell", "add"}})
	l.progress("before", 50)
	eventually(t, 30*time.Second, "both have a share", func() bool { return m.metric("kar_partitions_owned") == partitions })
	before, from := m.metric("kar_partitions_taken_over_total")+m.metric("kar_partitions_handed_over_total"), time.Now()
	other, log := parts.NeedRedis(t, parts.RedisOptions{}), parts.NeedKafka(t, parts.KafkaOptions{})
	for _, x := range []struct{ setting, code, word string }{
		{"KAR_LEASE=60s", "bad_config", "1m0s"},
		{"KAR_GATEWAY_LEASE=55s", "bad_config", "55s"},
		{fmt.Sprintf("REDIS_PORT=%d", other.Port), "foreign_data", "another Redis"},
		{"KAFKA_BROKERS=" + strings.Join(log.Brokers(), ","), "foreign_data", "another Kafka"},
	} {
		g := m.launchEnv(x.setting)
		m.forget(g) // no client knows it
		g.refused(x.code, x.word)
	}
	if longest := l.gaps(t, "some that do not fit", from, time.Now()); longest > 4*gatewayLease && !overloaded(t) {
		t.Errorf("a client made no progress for %s", longest)
	}
	if n := m.metric("kar_partitions_taken_over_total") + m.metric("kar_partitions_handed_over_total") - before; n > 0 {
		t.Errorf("%v partitions moved", n)
	}
	l.progress("after", 50)
	l.verify()
	c.untouched()
}
