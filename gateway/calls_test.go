package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

func TestServiceCallPassesEverythingThrough(t *testing.T) {
	w := newWorld(t)
	w.host("a", "svc", nil, echo)
	for _, verb := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		resp := w.do(ask{verb: verb, path: "/service/svc/call/x/y%2Fz?q=1&r=%20", body: string(everyByte()),
			header: http.Header{"Content-Type": {"application/octet-stream"}, "X-Custom": {"kept"}, "Kar-Request-Id": {"forged"}}})
		h := resp.Header
		id := h.Get("Kar-Request-Id")
		if _, err := runtime.ParseID(id); err != nil {
			t.Errorf("%s: Kar-Request-Id %q", verb, id)
		}
		if resp.StatusCode != 200 || h.Get("X-Method") != verb || h.Get("X-Path") != "/x/y%2Fz?q=1&r=%20" ||
			h.Get("X-Custom") != "kept" || h.Get("Content-Type") != "application/octet-stream" || h.Get("X-Request") != id {
			t.Errorf("%s: %d %v", verb, resp.StatusCode, h)
		}
		if body := readAll(t, resp); body != string(everyByte()) {
			t.Errorf("%s: %d bytes came back changed", verb, len(body))
		}
	}
	w.expect("TRACE", "/service/svc/call/x", "", 405, "TRACE is not a method of this path\n"+runtime.CodeMethodNotAllowed.Hint()+"\n")
}

func TestServiceAnswersAreRelayed(t *testing.T) {
	w := newWorld(t)
	var answer runtime.Outcome
	w.host("a", "svc", nil, func(*runtime.Invoke) runtime.Outcome { return answer })
	for _, c := range []struct {
		name, verb string
		answer     runtime.Outcome
		header     http.Header // what must be there; an empty list means absent
		body       string
	}{
		{"error of the app", "GET", runtime.Outcome{Status: 500, Header: runtime.Header{"Content-Type": {"text/html"}}, Body: []byte("<b>")},
			http.Header{"Content-Type": {"text/html"}, "Kar-Error": {}}, "<b>"},
		{"created", "POST", runtime.Outcome{Status: 201, Header: runtime.Header{"Location": {"/x"}, "Set-Cookie": {"a=1", "b=2"}}},
			http.Header{"Location": {"/x"}, "Set-Cookie": {"a=1", "b=2"}, "Content-Type": {}}, ""},
		{"redirect", "GET", runtime.Outcome{Status: 307, Header: runtime.Header{"Location": {"http://elsewhere/"}}},
			http.Header{"Location": {"http://elsewhere/"}}, ""},
		{"no content", "GET", runtime.Outcome{Status: 204, Header: runtime.Header{"Content-Type": {"text/plain"}}},
			http.Header{"Content-Type": {}, "Content-Length": {}}, ""},
		{"no type", "GET", runtime.Outcome{Status: 200, Body: []byte("<html>")}, http.Header{"Content-Type": {}}, "<html>"},
		{"hop by hop", "GET", runtime.Outcome{Status: 200, Header: runtime.Header{"Connection": {"close"}, "Kar-Error": {"forged"}, "Content-Length": {"99"}}, Body: []byte("x")},
			http.Header{"Connection": {}, "Kar-Error": {}, "Content-Length": {"1"}}, "x"},
		{"head", "HEAD", runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Length": {"1234"}, "Content-Type": {"a/b"}}},
			http.Header{"Content-Length": {"1234"}, "Content-Type": {"a/b"}}, ""},
		{"impossible status", "GET", runtime.Outcome{Status: 42}, http.Header{"Kar-Error": {"bad_answer"}},
			"the component answered with status 42\n" + runtime.CodeBadAnswer.Hint() + "\n"},
	} {
		answer = c.answer
		resp := w.do(ask{verb: c.verb, path: "/service/svc/call/x"})
		want := c.answer.Status
		if want < 100 {
			want = 502
		}
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", c.name, resp.StatusCode, want)
		}
		for name, values := range c.header {
			if got := resp.Header[name]; strings.Join(got, "|") != strings.Join(values, "|") {
				t.Errorf("%s: %s is %q, want %q", c.name, name, got, values)
			}
		}
		if body := readAll(t, resp); body != c.body {
			t.Errorf("%s: body %q, want %q", c.name, body, c.body)
		}
	}
}

func TestActorCall(t *testing.T) {
	w := newWorld(t)
	w.host("a", "", []string{"T"}, func(m *runtime.Invoke) runtime.Outcome {
		switch m.Path {
		case "/void":
			return runtime.Outcome{Status: 204}
		case "/throw":
			return runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: []byte(`{"error":true,"message":"m","stack":"s"}`)}
		case "/session":
			return value(`"` + m.Session + `"`)
		}
		return echo(m)
	})
	h := w.expect("POST", "/actor/T/i/call/m", "[1,2]", 200, `{"value":"T|i|/m|[1,2]"}`)
	if h.Get("Content-Type") != "application/kar+json" {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	if h := w.expect("POST", "/actor/T/i/call/void", "", 204, ""); h["Content-Type"] != nil {
		t.Errorf("204 has Content-Type %q", h["Content-Type"])
	}
	w.expect("POST", "/actor/T/i/call/throw", "[]", 200, `{"error":true,"message":"m","stack":"s"}`)
	if h := w.expect("GET", "/actor/T/i/call/m", "", 405, "GET is not a method of this path\n"+runtime.CodeMethodNotAllowed.Hint()+"\n"); h.Get("Allow") != "POST" {
		t.Errorf("Allow %q", h.Get("Allow"))
	}
	resp := w.do(ask{verb: "POST", path: "/actor/T/i/call/m", body: "a=1&b=2", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}})
	if body := readAll(t, resp); body != `{"value":"T|i|/m|a=1&b=2"}` {
		t.Errorf("a form body arrives as %s", body)
	}
	if _, text, _ := w.send("POST", "/actor/T/i/call/session", "[]"); strings.Count(text, ":") != 3 { // "value": and flow:request:part
		t.Errorf("session %s", text)
	}
	if status, _, h := w.send("POST", "/actor/T/i/call/m?session=%00", "[]"); status != 400 || h.Get("Kar-Error") != "bad_session" {
		t.Errorf("impossible session: %d %v", status, h)
	}
}

// TestSessionReEnters holds that a nested call with the session of its caller
// is not queued behind it.
func TestSessionReEnters(t *testing.T) {
	w := newWorld(t)
	w.host("a", "", []string{"T"}, func(m *runtime.Invoke) runtime.Outcome {
		if m.Path == "/outer" {
			status, text, _ := w.send("POST", "/actor/T/i/call/inner?x=1&session="+url.QueryEscape(m.Session), "[]")
			if status != 200 {
				t.Errorf("nested call: %d %s", status, text)
			}
			return runtime.Outcome{Status: 200, Body: []byte(text)}
		}
		return value("7")
	})
	w.expect("POST", "/actor/T/i/call/outer", "[]", 200, `{"value":7}`)
}

func TestOddNames(t *testing.T) {
	w := newWorld(t)
	odd := []string{"a/b", "100%", "%2F", "a b", "a+b", "?", "#", "🦊", "..", ".", "call", "kar", "a:b", "\x01\xff", strings.Repeat("é", 1000)}
	for i, name := range odd {
		w.host(name, "svc "+name, []string{"T " + name}, func(m *runtime.Invoke) runtime.Outcome {
			if m.Target.App != name || m.Target.Component() == "" {
				return runtime.Outcome{Status: 599}
			}
			return runtime.Outcome{Status: 200, Body: []byte(m.Target.ID + "|" + m.Path)}
		})
		for _, id := range []string{name, odd[(i+1)%len(odd)]} {
			app := "//apps/" + url.PathEscape(name) + "/kar/v1"
			actor := app + "/actor/" + url.PathEscape("T "+name) + "/" + url.PathEscape(id)
			w.expect("GET", app+"/service/"+url.PathEscape("svc "+name)+"/call/a%3Fb", "", 200, "|/a%3Fb")
			if id == "." || id == ".." { // some servers take it for a step in a path
				if status, _, h := w.send("POST", actor+"/call/do%2Fit", "[]"); status != 400 || h.Get("Kar-Error") != "bad_request" {
					t.Errorf("%s: %d %s", actor, status, h.Get("Kar-Error"))
				}
				continue
			}
			w.expect("POST", actor+"/call/do%2Fit", "[]", 200, id+"|/do%2Fit")
			key := actor + "/state/" + url.PathEscape(name)
			h := w.expect("PUT", key, "1", 201, "")
			if got, err := url.PathUnescape(h.Get("Location")); err != nil || got != "/apps/"+name+"/kar/v1/actor/T "+name+"/"+id+"/state/"+name {
				t.Errorf("Location %q, %v", h.Get("Location"), err)
			}
			w.expect("GET", key, "", 200, "1")
			w.expect("PUT", key+"/"+url.PathEscape(id), "2", 201, "")
			w.expect("GET", key+"/"+url.PathEscape(id), "", 200, "2")
			w.expect("GET", key, "", 200, "1")
		}
	}
}

func TestTellPromiseAwait(t *testing.T) {
	w := newWorld(t)
	runs := make(chan string, 10)
	w.host("a", "svc", []string{"T"}, func(m *runtime.Invoke) runtime.Outcome {
		runs <- string(m.Body)
		return value("42")
	})
	resp := w.do(ask{verb: "POST", path: "/actor/T/i/call/m", body: "told", header: http.Header{"Pragma": {"no-cache, async"}}})
	if text := readAll(t, resp); resp.StatusCode != 202 || text != "OK" || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("Kar-Request-Id") == "" {
		t.Errorf("tell: %d %q %v", resp.StatusCode, text, resp.Header)
	}
	if got := <-runs; got != "told" {
		t.Errorf("the tell brought %q", got)
	}
	for _, path := range []string{"/actor/T/i/call/m", "/service/svc/call/m"} {
		resp = w.do(ask{verb: "POST", path: path, body: "promised", header: http.Header{"Pragma": {"Promise"}}})
		id := readAll(t, resp)
		if resp.StatusCode != 202 || resp.Header.Get("Kar-Request-Id") != id || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("promise: %d %q %v", resp.StatusCode, id, resp.Header)
		}
		for range 2 { // as often as one likes
			h := w.expect("POST", "/await", id, 200, `{"value":42}`)
			if h.Get("Content-Type") != "application/kar+json" || h.Get("Kar-Request-Id") != id {
				t.Errorf("await: %v", h)
			}
		}
		w.expect("POST", "/await", " "+id+"\n", 200, `{"value":42}`)
		w.expect("GET", "/requests/"+id+"/outcome", "", 200, `{"value":42}`)
	}
}

// TestAwaitNamesItsHost: who awaits a promise through a host may fill it.
func TestAwaitNamesItsHost(t *testing.T) {
	w := newWorldOn(t, func(c *engine.Config) { c.HostLimit = 1 })
	var h *testHost
	h = w.host("a", "svc", nil, func(m *runtime.Invoke) runtime.Outcome {
		if m.Path == "/inner" {
			return value("1")
		}
		me := runtime.Caller{App: "a", Boot: h.boot}
		id := readAll(t, w.do(ask{verb: "POST", path: "/service/svc/call/inner", header: http.Header{"Pragma": {"promise"}}, caller: me}))
		if m.Path == "/outcome" {
			return value(readAll(t, w.do(ask{verb: "GET", path: "/requests/" + id + "/outcome", caller: me})))
		}
		return value(readAll(t, w.do(ask{verb: "POST", path: "/await", body: id, caller: me})))
	})
	for _, path := range []string{"/await", "/outcome"} {
		w.expect("POST", "/service/svc/call"+path, "", 200, `{"value":{"value":1}}`)
	}
}

func TestAwaitRefuses(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{"", "req-5f0c", "zzzz", strings.Repeat("x", 3000)} {
		if status, _, h := w.send("POST", "/await", body); status != 400 || h.Get("Kar-Error") != "bad_id" {
			t.Errorf("%q: %d %v", clip(body, 20), status, h)
		}
	}
	foreign := runtime.NewID(time.Now().UnixMilli(), 0, "a", [6]byte{1}).String()
	if status, _, h := w.send("GET", "/requests/"+foreign, ""); status != 404 || h.Get("Kar-Error") != "unknown_request" || h.Get("Kar-Request-Id") != foreign {
		t.Errorf("unknown request: %d %v", status, h)
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	var runs atomic.Int32
	w.host("a", "svc", nil, func(*runtime.Invoke) runtime.Outcome { runs.Add(1); return value("1") })
	key := http.Header{"Idempotency-Key": {"k-1"}}
	first := w.do(ask{verb: "POST", path: "/service/svc/call/x", body: "b", header: key})
	again := w.do(ask{verb: "POST", path: "/service/svc/call/x", body: "b", header: key})
	if text := readAll(t, first); text != `{"value":1}` || text != readAll(t, again) || runs.Load() != 1 {
		t.Errorf("%d runs, answers %v and %v", runs.Load(), first, again)
	}
	other := w.do(ask{verb: "POST", path: "/service/svc/call/x", body: "c", header: key})
	if other.StatusCode != 422 || other.Header.Get("Kar-Error") != "key_reused" {
		t.Errorf("another body: %d %v", other.StatusCode, other.Header)
	}
}

func TestLimitsAnswer408(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		header, code string
	}{{"Kar-Missing-Component-Timeout", "missing_component"}, {"Kar-Timeout", "deadline_exceeded"}} {
		resp := w.do(ask{verb: "GET", path: "/service/absent/call/x", header: http.Header{c.header: {"20ms"}}})
		if resp.StatusCode != 408 || resp.Header.Get("Kar-Error") != c.code || resp.Header.Get("Kar-Request-Id") == "" {
			t.Errorf("%s: %d %v", c.header, resp.StatusCode, resp.Header)
		}
		if text := readAll(t, resp); !strings.HasSuffix(text, runtime.Code(c.code).Hint()+"\n") {
			t.Errorf("%s: %q", c.header, text)
		}
	}
	resp := w.do(ask{verb: "POST", path: "/service/absent/call/x", header: http.Header{"Pragma": {"promise"}}})
	resp = w.do(ask{verb: "GET", path: "/requests/" + readAll(t, resp) + "/outcome", header: http.Header{"Kar-Timeout": {"0.02"}}})
	var p problem
	if err := json.Unmarshal([]byte(readAll(t, resp)), &p); err != nil || resp.StatusCode != 408 || p.Code != runtime.CodeDeadline || p.RequestID == "" {
		t.Errorf("outcome with a limit: %d %+v %v", resp.StatusCode, p, err)
	}
}

// Who calls under the key of an open request waits no longer than it has said, time
// after time.
func TestLimitOfACallUnderAKey(t *testing.T) {
	w := newWorld(t)
	key := func(pragma string) http.Header {
		return http.Header{"Idempotency-Key": {"k"}, "Pragma": {pragma}}
	}
	if resp := w.do(ask{verb: "POST", path: "/service/absent/call/x", header: key("async")}); resp.StatusCode != 202 {
		t.Fatal(resp.StatusCode)
	}
	for range 2 {
		h := key("no-cache")
		h.Set("Kar-Timeout", "50ms")
		resp := w.do(ask{verb: "POST", path: "/service/absent/call/x", header: h})
		if resp.StatusCode != 408 || resp.Header.Get("Kar-Error") != "deadline_exceeded" || resp.Header.Get("Kar-Request-Id") == "" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
}

func TestRemoveActor(t *testing.T) {
	w := newWorld(t)
	w.host("a", "", []string{"T"}, echo)
	w.expect("PUT", "/actor/T/i/state/k", "1", 201, "")
	if h := w.expect("DELETE", "/actor/T/i", "", 202, "OK"); h.Get("Kar-Request-Id") == "" {
		t.Error("no Kar-Request-Id")
	}
	w.expect("POST", "/actor/T/i/call/m", "", 200, `{"value":"T|i|/m|"}`) // queued behind the removal
	w.expect("GET", "/actor/T/i/state", "", 200, "{}")
}

func TestCallerIsTrustedOnlyFromItsStream(t *testing.T) {
	w := newWorld(t)
	h := w.host("a", "svc", nil, echo)
	id := runtime.NewID(time.Now().UnixMilli(), 0, "a", [6]byte{1, 2, 3})
	resp := w.do(ask{verb: "POST", path: "/service/svc/call/x", caller: runtime.Caller{Boot: h.boot, ID: id}})
	if got := resp.Header.Get("Kar-Request-Id"); got != id.String() {
		t.Errorf("the sidecar's id %s became %s", id, got)
	}
	resp = w.do(ask{verb: "PUT", path: "/actor/T/i/state/k", body: "1", caller: runtime.Caller{Boot: h.boot}})
	if got := resp.Header.Get("Location"); got != "/kar/v1/actor/T/i/state/k" {
		t.Errorf("a client of a sidecar sees the location %q", got)
	}
	resp = w.do(ask{verb: "GET", path: "/system/information/id", caller: runtime.Caller{Boot: h.boot}})
	if readAll(t, resp) != h.boot {
		t.Error("information/id does not name the host")
	}
}

func TestClientThatLeavesCancelsNothing(t *testing.T) {
	w := newWorld(t)
	started, finish := make(chan string, 1), make(chan struct{})
	w.host("a", "svc", nil, func(m *runtime.Invoke) runtime.Outcome {
		started <- m.Header.Get("Kar-Request-Id")
		<-finish
		return value("1")
	})
	ctx, leave := context.WithCancel(context.Background())
	rec, answered := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(answered)
		w.gw.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "POST", "/apps/a/kar/v1/service/svc/call/x", nil))
	}()
	id := <-started
	leave()
	<-answered
	if rec.Code != 504 || rec.Header().Get("Kar-Request-Id") != id {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
	close(finish)
	w.expect("POST", "/await", id, 200, `{"value":1}`)
}

func TestProblemJSONOnlyWhenAskedFor(t *testing.T) {
	w := newWorld(t)
	for accept, want := range map[string]string{
		"": "text/plain; charset=utf-8", "*/*": "text/plain; charset=utf-8", "application/json": "text/plain; charset=utf-8",
		"application/problem+json": "application/problem+json", "text/html, application/Problem+JSON;q=0.5": "application/problem+json",
	} {
		resp := w.do(ask{verb: "POST", path: "/await", body: "x", header: http.Header{"Accept": {accept}}})
		if got := resp.Header.Get("Content-Type"); got != want || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("Accept %q: %v", accept, resp.Header)
		}
	}
	resp := w.do(ask{verb: "GET", path: "/requests/x"})
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	want := problem{Type: "docs/errors/bad_id.md", Title: "bad id", Status: 400, Detail: p.Detail, Hint: runtime.CodeBadID.Hint(), Code: "bad_id"}
	if p != want || p.Detail == "" {
		t.Errorf("%+v", p)
	}
}

func TestBodyLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.BodyLimit = 1000 })
	w.host("a", "svc", nil, echo)
	fits := strings.Repeat("x", 1000)
	w.expect("POST", "/service/svc/call/x", fits, 200, fits)
	for _, size := range []int64{1001, -1} { // told in advance, or found while reading
		r := httptest.NewRequest("POST", "/apps/a/kar/v1/service/svc/call/x", bytes.NewReader(make([]byte, 1001)))
		r.ContentLength = size
		rec := httptest.NewRecorder()
		w.gw.Handler().ServeHTTP(rec, r)
		if rec.Code != 413 || rec.Header().Get("Kar-Error") != "too_large" {
			t.Errorf("%d %v", rec.Code, rec.Header())
		}
	}
}

// TestPlainOutcomeIsReleasedOnceDelivered holds for a direct client; a sidecar
// says itself when it has the outcome.
func TestPlainOutcomeIsReleasedOnceDelivered(t *testing.T) {
	w := newWorld(t)
	h := w.host("a", "svc", nil, func(*runtime.Invoke) runtime.Outcome { return value("1") })
	direct := w.expect("POST", "/service/svc/call/x", "", 200, `{"value":1}`).Get("Kar-Request-Id")
	for { // the release is not waited for
		status, _, header := w.send("POST", "/await", direct)
		if status == 410 && header.Get("Kar-Error") == "outcome_not_kept" {
			break
		}
		if status != 200 {
			t.Fatalf("%d %v", status, header)
		}
	}
	id := runtime.NewID(time.Now().UnixMilli(), 0, "a", [6]byte{9})
	w.do(ask{verb: "POST", path: "/service/svc/call/x", caller: runtime.Caller{Boot: h.boot, ID: id}})
	for range 3 {
		w.expect("POST", "/await", id.String(), 200, `{"value":1}`)
	}
}

// TestHeaderOfAHostIsNoFraming: field names arrive as a host wrote them, and
// those of the connection and of KAR do not go on to the client, however written.
func TestHeaderOfAHostIsNoFraming(t *testing.T) {
	w := newWorld(t)
	w.host("a", "svc", nil, func(*runtime.Invoke) runtime.Outcome {
		return runtime.Outcome{Status: 200, Body: []byte("four"), Header: runtime.Header{
			"transfer-encoding": {"chunked"}, "content-length": {"999"}, "CONTENT-LENGTH": {"3"}, "connection": {"close"}, "keep-alive": {"x"},
			"kar-error": {"unauthorized"}, "KAR-REQUEST-ID": {"spoof"}, "kar_request_id": {"spoof"}, "Kar_Error": {"x"},
			"bad name": {"x"}, "x:y": {"x"}, "": {"x"}, "x\r\ny": {"x"}, "x-good": {"1"}, "X-Good": {"2"}, "content-type": {"a/b"},
		}}
	})
	conn, err := net.Dial("tcp", w.serve())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /apps/a/kar/v1/service/svc/call/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	fields := lines[1:]
	slices.Sort(fields)
	got := regexp.MustCompile(`(Date|Kar-Request-Id): [^|]*`).ReplaceAllString(strings.Join(fields, "|"), "$1")
	if want := "Connection: close|Content-Length: 4|Content-Type: a/b|Date|Kar-Request-Id|X-Good: 1|X-Good: 2"; lines[0] != "HTTP/1.1 200 OK" || got != want && got != strings.Replace(want, "1|X-Good: 2", "2|X-Good: 1", 1) || body != "four" || strings.Contains(string(raw), "spoof") {
		t.Errorf("%s", raw)
	}
}

// TestImpossibleStatusIsNoSuccess: neither an answer nor KAR's own error may
// have a status that there is not, and what fails in the middle is no 200.
func TestImpossibleStatusIsNoSuccess(t *testing.T) {
	w := newWorld(t)
	var answer runtime.Outcome
	w.host("a", "svc", nil, func(*runtime.Invoke) runtime.Outcome { return answer })
	for _, c := range []struct {
		answer runtime.Outcome
		status int
		code   string
	}{
		{runtime.Outcome{Status: 99}, 502, "bad_answer"},
		{runtime.Outcome{Status: 101}, 502, "bad_answer"},
		{runtime.Outcome{Status: 600}, 502, "bad_answer"},
		{runtime.Outcome{Status: 1000}, 502, "bad_answer"},
		{runtime.Outcome{Status: 599, Body: []byte("x")}, 599, ""},
	} {
		answer = c.answer
		if status, text, h := w.send("GET", "/service/svc/call/x", ""); status != c.status || h.Get("Kar-Error") != c.code {
			t.Errorf("%+v: %d %q %s", c.answer, status, h.Get("Kar-Error"), text)
		}
	}

	for want, out := range map[int]*runtime.Outcome{504: nil, 500: {Status: 99, Code: runtime.CodeBadTailCall}, 410: {Status: -1, Code: runtime.CodePurged}} {
		x := &exchange{Gateway: w.gw, w: httptest.NewRecorder(), r: httptest.NewRequest("GET", "/", nil)}
		if x.relay(out, runtime.ID{1}); x.status != want {
			t.Errorf("%+v: %d", out, x.status)
		}
	}
}

func TestPanicIsNoSuccess(t *testing.T) {
	w := newWorld(t)
	routes := []*route{
		{pattern: "/before", name: "before", methods: []method{{"GET", func(x *exchange) error { x.header(99); return nil }}}},
		{pattern: "/after", name: "after", methods: []method{{"GET", func(x *exchange) error {
			x.header(200)
			_, _ = x.w.Write([]byte("half"))
			panic("in the middle")
		}}}},
	}
	w.gw.router = newRouter(routes)
	w.gw.metrics = requestMetrics(routes)
	addr := w.serve()
	resp, err := http.Get("http://" + addr + "/before")
	if err != nil {
		t.Fatal(err)
	}
	if text := readAll(t, resp); resp.StatusCode != 500 || resp.Header.Get("Kar-Error") != "internal" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	_ = resp.Body.Close()
	if resp, err = http.Get("http://" + addr + "/after"); err != nil {
		return // cut before anything arrived
	}
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a complete answer: %d %q", resp.StatusCode, text)
	}
	_ = resp.Body.Close()
}
