package mesh_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMeshSoakPoison sends a request that kills whatever process runs it, among
// many that harm nobody: they complete, each, and it alone meets the limit of
// attempts. Components are started again as often as they die.
func TestMeshSoakPoison(t *testing.T) {
	soak(t)
	m, w := newMesh(t, options{env: []string{"KAR_MAX_ATTEMPTS=3"}}), newWitness(t)
	m.three()
	stop, deaths := make(chan struct{}), 0
	var supervisor sync.WaitGroup
	c := m.component(w, "")
	supervisor.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-c.done:
				deaths++
				c = m.component(w, "")
			}
		}
	})
	defer func() { close(stop); supervisor.Wait() }()

	const innocents = 100
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 10}}
	defer client.CloseIdleConnections()
	ids := map[string]string{} // by key
	promise := func(key, method string, ms int) {
		t.Helper()
		header := map[string]string{"Pragma": "promise", "Idempotency-Key": key}
		status, _, id, err := send(client, http.MethodPost, m.urls()[len(ids)%3]+"/apps/a/kar/v1/actor/T/"+key+"/call/"+method, header, fmt.Sprintf("[%q,%d]", key, ms))
		if err != nil || status != http.StatusAccepted {
			t.Fatalf("%s: %d %s %v", key, status, id, err)
		}
		ids[key] = strings.TrimSpace(id)
	}
	for i := range innocents {
		promise(fmt.Sprintf("innocent-%d", i), "touch", 2000)
		if i == innocents/2 {
			promise("poison", "die", 500)
		}
	}
	begin := time.Now()
	outcome := func(key string) (int, string, string) {
		for way := 0; ; way++ {
			status, head, text, err := send(client, http.MethodGet, m.urls()[way%3]+"/apps/a/kar/v1/requests/"+ids[key]+"/outcome", map[string]string{"Kar-Timeout": "20s"}, "")
			if err == nil && status != http.StatusRequestTimeout && status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout {
				return status, head.Get("Kar-Error"), strings.TrimSpace(text)
			}
			if time.Since(begin) > 5*time.Minute {
				t.Fatalf("%s has no outcome after 5 minutes and %d runs: %d %s %v", key, w.of(key), status, text, err)
			}
		}
	}
	most := 0
	for i := range innocents {
		key := fmt.Sprintf("innocent-%d", i)
		if status, code, text := outcome(key); status != http.StatusOK || text != `{"value":"`+key+`"}` {
			t.Errorf("%s after %d runs: %d %s %s", key, w.of(key), status, code, text)
		}
		most = max(most, w.of(key))
	}
	t.Logf("the innocent were done after %s, with at most %d runs each", time.Since(begin).Round(time.Second), most)
	status, code, text := outcome("poison")
	t.Logf("the poison ended after %s and %d runs: %d %s %s", time.Since(begin).Round(time.Second), w.of("poison"), status, code, text)
	if status < 400 || code == "" {
		t.Errorf("the poison completed: %d %s", status, text)
	}
	for _, o := range w.seen() {
		t.Error(o)
	}
	m.touch("afterwards", "afterwards")
	t.Logf("components died %d times", deaths)
}
