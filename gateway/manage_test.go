package gateway

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

func decodeInto[T any](t *testing.T, w *world, verb, path string, status int) T {
	t.Helper()
	var v T
	got, text, _ := w.send(verb, path, "")
	if got != status {
		t.Errorf("%s %s: %d %s", verb, path, got, text)
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Errorf("%s %s: %v in %s", verb, path, err, text)
	}
	return v
}

func TestInformation(t *testing.T) {
	w := newWorld(t)
	one := w.host("a", "svc", []string{"T", "U"}, echo)
	w.host("other", "svc2", nil, echo)
	w.expect("POST", "/actor/T/1/call/m", "", 200, `{"value":"T|1|/m|"}`)
	w.expect("POST", "/actor/T/2/call/m", "", 200, `{"value":"T|2|/m|"}`)
	asJSON := http.Header{"Accept": {"application/json"}}
	for path, want := range map[string]string{
		"sidecars": `{"` + one.boot + `":{"port":3500,"actors":["T","U"],"services":["svc"]}}`,
		"Sidecars": `{"` + one.boot + `":{"port":3500,"actors":["T","U"],"services":["svc"]}}`,
		"actors":   `{"T":["1","2"]}`, "Actors": `{"T":["1","2"]}`,
	} {
		resp := w.do(ask{verb: "GET", path: "/system/information/" + path, header: asJSON})
		if text := readAll(t, resp); resp.StatusCode != 200 || text != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
	w.expect("GET", "/system/information/actors", "", 200, "T: [\n    1\n    2\n]\n")
	if status, text, _ := w.send("GET", "/system/information/sidecars", ""); status != 200 || !strings.Contains(text, one.boot) || strings.Contains(text, "svc2") {
		t.Errorf("%d %s", status, text)
	}
	resp := w.do(ask{verb: "GET", path: "/system/information/sidecar_actors", header: asJSON, caller: runtime.Caller{Boot: one.boot}})
	if text := readAll(t, resp); text != `{"T":["1","2"]}` {
		t.Errorf("sidecar_actors: %s", text)
	}
	for path, code := range map[string]string{"nonsense": "bad_request", "id": "not_found", "sidecar_actors": "not_found"} {
		if status, _, h := w.send("GET", "/system/information/"+path, ""); h.Get("Kar-Error") != code {
			t.Errorf("%s: %d %v", path, status, h)
		}
	}
	w.expect("GET", "/system/health", "", 200, "OK")
	if status, _, h := w.send("POST", "/system/shutdown", ""); status != 404 || h.Get("Kar-Error") != "not_found" {
		t.Errorf("shutdown: %d %v", status, h)
	}
	if status, _, h := w.send("GET", "/debug/register", ""); status != 501 || h.Get("Kar-Error") != "unsupported" {
		t.Errorf("debug: %d %v", status, h)
	}
	w.expect("PUT", "/actor/U/9/state/k", "1", 201, "")
	// The list reads the store, which follows the log.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); goruntime.Gosched() {
		if len(decodeInto[map[string][]string](t, w, "GET", "/instances?type=U", 200)) > 0 {
			break
		}
	}
	if got := decodeInto[map[string][]string](t, w, "GET", "/instances", 200); len(got) != 2 || len(got["T"]) != 2 || len(got["U"]) != 1 {
		t.Errorf("instances %v", got)
	}
	if got := decodeInto[map[string][]string](t, w, "GET", "/instances?type=U", 200); len(got) != 1 || len(got["U"]) != 1 {
		t.Errorf("instances of U %v", got)
	}
}

func TestParkedRequestsCanBeSeenAndCancelled(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for range 2 {
		ids = append(ids, readAll(t, w.do(ask{verb: "POST", path: "/actor/Absent/i/call/m", header: http.Header{"Pragma": {"promise"}}})))
	}
	type list struct{ Missing []missingAnswer }
	got := decodeInto[list](t, w, "GET", "/missing", 200).Missing
	if len(got) != 1 || got[0].Component != "Absent" || got[0].Kind != "actor" || got[0].Waiting != 2 || got[0].Since.IsZero() {
		t.Errorf("missing %+v", got)
	}
	info := decodeInto[requestAnswer](t, w, "GET", "/requests/"+ids[0], 200)
	if info.ID != ids[0] || info.Type != "Absent" || info.Actor != "i" || (info.State != "parked" && info.State != "waiting") {
		t.Errorf("request %+v", info)
	}
	if got := decodeInto[map[string]string](t, w, "DELETE", "/requests/"+ids[0], 200); got["result"] != "cancelled" || got["id"] != ids[0] {
		t.Errorf("cancel %v", got)
	}
	if status, _, h := w.send("POST", "/await", ids[0]); status != 410 || h.Get("Kar-Error") != "cancelled" || h.Get("Kar-Request-Id") != ids[0] {
		t.Errorf("await: %d %v", status, h)
	}
	if got := decodeInto[map[string]int](t, w, "DELETE", "/requests", 200); got["cancelled"] != 1 {
		t.Errorf("cancel all %v", got)
	}
}

func TestPurgeAndDrain(t *testing.T) {
	w := newWorld(t)
	id := readAll(t, w.do(ask{verb: "POST", path: "/service/absent/call/m", header: http.Header{"Pragma": {"promise"}}}))
	w.expect("PUT", "/actor/T/i/state/k", "1", 201, "")
	if got := decodeInto[map[string]int](t, w, "POST", "/drain", 200); got["withdrawn"] != 1 {
		t.Errorf("drain %v", got)
	}
	if status, _, h := w.send("POST", "/await", id); status != 410 || h.Get("Kar-Error") != "drained" {
		t.Errorf("await: %d %v", status, h)
	}
	w.expect("GET", "/actor/T/i/state/k", "", 200, "1")
	w.expect("POST", "/purge", "", 204, "")
	w.expect("GET", "/actor/T/i/state/k", "", 404, "Not Found\n")
}

func TestServicesByURL(t *testing.T) {
	w := newWorld(t)
	w.expect("PUT", "/services/p", `{"url":"http://127.0.0.1:1","proxied":true}`, 201, `{"name":"p","url":"http://127.0.0.1:1","timeout":"30s","proxied":true}`)
	w.expect("DELETE", "/services/p", "", 204, "")
	w.expect("GET", "/services", "", 200, `{"services":[]}`)
	w.expect("PUT", "/services/s", `{"url":"http://127.0.0.1:1/base","timeout":"90s"}`, 201, `{"name":"s","url":"http://127.0.0.1:1/base","timeout":"1m30s"}`)
	w.expect("PUT", "/services/s", `{"url":"https://127.0.0.1:1"}`, 200, `{"name":"s","url":"https://127.0.0.1:1","timeout":"30s"}`)
	w.expect("GET", "/services", "", 200, `{"services":[{"name":"s","url":"https://127.0.0.1:1","timeout":"30s"}]}`)
	w.expect("DELETE", "/services/s", "", 204, "")
	if status, _, h := w.send("DELETE", "/services/s", ""); status != 404 || h.Get("Kar-Error") != "not_found" {
		t.Errorf("%d %v", status, h)
	}
	for _, body := range []string{"", "x", `{}`, `{"url":"/x"}`, `{"url":"ftp://x"}`, `{"url":"http://x?y"}`, `{"url":"http://x","timeout":"0"}`, `{"url":"http://x","timeout":"-1s"}`, `{"url":"http://x","timeout":"99ms"}`, `{"url":"http://[::1"}`} {
		if status, _, h := w.send("PUT", "/services/s", body); status != 400 || h.Get("Kar-Error") != "bad_request" || h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %v", body, status, h)
		}
	}
}

func TestAdmin(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Status = func() any { return map[string]int{"extra": 7} } })
	w.host("a", "svc", nil, echo)
	w.expect("GET", "//kar/health", "", 200, "OK\n")
	w.expect("HEAD", "//kar/health", "", 200, "")
	w.expect("GET", "//kar/ready", "", 200, "OK\n")
	w.gw.Stop()
	if status, _, h := w.send("GET", "//kar/ready", ""); status != 503 || h.Get("Kar-Error") != "shutting_down" || h.Get("Retry-After") == "" {
		t.Errorf("%d %v", status, h)
	}
	w.expect("GET", "/service/svc/call/x", "", 200, "")
	s := decodeInto[statusAnswer](t, w, "GET", "//kar/status", 200)
	if s.Version != "test" || s.Node != "gateway-under-test" || s.PID == 0 || s.Started.IsZero() || s.Hosts != 1 || !s.Stopping || s.Partitions != 1 || s.Details == nil {
		t.Errorf("%+v", s)
	}
	_, text, _ := w.send("GET", "//metrics", "")
	for _, line := range []string{`kar_http_request_seconds_count{route="service_call",status="2xx"} 1`, "kar_hosts 1\n", "kar_requests_accepted_total 1\n", "kar_dead_letters_total 0\n", `kar_build_info{node="gateway-under-test",version="test"} 1`} {
		if !strings.Contains(text, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	w.expect("GET", "//nothing", "", 404, "there is nothing at this path; the API document is at /kar/openapi.json\n"+runtime.CodeNotFound.Hint()+"\n")
}

func TestPanicIsAnsweredAndLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Status = func() any { panic("of the test") }
	})
	status, _, h := w.send("GET", "//kar/status", "")
	if status != 500 || h.Get("Kar-Error") != "internal" {
		t.Errorf("%d %v", status, h)
	}
	if n := strings.Count(log.String(), "of the test"); n != 1 || !strings.Contains(log.String(), "stack=") {
		t.Errorf("logged %d times: %s", n, log.String())
	}
}

// TestGatewayThatStopsRefuses holds that 503 is what a caller sees when nothing
// was accepted, and that health, which the mesh is asked for once in a second
// however many ask, says so once the mesh is closed.
func TestGatewayThatStopsRefuses(t *testing.T) {
	later := time.Duration(0)
	w := newWorld(t, func(c *Config) {
		c.Now = func() time.Time { return time.Unix(1_800_000_000, 0).Add(later) }
	})
	w.host("a", "svc", nil, echo)
	refused := func(verb, path, code string) {
		t.Helper()
		if status, _, h := w.send(verb, path, ""); status != 503 || h.Get("Kar-Error") != code || h.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", path, status, h)
		}
	}
	w.mesh.Pause()
	refused("POST", "/service/svc/call/x", "shutting_down")
	w.expect("GET", "//kar/health", "", 200, "OK\n")
	if err := w.mesh.Close(); err != nil {
		t.Fatal(err)
	}
	w.expect("GET", "//kar/health", "", 200, "OK\n")
	later = verdictLife
	if status, _, h := w.send("GET", "//kar/health", ""); status != 503 || h.Get("Kar-Error") == "" {
		t.Errorf("health: %d %v", status, h)
	}
	if status, _, h := w.send("GET", "/actor/T/i/state/k", ""); status != 503 {
		t.Errorf("state: %d %v", status, h)
	}
}
