package mesh_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestMeshRedisStall stops Redis for 10 s: calls and tells complete as if
// nothing had happened, nobody takes a partition from anybody, no component is
// frozen, state that is not in memory is refused with 503, and all of it is in
// the store afterwards.
func TestMeshRedisStall(t *testing.T) {
	t.Parallel() // most of its time it waits
	m, w := newMesh(t, options{env: []string{"KAR_VERBOSE=debug"}}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	for i := range 20 { // state that only the store has afterwards
		m.write(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
	}
	l := m.load(w, loadOptions{clients: 9, keyless: true, kinds: []string{"touch", "tell", "work"}})
	writers := m.load(w, loadOptions{name: "w", clients: 4, kinds: []string{"add"}})
	l.progress("before", 20)
	writers.progress("before", 20)
	taken := func() (n int) {
		for _, g := range gs {
			n += strings.Count(g.out.String(), "partition taken")
		}
		return n
	}
	if taken() == 0 {
		t.Fatal("nothing is said of partitions that are taken")
	}
	before := taken()
	must(t, m.redis.Pause())
	begin := time.Now()
	status, text, err := ask(http.MethodGet, gs[0].url+"/apps/a/kar/v1/actor/T/cold7/state/n")
	if err != nil || status != http.StatusServiceUnavailable && status != http.StatusOK {
		t.Errorf("state while the store is away: %d %s %v", status, text, err)
	}
	t.Logf("state while the store is away: %d %s after %s", status, strings.TrimSpace(text), time.Since(begin).Round(time.Millisecond))
	time.Sleep(time.Until(begin.Add(10 * time.Second))) // the length of the outage
	gap := l.gaps(t, "Redis stopped for 10 s", begin, time.Now())
	must(t, m.redis.Resume())
	resumed := time.Now()
	writers.progress("afterwards", 20)
	l.progress("afterwards", 20)
	writers.gaps(t, " afterwards", resumed, time.Now())
	if gap > 3*time.Second && !overloaded(t) {
		t.Errorf("calls that need no state waited for %s", gap)
	}
	if n := taken() - before; n > 0 {
		t.Errorf("%d partitions changed hands because of Redis alone", n)
	}
	l.verify()
	writers.verify()
	for i := range 20 {
		m.reads(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
	}
	for _, c := range []*component{c1, c2} {
		c.untouched()
		if strings.Contains(c.out.String(), "frozen") && !overloaded(t) {
			t.Errorf("a component was frozen:\n%s", c.out)
		}
	}
	if n := l.refused.Load() + l.unknown.Load(); n > 0 {
		t.Errorf("%d calls that need no state were refused or unknown", n)
	}
}

// TestMeshRedisHangsAndTwoDie kills two of three gateways while Redis gives no answer:
// who is left takes all from the log, and brings into the store what it lacks.
func TestMeshRedisHangsAndTwoDie(t *testing.T) {
	t.Parallel() // most of its time it waits
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 9, keyless: true, kinds: []string{"touch", "tell", "work"}})
	writers := m.load(w, loadOptions{name: "w", clients: 4, kinds: []string{"add"}})
	l.progress("before", 20)
	writers.progress("before", 20)
	all := 0.0
	for _, g := range gs {
		all += g.metric("kar_partitions_owned")
	}
	must(t, m.redis.Pause())
	m.forget(gs[1])
	m.forget(gs[2])
	begin := time.Now()
	gs[1].end(syscall.SIGKILL)
	gs[2].end(syscall.SIGKILL)
	eventually(t, 30*time.Second, "one gateway owns all", func() bool { return gs[0].metric("kar_partitions_owned") == all })
	took := time.Since(begin)
	t.Logf("%.0f partitions were taken in %s", all, took.Round(10*time.Millisecond))
	if took > 4*time.Second && !overloaded(t) { // 13 s and more when they wait for Redis in turn
		t.Error("that is too long")
	}
	l.progress("without the store", 20)
	l.gaps(t, "two killed while Redis hangs", begin, time.Now())
	must(t, m.redis.Resume())
	writers.progress("afterwards", 20)
	l.verify()
	writers.verify()
	c.untouched()
}

// TestMeshRedisFull starts gateways while Redis has no room: each becomes ready and
// serves, and all owners before it may end. When there is room, all is as ever.
func TestMeshRedisFull(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	a, b := m.gateway(), m.gateway()
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 8, keyless: true, kinds: []string{"touch", "tell"}})
	l.progress("before", 20)
	set := func(memory string) {
		t.Helper()
		_, err := m.redis.Do(t.Context(), "CONFIG", "SET", "maxmemory", memory)
		must(t, err)
	}
	set("1mb")
	time.Sleep(2 * gatewayLease) // no entry in the list is valid any more
	d := m.gateway()
	l.progress("a gateway that began without room", 20)
	for _, g := range []*gateway{a, b} {
		m.forget(g)
		begin := time.Now()
		g.end(syscall.SIGKILL)
		l.progress("a gateway is killed", 20)
		l.gaps(t, "killed while Redis is full", begin, time.Now())
	}
	eventually(t, 30*time.Second, "the new one owns all", func() bool {
		return d.metric("kar_partitions_owned") == d.metric("kar_partitions{")+d.metric("kar_partitions ")
	})
	set("0")
	l.progress("with room", 20)
	l.verify()
	c.untouched()
}

// write sets the state n of an actor from outside.
func (m *mesh) write(actor, value string) {
	m.t.Helper()
	url := m.urls()[0] + "/apps/a/kar/v1/actor/T/" + actor + "/state/n"
	status, _, text, err := send(http.DefaultClient, http.MethodPut, url, map[string]string{"Content-Type": "application/json"}, value)
	if err != nil || status/100 != 2 {
		m.t.Fatalf("writing state: %d %s %v", status, text, err)
	}
}

// reads fails unless each gateway gives the value.
func (m *mesh) reads(actor, value string) {
	m.t.Helper()
	for _, url := range m.urls() {
		var status int
		var text string
		var err error
		for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			status, text, err = ask(http.MethodGet, url+"/apps/a/kar/v1/actor/T/"+actor+"/state/n")
			if err == nil && status != http.StatusServiceUnavailable || time.Now().After(end) {
				break
			}
		}
		if err != nil || status != http.StatusOK || text != value {
			m.t.Errorf("state of %s: %d %q %v, want %q", actor, status, text, err, value)
		}
	}
}

// TestMeshRedisForgets lets Redis lose all or some of what it holds under load:
// FLUSHALL, a kill without a file, a kill with an append-only file that is
// synced each second. Every acknowledged write is there afterwards.
func TestMeshRedisForgets(t *testing.T) {
	for name, c := range map[string]struct {
		redis parts.RedisOptions
		hurt  func(t *testing.T, m *mesh)
	}{
		"FLUSHALL":            {parts.RedisOptions{}, func(t *testing.T, m *mesh) { must(t, m.redis.Flush(t.Context())) }},
		"restart":             {parts.RedisOptions{}, restart},
		"restart with a file": {parts.RedisOptions{AppendOnly: true}, restart},
	} {
		t.Run(name, func(t *testing.T) {
			m, w := newMesh(t, options{redis: parts.NeedRedis(t, c.redis)}), newWitness(t)
			m.three()
			comp := m.component(w, "")
			for i := range 30 {
				m.write(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
			}
			l := m.load(w, loadOptions{clients: 8})
			l.progress("before", 20)
			for range 2 {
				begin := time.Now()
				c.hurt(t, m)
				l.progress("afterwards", 20)
				l.gaps(t, name, begin, time.Now())
			}
			l.verify()
			for i := range 30 {
				m.reads(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
			}
			comp.untouched()
		})
	}
}

func restart(t *testing.T, m *mesh) {
	t.Helper()
	must(t, m.redis.Kill())
	must(t, m.redis.Start(t.Context()))
}

// TestMeshStateLost empties Redis when the log no longer reaches back to what
// was written: state is refused by name and never read as empty; calls and
// reminders go on.
func TestMeshStateLost(t *testing.T) {
	m, w := newMesh(t, options{env: []string{"KAR_PARTITIONS=1", "REDIS_SAFE_AFTER=1s"}}), newWitness(t)
	g := m.gateway()
	m.gateway()
	c := m.component(w, "")
	m.write("old", "42")
	eventually(t, 60*time.Second, "the log was trimmed", func() bool {
		// The name is what is big.
		body := fmt.Sprintf("[%q,0,%q]", "big", strings.Repeat("x", 1<<20))
		for range 8 {
			status, _, text, err := send(http.DefaultClient, http.MethodPost, g.url+"/apps/a/kar/v1/actor/T/big/call/touch", nil, body)
			if err != nil || status != http.StatusOK {
				t.Fatalf("%d %s %v", status, text, err)
			}
		}
		return m.metric("kar_log_trims_total") > 0
	})
	m.reads("old", "42")
	must(t, m.redis.Flush(t.Context()))
	lost := func() bool {
		_, head, _, err := send(http.DefaultClient, http.MethodGet, g.url+"/apps/a/kar/v1/actor/T/old/state/n", nil, "")
		return err == nil && head.Get("Kar-Error") == "state_lost"
	}
	m.touch("anybody", "first") // so that somebody looks
	eventually(t, 20*time.Second, "state is refused by name", func() bool {
		status, text, err := ask(http.MethodGet, g.url+"/apps/a/kar/v1/actor/T/old/state/n")
		if err == nil && (status == http.StatusNotFound || status == http.StatusOK && text != "42") {
			t.Fatalf("state that was lost is read as %d %q", status, text)
		}
		return lost()
	})
	m.touch("anybody", "second")
	body, err := json.Marshal(map[string]any{"path": "/touch", "targetTime": time.Now().Add(200 * time.Millisecond), "data": []any{"reminded", 0}})
	must(t, err)
	status, _, text, err := send(http.DefaultClient, http.MethodPut, g.url+"/apps/a/kar/v1/actor/T/r/reminders/r", map[string]string{"Content-Type": "application/json"}, string(body))
	if err != nil || status/100 != 2 {
		t.Errorf("reminder: %d %s %v", status, text, err)
	}
	eventually(t, 10*time.Second, "the reminder fires", func() bool { return w.of("reminded") == 1 })
	if !lost() {
		t.Error("state is no longer refused")
	}
	c.untouched()
}

// metric is the sum of a metric over all gateways.
func (m *mesh) metric(name string) (sum float64) {
	m.mu.Lock()
	gs := append([]*gateway(nil), m.gateways...)
	m.mu.Unlock()
	for _, g := range gs {
		sum += g.metric(name)
	}
	return sum
}

// touch is one call without state that must succeed.
func (m *mesh) touch(actor, key string) {
	m.t.Helper()
	status, _, text, err := send(&http.Client{Timeout: 20 * time.Second}, http.MethodPost, m.urls()[0]+"/apps/a/kar/v1/actor/T/"+actor+"/call/touch", nil, fmt.Sprintf("[%q,0]", key))
	if err != nil || status != http.StatusOK {
		m.t.Errorf("call: %d %s %v", status, text, err)
	}
}

// TestMeshGatewayDiesWhileRedisIsAway: what it owned is taken over without the store.
func TestMeshGatewayDiesWhileRedisIsAway(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 9, keyless: true, kinds: []string{"touch", "tell", "work"}})
	writers := m.load(w, loadOptions{name: "w", clients: 4, kinds: []string{"add"}})
	l.progress("before", 20)
	writers.progress("before", 20)
	must(t, m.redis.Pause())
	begin := time.Now()
	l.progress("Redis is away", 10)
	m.forget(gs[1])
	killed := time.Now()
	gs[1].end(syscall.SIGKILL)
	l.progress("a gateway was killed", 20)
	l.gaps(t, "gateway killed while Redis is away", killed, time.Now())
	time.Sleep(time.Until(begin.Add(5 * time.Second))) // the length of the outage at least
	must(t, m.redis.Resume())
	writers.progress("afterwards", 20)
	l.verify()
	writers.verify()
	c1.untouched()
	c2.untouched()
}
