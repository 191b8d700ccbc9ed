package mesh_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMeshKillGateways kills each gateway in turn under load; a new one, at
// another address, joins after each. In the end none of the gateways that
// clients and components were told at the start is left.
func TestMeshKillGateways(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 16})
	l.progress("before the first kill", 20)
	calm := time.Now()
	l.progress("with all three", 40)
	l.gaps(t, "undisturbed", calm, time.Now())
	for i, g := range gs {
		m.forget(g)
		begin := time.Now()
		g.end(syscall.SIGKILL)
		l.progress(fmt.Sprintf("kill %d", i+1), 30)
		l.gaps(t, fmt.Sprintf("kill %d", i+1), begin, time.Now())
		begin = time.Now()
		m.gateway()
		l.progress("a new gateway", 30)
		l.gaps(t, "a new gateway", begin, time.Now())
	}
	l.verify()
	c1.untouched()
	c2.untouched()
}

// TestMeshGatewaysEnd asks each gateway in turn to end under load: others take
// over first, so that hardly anybody waits.
func TestMeshGatewaysEnd(t *testing.T) {
	m, w := newMesh(t, options{env: []string{"KAR_VERBOSE=debug"}}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 12})
	l.progress("before", 20)
	for _, g := range gs {
		m.gateway()
		l.progress("a new gateway", 10)
		m.forget(g)
		begin := time.Now()
		g.end(syscall.SIGTERM)
		t.Logf("the gateway took %s to end", time.Since(begin).Round(time.Millisecond))
		l.progress("a gateway ended", 20)
		l.gaps(t, "a gateway ended", begin, time.Now())
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	l.verify()
	c1.untouched()
	c2.untouched()
}

// TestMeshStopGateways stops each gateway under load for longer than its lease,
// then for longer than the lease of the components, and lets it go on: whatever
// it was about to do, it has been deposed. It must do no harm, and take part
// again. Actors and a service, two components.
func TestMeshStopGateways(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 12, try: 1500 * time.Millisecond, ms: 2})
	l.progress("before the first stop", 20)
	stop := func(g *gateway, d time.Duration) {
		t.Helper()
		begin := time.Now()
		g.signal(syscall.SIGSTOP)
		time.Sleep(d) // which is what is tested
		l.gaps(t, fmt.Sprintf("gateway stopped for %s", d), begin, time.Now())
		g.signal(syscall.SIGCONT)
		resumed := time.Now()
		l.progress("after "+d.String(), 20)
		l.gaps(t, "afterwards", resumed, time.Now())
		before := g.metric("kar_requests_accepted_total")
		eventually(t, 20*time.Second, "the gateway takes part again", func() bool {
			return g.metric("kar_requests_accepted_total") > before
		})
	}
	for _, g := range gs {
		stop(g, 3*gatewayLease)
	}
	stop(gs[0], hostLease+2*time.Second)
	l.verify()
	c1.untouched()
	c2.untouched()
}

// TestMeshPauseBeforeDispatch stops gateways for a moment again and again, at
// whatever point of their work, long enough to be deposed each time.
func TestMeshPauseBeforeDispatch(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 16, try: time.Second, pause: 3 * time.Millisecond})
	l.progress("before the first pause", 20)
	for i := range 9 {
		g := gs[i%3]
		g.signal(syscall.SIGSTOP)
		time.Sleep(gatewayLease + 500*time.Millisecond) // until it is deposed
		g.signal(syscall.SIGCONT)
		l.progress("pause", 5)
	}
	l.verify()
	c1.untouched()
	c2.untouched()
}

// metric is the sum of a metric of this gateway, 0 when it does not answer.
func (g *gateway) metric(name string) (sum float64) {
	_, text, err := ask(http.MethodGet, g.url+"/metrics")
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		var x float64
		if rest, ok := strings.CutPrefix(s.Text(), name); ok {
			fields := strings.Fields(rest)
			if _, err := fmt.Sscan(fields[len(fields)-1], &x); err == nil {
				sum += x
			}
		}
	}
	return sum
}

// TestMeshClaimRace starts six gateways at the same instant on a mesh that does
// not exist yet, and kills all but one at the same instant under load.
func TestMeshClaimRace(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	var gs []*gateway
	for range 6 {
		gs = append(gs, m.launch())
	}
	for _, g := range gs {
		m.ready(g)
	}
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 12})
	l.progress("six gateways", 10)
	begin := time.Now()
	for _, g := range gs[:5] {
		m.forget(g)
		g.quit.Store(true)
		g.signal(syscall.SIGKILL)
	}
	l.progress("one gateway is left", 10)
	l.gaps(t, "five of six killed", begin, time.Now())
	l.verify()
	c.untouched()
}

// TestMeshIdempotencyStorm sends one keyed call a hundred times through three
// gateways while one of them is killed, for several keys.
func TestMeshIdempotencyStorm(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c := m.component(w, "")
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	for round := range 6 {
		key := fmt.Sprintf("storm-%d", round)
		answers := make([]string, 100)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = insistently(t, m, client, "stormy"+fmt.Sprint(round), key, i) })
		}
		if round%2 == 1 { // the run lasts for 200 ms
			eventually(t, 20*time.Second, "the run begins", func() bool { return w.of(key) > 0 })
		}
		m.forget(gs[0])
		gs[0].end(syscall.SIGKILL)
		gs = append(gs[1:], m.gateway())
		all.Wait()
		for i, a := range answers {
			if a != answers[0] || a == "" {
				t.Errorf("%s: answer %d is %q, the first is %q", key, i, a, answers[0])
			}
		}
		if n := w.of(key); n != 1 {
			t.Errorf("%s was run %d times", key, n)
		}
	}
	for _, o := range w.seen() {
		t.Error(o)
	}
	c.untouched()
}

// insistently repeats a keyed call until it has an answer.
func insistently(t *testing.T, m *mesh, client *http.Client, actor, key string, way int) string {
	header := map[string]string{"Content-Type": "application/kar+json", "Idempotency-Key": key}
	for end := time.Now().Add(45 * time.Second); ; way++ {
		urls := m.urls()
		status, _, answer, err := send(client, http.MethodPost, urls[way%len(urls)]+"/apps/a/kar/v1/actor/T/"+actor+"/call/stamp", header, fmt.Sprintf("[%q,200]", key))
		switch {
		case err == nil && status == http.StatusOK:
			return answer
		case err == nil && status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout || time.Now().After(end):
			t.Errorf("%s: %d %s %v", key, status, answer, err)
			return ""
		}
		time.Sleep(20 * time.Millisecond) // before it is repeated
	}
}

// TestMeshReminderStorm lets many reminders be due at one instant and kills a
// gateway when some of them have fired: each fires once.
func TestMeshReminderStorm(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c := m.component(w, "")
	const actors, each = 40, 50
	due := time.Now().Add(8 * time.Second)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: actors}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for a := range actors {
		all.Go(func() {
			for r := range each {
				body, err := json.Marshal(map[string]any{
					"path": "/touch", "targetTime": due.Format(time.RFC3339Nano), "data": []any{fmt.Sprintf("r-%d-%d", a, r), 1},
				})
				if err != nil {
					t.Error(err)
				}
				url := fmt.Sprintf("%s/apps/a/kar/v1/actor/T/rem%d/reminders/r%d", gs[a%3].url, a, r)
				status, _, text, err := send(client, http.MethodPut, url, map[string]string{"Content-Type": "application/json"}, string(body))
				if err != nil || status != http.StatusNoContent && status != http.StatusOK && status != http.StatusCreated {
					t.Errorf("reminder: %d %s %v", status, text, err)
				}
			}
		})
	}
	all.Wait()
	left := time.Until(due)
	if left < 0 || w.total() > 0 {
		t.Fatalf("setting the reminders took too long, they were due %s ago", -left)
	}
	t.Logf("%d reminders were set %s before they are due", actors*each, left.Round(time.Millisecond))
	seen := func(n int) func() bool { return func() bool { return w.total() >= n } }
	eventually(t, time.Minute, "some reminders have fired", seen(actors*each/4))
	m.forget(gs[0])
	gs[0].end(syscall.SIGKILL)
	at := w.total()
	eventually(t, time.Minute, "all reminders have fired", seen(actors*each))
	t.Logf("%d of %d had been run at the kill, all of them %s after they were due", at, actors*each, time.Since(due).Round(time.Millisecond))
	for a := range actors {
		for r := range each {
			if n := w.of(fmt.Sprintf("r-%d-%d", a, r)); n != 1 {
				t.Errorf("reminder %d of actor %d fired %d times", r, a, n)
			}
		}
	}
	c.untouched()
}

// TestMeshDeadAddressFirst starts a component and a command that are told a dead address first.
func TestMeshDeadAddressFirst(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	g := m.gateway()
	at := "http://127.0.0.1:" + freePort(t) + "," + g.url
	c := m.component(w, at)
	p := m.start([]string{"KAR_GATEWAY=" + at}, "invoke", "-app", "a", "T", "x", "touch", "k", "1")
	if code := p.code(20 * time.Second); code != 0 || !strings.Contains(p.out.String(), `"k"`) {
		t.Errorf("exit code %d: %s", code, p.out)
	}
	c.untouched()
}

// TestMeshRefusesToStart: what is configured wrongly ends `kar gateway` with a
// code and a name. TestMisconfigured in runtime/kafka has the topics.
func TestMeshRefusesToStart(t *testing.T) {
	m := newMesh(t, options{})
	m.gateway()
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"no Kafka there":        {[]string{"KAFKA_BROKERS=127.0.0.1:" + freePort(t)}, "kafka_unreachable"},
		"Kafka wants no TLS":    {[]string{"KAFKA_ENABLE_TLS=true"}, "kafka_tls"},
		"Redis without Kafka":   {[]string{"KAFKA_BROKERS="}, "bad_config"},
		"another partition set": {[]string{"KAR_PARTITIONS=8"}, "foreign_data"},
		"no user of Redis":      {[]string{"REDIS_USER=nobody", "REDIS_PASSWORD=wrong"}, "redis_auth"},
	} {
		t.Run(name, func(t *testing.T) {
			p := m.startFor(t, c.env, "gateway", "--listen", "127.0.0.1:0")
			code := p.code(60 * time.Second)
			if code == 0 || !strings.Contains(p.out.String(), c.says) {
				t.Errorf("exit code %d, want %s:\n%s", code, c.says, p.out)
			}
			t.Logf("exit code %d", code)
		})
	}
}
