package host_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

// sidecar serves the host's API on a real socket.
func sidecar(t *testing.T, r *rig) *httptest.Server {
	s := httptest.NewServer(r.host.Handler())
	t.Cleanup(s.Close)
	return s
}

func do(t *testing.T, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	q, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(b)
}

// TestAnswersOfManyValues: what the gateway answers may be larger than a body.
func TestAnswersOfManyValues(t *testing.T) {
	r := start(t, newScriptApp(ok), func(_ *rig, c *activator.Config, _ *host.Config) { c.BodyLimit = 1 << 20 })
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		n, _ := strconv.Atoi(q.URL.Query().Get("n"))
		_, _ = w.Write(make([]byte, n))
	})
	s := sidecar(t, r)
	for n, want := range map[int]int{6 << 20: 200, 32 << 20: 200, 40 << 20: 500} {
		status, h, b := do(t, "GET", s.URL+"/kar/v1/actor/T/x/state?n="+strconv.Itoa(n), "")
		if status != want || want == 200 && len(b) != n || want == 500 && h.Get("Kar-Error") != "result_too_large" {
			t.Errorf("%d bytes: %d, %v, %d bytes", n, status, h, len(b))
		}
	}
}

func TestRequestsPassTheTunnel(t *testing.T) {
	r := start(t, newScriptApp(ok))
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		c := runtime.CallerOf(q.Context())
		w.Header().Set("X-Path", q.URL.EscapedPath())
		w.Header().Set("X-Query", q.URL.RawQuery)
		w.Header().Set("X-Boot", c.Boot)
		w.Header().Set("X-Pragma", q.Header.Get("Pragma"))
		w.Header().Set("X-Has-Id", map[bool]string{true: "no", false: "yes"}[c.ID.IsZero()])
		if !c.ID.IsZero() && !c.ID.OfApp("app/1") {
			w.Header().Set("X-Has-Id", "wrong")
		}
		w.WriteHeader(201)
		_, _ = io.WriteString(w, q.Method+string(b))
	})
	s := sidecar(t, r)
	status, h, b := do(t, "POST", s.URL+"/kar/v1/actor/T/a%2Fb%3F/call/m?session=f:1", "[1]", "Pragma", "async")
	if status != 201 || b != "POST[1]" || h.Get("X-Path") != "/apps/app%2F1/kar/v1/actor/T/a%2Fb%3F/call/m" ||
		h.Get("X-Query") != "session=f:1" || h.Get("X-Boot") != "boot-1" || h.Get("X-Pragma") != "async" || h.Get("X-Has-Id") != "yes" {
		t.Fatal(status, h, b)
	}
	if _, h, _ := do(t, "GET", s.URL+"/kar/v1/actor/T/x/state/k?nilOnAbsent=true", ""); h.Get("X-Has-Id") != "no" {
		t.Fatal(h)
	}
	if status, h, b := do(t, "HEAD", s.URL+"/kar/v1/service/s/call/p", ""); status != 201 || b != "" || h.Get("X-Has-Id") != "yes" {
		t.Fatal(status, h, b)
	}
	if status, h, _ := do(t, "PUT", s.URL+"/kar/v1/actor/T/x/state/k", strings.Repeat("x", 5<<20)); status != 413 || h.Get("Kar-Error") != "too_large" {
		t.Fatal(status, h)
	}
	big := strings.Repeat("y", 4<<20)
	if status, _, b := do(t, "PUT", s.URL+"/kar/v1/actor/T/x/state/k", big); status != 201 || b != "PUT"+big {
		t.Fatal(status, len(b))
	}
}

func TestPlainCallsAreReleasedWhenTheyArrived(t *testing.T) {
	r := start(t, newScriptApp(ok))
	ids := make(chan runtime.ID, 10)
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { ids <- runtime.CallerOf(q.Context()).ID })
	s := sidecar(t, r)
	do(t, "POST", s.URL+"/kar/v1/service/s/call/p", "", "Pragma", "promise")
	<-ids
	do(t, "POST", s.URL+"/kar/v1/service/s/call/p", "")
	want := <-ids
	for end := time.Now().Add(patience); ; {
		r.mu.Lock()
		got := append([]runtime.ID(nil), r.released...)
		r.mu.Unlock()
		if len(got) == 1 && got[0] == want {
			return
		}
		if len(got) > 0 || time.Now().After(end) {
			t.Fatalf("released %v, want %v alone", got, want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRequestsSurviveTheStream(t *testing.T) {
	r := start(t, newScriptApp(ok))
	calls, gate := make(chan runtime.ID, 10), make(chan struct{})
	var n atomic.Int64
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		calls <- runtime.CallerOf(q.Context()).ID
		switch n.Add(1) {
		case 1:
			<-q.Context().Done() // the stream broke
		case 2:
			w.Header().Set("Kar-Error", "ask_again")
			w.WriteHeader(503)
		case 3: // of this try; the first may have been accepted
			w.Header().Set("Kar-Error", "unavailable")
			w.WriteHeader(503)
		default:
			<-gate
			_, _ = io.WriteString(w, "done")
		}
	})
	s := sidecar(t, r)
	answer := make(chan string, 1)
	go func() {
		res, err := http.Post(s.URL+"/kar/v1/actor/T/x/call/m", "", strings.NewReader("[]"))
		if err != nil {
			answer <- err.Error()
			return
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		answer <- res.Status + " " + string(b)
	}()
	first := wait(t, "request", calls)
	r.proxy.cut(false)
	if again := wait(t, "repeat on the next stream", calls); again != first {
		t.Fatal("another id")
	}
	if again := wait(t, "repeat after ask_again", calls); again != first {
		t.Fatal("another id")
	}
	if again := wait(t, "repeat after unavailable", calls); again != first {
		t.Fatal("another id")
	}
	close(gate)
	if got := wait(t, "answer", answer); got != "200 OK done" {
		t.Fatal(got)
	}
}

func TestGoneClientCancelsTheWaiting(t *testing.T) {
	r := start(t, newScriptApp(ok))
	began, ended := make(chan struct{}), make(chan struct{})
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		close(began)
		<-q.Context().Done()
		close(ended)
	})
	s := sidecar(t, r)
	ctx, cancel := context.WithCancel(context.Background())
	q, _ := http.NewRequestWithContext(ctx, "POST", s.URL+"/kar/v1/await", strings.NewReader("x"))
	go func() {
		if res, err := http.DefaultClient.Do(q); err == nil {
			_ = res.Body.Close()
		}
	}()
	wait(t, "request", began)
	cancel()
	wait(t, "end of the waiting", ended)
}

func TestLocalRoutes(t *testing.T) {
	asked := make(chan struct{}, 2)
	r := start(t, newScriptApp(ok), func(_ *rig, _ *activator.Config, c *host.Config) { c.OnShutdown = func() { asked <- struct{}{} } })
	s := sidecar(t, r)
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "x", "/m", "[]"))
	wait(t, "answer", r.owners.answers)
	if _, _, b := do(t, "GET", s.URL+"/kar/v1/system/information/sidecar_actors", ""); b != "T: [\n    x\n]\n" {
		t.Fatalf("%q", b)
	}
	if _, _, b := do(t, "GET", s.URL+"/kar/v1/system/information/sidecar_actors", "", "Accept", "application/json"); b != `{"T":["x"]}` {
		t.Fatalf("%q", b)
	}
	if _, _, b := do(t, "GET", s.URL+"/kar/v1/system/information/id", "", "Accept", "application/json"); b != `{"id":"boot-1"}` {
		t.Fatalf("%q", b)
	}
	if status, h, _ := do(t, "GET", s.URL+"/kar/v1/system/shutdown", ""); status != 405 || h.Get("Allow") == "" {
		t.Fatal(status, h)
	}
	if status, h, _ := do(t, "GET", s.URL+"/kar/v1/debug/register", ""); status != 501 || h.Get("Kar-Error") != "unsupported" {
		t.Fatal(status, h)
	}
	for range 2 {
		if status, _, b := do(t, "POST", s.URL+"/kar/v1/system/shutdown", ""); status != 200 || b != "OK" {
			t.Fatal(status, b)
		}
	}
	if len(asked) != 1 {
		t.Fatalf("asked %d times", len(asked))
	}
}

// TestAppAsksBeforeItListens: its request is served, and no work comes before
// the app listens.
func TestAppAsksBeforeItListens(t *testing.T) {
	r := start(t, http.HandlerFunc(ok), func(_ *rig, _ *activator.Config, c *host.Config) {
		c.AppURL = "http://127.0.0.9:1" // nothing else of the tests is at this address
	})
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { _, _ = io.WriteString(w, "here") })
	s := sidecar(t, r)
	if _, _, b := do(t, "GET", s.URL+"/kar/v1/system/health", ""); b != "here" {
		t.Fatal(b)
	}
	if u := wait(t, "join", r.owners.ups); !u.info.Draining {
		t.Fatal("it offers work before the app listens")
	}
	select {
	case <-r.host.Ready():
		t.Fatal("ready before the app listens")
	default:
	}
}

func TestWaitingCallsAreTold(t *testing.T) {
	told := make(chan runtime.Target, 10)
	r := start(t, newScriptApp(ok), func(_ *rig, _ *activator.Config, c *host.Config) {
		c.OnWaiting = func(target runtime.Target, _ time.Duration) { told <- target }
	})
	gate := make(chan struct{})
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { <-gate })
	s := sidecar(t, r)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if res, err := http.Post(s.URL+"/kar/v1/service/absent/call/p", "", nil); err == nil {
			_ = res.Body.Close()
		}
	}()
	if got := wait(t, "notice", told); got.Service != "absent" {
		t.Fatal(got)
	}
	close(gate)
	wait(t, "answer", ended)
}
