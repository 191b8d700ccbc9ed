package mesh_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestMeshBrokerAway kills the broker and starts it again, and stops it for
// 5 s, under load. Clients with a key and clients behind a sidecar only wait;
// those without either are told 503 when, and only when, their request was
// certainly not accepted. Everything goes on by itself.
func TestMeshBrokerAway(t *testing.T) {
	t.Parallel() // most of its time it waits
	m, w := newMesh(t, options{kafka: parts.NeedKafka(t, parts.KafkaOptions{})}), newWitness(t)
	m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	_, api := m.client("")
	loads := []*load{
		m.load(w, loadOptions{name: "keyed", clients: 8}),
		m.load(w, loadOptions{name: "plain", clients: 4, keyless: true}),
		m.load(w, loadOptions{name: "behind", clients: 4, keyless: true, via: []string{api}}),
	}
	during := func(what string, hurt func()) {
		t.Helper()
		begin := time.Now()
		hurt()
		for _, l := range loads {
			l.progress(what, 20)
			l.gaps(t, " "+what, begin, time.Now())
		}
	}
	during("undisturbed", func() {})
	during("broker killed and started", func() {
		must(t, m.kafka.Kill(0))
		time.Sleep(time.Second) // for which it is away
		must(t, m.kafka.Start(t.Context(), 0))
	})
	during("broker stopped for 5 s", func() {
		must(t, m.kafka.Pause(0))
		time.Sleep(5 * time.Second) // for which it is away
		must(t, m.kafka.Resume(0))
	})
	for _, l := range loads {
		l.verify()
	}
	if n := loads[2].unknown.Load(); n > 0 {
		t.Errorf("the outcome of %d requests behind a sidecar is unknown; it should have asked until it knew", n)
	}
	c1.untouched()
	c2.untouched()
}

// TestMeshSlowKafka puts 200 ms before the broker: slow, and nothing else
// happens. The components' lease is the default, for it is what bounds how slow
// an append may be.
func TestMeshSlowKafka(t *testing.T) {
	t.Parallel() // most of its time it waits
	var proxy *link
	k := parts.NeedKafka(t, parts.KafkaOptions{Advertise: func(_ int, addr string) (string, error) {
		proxy = newLink(t, addr)
		return proxy.Listen, nil
	}})
	m, w := newMesh(t, options{kafka: k, env: []string{"KAR_LEASE=6s"}}), newWitness(t)
	gs := m.three()
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 12})
	l.progress("before", 20)
	proxy.slow(200 * time.Millisecond)
	begin := time.Now()
	l.progress("slow Kafka", 10)
	l.gaps(t, "with 200 ms to Kafka", begin, time.Now())
	m.forget(gs[0])
	begin = time.Now()
	gs[0].end(syscall.SIGKILL)
	l.progress("a gateway is killed meanwhile", 5)
	l.gaps(t, "with 200 ms to Kafka, a gateway killed", begin, time.Now())
	proxy.quick()
	l.progress("afterwards", 20)
	l.verify()
	c.untouched()
	if text := c.out.String(); strings.Contains(text, "frozen") && !overloaded(t) {
		t.Errorf("the component was frozen:\n%s", text)
	}
}
