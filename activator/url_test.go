package activator

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

const patience = 20 * time.Second

// owners records what the drivers tell.
type owners struct {
	mu      sync.Mutex
	links   map[string]runtime.Link
	ups     chan runtime.HostInfo
	answers chan runtime.Answer
	changes chan runtime.HostInfo
	downs   chan string
	beats   atomic.Int64
	silent  atomic.Pointer[[]uint16]
	joins   chan join
	first   chan runtime.JoinAnswer // of hosts that come up
	lose    atomic.Bool
}

func newOwners() *owners {
	return &owners{
		joins: make(chan join, 100), first: make(chan runtime.JoinAnswer, 100),
		links: map[string]runtime.Link{}, ups: make(chan runtime.HostInfo, 100), answers: make(chan runtime.Answer, 100),
		changes: make(chan runtime.HostInfo, 100), downs: make(chan string, 100),
	}
}

func (o *owners) Epochs() []runtime.PartitionEpoch { return nil }
func (o *owners) HostUp(h runtime.HostInfo, j runtime.JoinAnswer, l runtime.Link) error {
	o.mu.Lock()
	o.links[h.Boot] = l
	o.mu.Unlock()
	o.first <- j
	o.ups <- h
	return nil
}
func (o *owners) HostChanged(h runtime.HostInfo) { o.changes <- h }
func (o *owners) LinkDown(string, runtime.Link)  {}
func (o *owners) HostDown(boot, _ string)        { o.downs <- boot }
func (o *owners) Beat(string) (silent []uint16, lost bool) {
	o.beats.Add(1)
	if p := o.silent.Load(); p != nil {
		silent = *p
	}
	return silent, o.lose.CompareAndSwap(true, false)
}
func (o *owners) Gateways() []string { return nil }
func (o *owners) Joined(_ string, _ runtime.Link, epochs []runtime.PartitionEpoch, j runtime.JoinAnswer) {
	o.joins <- join{epochs, j}
}
func (o *owners) Answered(_ string, a runtime.Answer)    { o.answers <- a }
func (o *owners) Deactivated(string, runtime.Deactivate) {}

func (o *owners) send(boot string, m runtime.HostMessage) {
	o.mu.Lock()
	l := o.links[boot]
	o.mu.Unlock()
	l.Send(m)
}

func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %s", what, patience)
		panic("unreachable")
	}
}

func invoke(n byte, method, path, body string) *runtime.Invoke {
	return &runtime.Invoke{
		Attempt: runtime.Attempt{ID: runtime.ID{15: n}, Number: 1}, Target: runtime.Target{App: "a", Service: "s"},
		Method: method, Path: path, Header: runtime.Header{"X-In": {"1"}}, Body: []byte(body),
	}
}

func TestURLHosts(t *testing.T) {
	var runs atomic.Int64
	gate := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		b, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/base/slow":
			<-gate
		case "/base/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			return
		case "/base/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		case "/base/huge":
			_, _ = w.Write(make([]byte, 2000))
			return
		}
		w.Header().Set("X-Out", r.URL.RawQuery+r.Header.Get("X-In"))
		w.WriteHeader(201)
		_, _ = fmt.Fprintf(w, "%s %s", r.Method, b)
	}))
	defer app.Close()
	defer close(gate)
	o := newOwners()
	u := NewURLHosts(o, "node", 1000, nil)
	service := URLService{App: "a", Name: "s", URL: app.URL + "/base/", Timeout: 300 * time.Millisecond}
	u.Set([]URLService{service})
	u.Set([]URLService{service})
	info := wait(t, "host", o.ups)
	if info.Service != "s" || info.Grace != 1300 || len(o.ups) != 0 {
		t.Fatalf("%+v", info)
	}
	call := func(n byte, method, path, body string) (runtime.Answer, time.Duration) {
		began := time.Now()
		o.send(info.Boot, invoke(n, method, path, body))
		a := wait(t, "answer", o.answers)
		return a, time.Since(began)
	}
	a, _ := call(1, "PUT", "/x?q=1", "hello\xff")
	if a.Outcome == nil || a.Outcome.Status != 201 || string(a.Outcome.Body) != "PUT hello\xff" || a.Outcome.Header.Get("X-Out") != "q=11" {
		t.Fatalf("%+v", a.Outcome)
	}
	if a, _ := call(2, "GET", "/moved", ""); a.Outcome.Status != 302 {
		t.Fatalf("%+v", a.Outcome)
	}
	if a, _ := call(3, "GET", "/huge", ""); a.Outcome.Code != runtime.CodeResultTooLarge {
		t.Fatalf("%+v", a.Outcome)
	}
	// A broken answer and one that takes too long prove nothing before the time limit.
	for n, path := range map[byte]string{4: "/cut", 5: "/slow"} {
		if a, took := call(n, "GET", path, ""); a.Outcome != nil || took < 300*time.Millisecond {
			t.Fatalf("%s: %+v after %s", path, a.Outcome, took)
		}
	}
	// Asked twice it runs once.
	before := runs.Load()
	m := invoke(6, "POST", "/x", "")
	o.send(info.Boot, m)
	o.send(info.Boot, m)
	wait(t, "answer", o.answers)
	o.send(info.Boot, m)
	o.send(info.Boot, &runtime.Taken{Attempts: []runtime.Attempt{m.Attempt}})
	if runs.Load() != before+1 || len(o.answers) != 0 {
		t.Fatal("it ran again")
	}
	if o.beats.Load() == 0 {
		t.Fatal("no sign of life")
	}
	// A changed service is another boot; the old one drains and goes.
	service.Timeout = time.Second
	u.Set([]URLService{service})
	if h := wait(t, "second host", o.ups); h.Boot == info.Boot {
		t.Fatal("the same boot")
	}
	if h := wait(t, "change", o.changes); h.Boot != info.Boot || !h.Draining {
		t.Fatalf("%+v", h)
	}
	if boot := wait(t, "end", o.downs); boot != info.Boot {
		t.Fatal(boot)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestURLHostThatRefusesIsRetriedAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	o := newOwners()
	u := NewURLHosts(o, "node", 0, nil)
	defer func() { _ = u.Close() }()
	u.Set([]URLService{{App: "a", Name: "s", URL: "http://" + address, Timeout: time.Hour}})
	h := wait(t, "host", o.ups)
	o.send(h.Boot, invoke(1, "GET", "/", ""))
	if a := wait(t, "answer", o.answers); a.Outcome != nil {
		t.Fatalf("%+v", a)
	}
}

func TestLostURLHostComesBackAsAnother(t *testing.T) {
	o := newOwners()
	u := NewURLHosts(o, "node", 0, nil)
	defer func() { _ = u.Close() }()
	u.Set([]URLService{{App: "a", Name: "s", URL: "http://127.0.0.1:1", Timeout: 50 * time.Millisecond}})
	first := wait(t, "host", o.ups)
	o.lose.Store(true)
	if second := wait(t, "new host", o.ups); second.Boot == first.Boot || second.Service != "s" {
		t.Fatalf("%+v", second)
	}
}

func TestRemovedURLHostComesBackAsAnother(t *testing.T) {
	o := newOwners()
	u := NewURLHosts(o, "node", 0, nil)
	defer func() { _ = u.Close() }()
	list := []URLService{{App: "a", Name: "s", URL: "http://127.0.0.1:1", Timeout: time.Second}}
	u.Set(list)
	first := wait(t, "host", o.ups)
	u.Set(nil)
	if boot := wait(t, "end", o.downs); boot != first.Boot {
		t.Fatal(boot)
	}
	u.Set(list)
	if second := wait(t, "new host", o.ups); second.Boot == first.Boot {
		t.Fatal("the boot that was declared down is attached again")
	}
}

func TestExitHandler(t *testing.T) {
	o := newOwners()
	a, err := New(Config{Owners: o, API: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	s := httptest.NewServer(http.HandlerFunc(a.Exit))
	defer s.Close()
	for body, want := range map[string]int{`{"boot":"b","reason":"r"}`: 204, `{}`: 400, `{`: 400} {
		res, err := http.Post(s.URL, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d", body, res.StatusCode)
		}
	}
	if got := wait(t, "exit", o.downs); got != "b" || len(o.downs) != 0 {
		t.Fatal(got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Fatal("a configuration without owners was taken")
	}
}

// join is what Joined was told.
type join struct {
	epochs []runtime.PartitionEpoch
	answer runtime.JoinAnswer
}

// A new owner asks, and gets what has finished and what runs in its partition,
// and nothing of the others; what ends later comes behind the answer.
func TestURLHostAnswersAJoin(t *testing.T) {
	gate := make(chan struct{})
	entered := make(chan struct{}, 10)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-gate
		}
	}))
	defer app.Close()
	o := newOwners()
	u := NewURLHosts(o, "node", 0, nil)
	defer func() { _ = u.Close() }()
	u.Set([]URLService{{App: "a", Name: "s", URL: app.URL, Timeout: time.Minute}})
	boot := wait(t, "attached", o.ups).Boot
	call := func(n byte, partition uint16, path string, epoch uint64) *runtime.Invoke {
		m := invoke(n, "GET", path, "")
		m.Attempt.Partition, m.Epoch = partition, epoch
		o.send(boot, m)
		return m
	}
	done := call(1, 3, "/x", 5)
	wait(t, "answer", o.answers)
	elsewhere := call(2, 4, "/x", 5)
	wait(t, "answer of another partition", o.answers)
	slow := call(3, 3, "/slow", 5)
	wait(t, "start", entered)

	o.send(boot, &runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: 3, Epoch: 7}, {Partition: 9, Epoch: 7}}})
	if a := wait(t, "what has finished", o.answers); a.Attempt != done.Attempt {
		t.Errorf("answer of %+v", a.Attempt)
	}
	j := wait(t, "join", o.joins)
	if len(j.epochs) != 2 || len(j.answer.Running) != 2 || !slices.Contains(j.answer.Running, slow.Attempt) || !slices.Contains(j.answer.Running, done.Attempt) {
		t.Errorf("join %+v", j)
	}
	// Lower terms are neither answered nor obeyed.
	call(4, 3, "/slow", 6)
	o.send(boot, &runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: 3, Epoch: 6}, {Partition: 4, Epoch: 5}}})
	if a := wait(t, "what has finished elsewhere", o.answers); a.Attempt != elsewhere.Attempt {
		t.Errorf("answer of %+v", a.Attempt)
	}
	if j := wait(t, "second join", o.joins); len(j.epochs) != 1 || j.epochs[0].Partition != 4 || len(j.answer.Running) != 1 {
		t.Errorf("join %+v", j)
	}
	// What was taken is not told again.
	o.send(boot, &runtime.Taken{Attempts: []runtime.Attempt{done.Attempt}})
	o.send(boot, &runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: 3, Epoch: 7}}})
	wait(t, "third join", o.joins)
	close(gate)
	if a := wait(t, "the end of the slow one", o.answers); a.Attempt != slow.Attempt || a.Outcome == nil {
		t.Errorf("answer of %+v", a)
	}
	if len(entered) != 0 {
		t.Error("an invocation of a deposed owner was obeyed")
	}
}

// Owners count from the last contact, so nothing starts long after it.
func TestURLHostStartsNothingForASilentOwner(t *testing.T) {
	started := make(chan string, 10)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { started <- r.URL.Path }))
	defer app.Close()
	o := newOwners()
	o.silent.Store(&[]uint16{3})
	u := NewURLHosts(o, "node", 0, nil)
	defer func() { _ = u.Close() }()
	u.Set([]URLService{{App: "a", Name: "s", URL: app.URL, Timeout: 400 * time.Millisecond}})
	boot := wait(t, "attached", o.ups).Boot
	// The window is a second, three beats of which partition 3 answers none.
	for deadline := time.Now().Add(patience); o.beats.Load() < 5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no sign of life")
		}
	}
	m := invoke(1, "GET", "/silent", "")
	m.Attempt.Partition = 3
	o.send(boot, m)
	o.send(boot, invoke(2, "GET", "/other", ""))
	if got := wait(t, "start", started); got != "/other" {
		t.Fatal(got)
	}
	// It waits here, which is what a join says of it.
	o.send(boot, &runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: 3, Epoch: 1}}})
	if j := wait(t, "join", o.joins); len(j.answer.Running) != 1 {
		t.Errorf("join %+v", j)
	}
	if len(started) != 0 {
		t.Fatal("it started without the word of its owner")
	}
	o.silent.Store(&[]uint16{})
	if got := wait(t, "start", started); got != "/silent" {
		t.Fatal(got)
	}
}

// TestAnswersOfProxiesAreNoResults: behind a proxy an answer that it may have given
// is unknown until the time limit, unless the service says whose answer it is.
func TestAnswersOfProxiesAreNoResults(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("echo") {
			w.Header()["Kar-Request-Id"] = r.Header["Kar-Request-Id"]
			w.Header()["Kar-Attempt"] = r.Header["Kar-Attempt"]
			if key := r.Header.Get("Kar-Idempotency-Key"); key != r.Header.Get("Kar-Request-Id")+"-0" {
				t.Errorf("the key of the step is %q", key)
			}
		}
		switch r.URL.Path {
		case "/502":
			http.Error(w, "EOF", 502)
		case "/queue":
			http.Error(w, "pending request queue full", 503)
		case "/404":
			http.Error(w, "Error getting active endpoint: revision not found", 404)
		case "/gone":
			http.Error(w, "no such order", 404)
		}
	}))
	defer app.Close()
	for _, proxied := range []bool{true, false} {
		o := newOwners()
		u := NewURLHosts(o, "node", 0, nil)
		defer func() { _ = u.Close() }()
		if proxied {
			u.proxy = func(*http.Request) (*url.URL, error) { return &url.URL{Scheme: "http", Host: "proxy"}, nil }
		}
		const limit = 200 * time.Millisecond
		u.Set([]URLService{{App: "a", Name: "s", URL: app.URL, Timeout: limit}})
		boot := wait(t, "attached", o.ups).Boot
		for n, c := range []struct {
			path   string
			status int // behind a proxy, 0 for unknown
			direct int
		}{
			{"/502", 0, 502},
			{"/502?echo", 502, 502},
			{"/404", 0, 404},
			{"/gone", 404, 404},
			{"/queue", 0, 503},
			{"/queue?echo", 503, 503},
			{"/", 200, 200},
		} {
			m := invoke(byte(n), "POST", c.path, "x")
			m.Header = runtime.Header{"Kar-Request-Id": {m.Attempt.ID.String()}, "Kar-Attempt": {"1"}}
			began := time.Now()
			o.send(boot, m)
			want, got := c.direct, 0
			if proxied {
				want = c.status
			}
			if a := wait(t, "answer", o.answers); a.Outcome != nil {
				got = a.Outcome.Status
			}
			if got != want || got == 0 && c.path != "/queue" && time.Since(began) < limit {
				t.Errorf("proxied %v, %s: %d after %s, want %d", proxied, c.path, got, time.Since(began), want)
			}
		}
	}
}

// TestNothingMakesProxiesRepeat: proxies send again what has an idempotency key.
func TestNothingMakesProxiesRepeat(t *testing.T) {
	asked := make(chan http.Header, 1)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header }))
	defer app.Close()
	o := newOwners()
	u := NewURLHosts(o, "node", 0, nil)
	defer func() { _ = u.Close() }()
	u.Set([]URLService{{App: "a", Name: "s", URL: app.URL}})
	m := invoke(1, "POST", "/", "")
	m.Header = runtime.Header{"Idempotency-Key": {"k"}, "X-Idempotency-Key": {"k"}, "X-Mine": {"1"}}
	o.send(wait(t, "attached", o.ups).Boot, m)
	if h := wait(t, "request", asked); h["Idempotency-Key"] != nil || h["X-Idempotency-Key"] != nil || h.Get("X-Mine") != "1" {
		t.Errorf("%v", h)
	}
}

// TestEndlessAnswerIsCut: an answer without an end costs its limit and no more.
func TestEndlessAnswerIsCut(t *testing.T) {
	gone := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1000))
			w.(http.Flusher).Flush()
		}
		close(gone)
	}))
	defer app.Close()
	o := newOwners()
	u := NewURLHosts(o, "node", 10_000, nil)
	defer func() { _ = u.Close() }()
	u.Set([]URLService{{App: "a", Name: "s", URL: app.URL, Timeout: time.Hour}})
	o.send(wait(t, "attached", o.ups).Boot, invoke(1, "GET", "/", ""))
	if a := wait(t, "answer", o.answers); a.Outcome == nil || a.Outcome.Code != runtime.CodeResultTooLarge {
		t.Errorf("%+v", a.Outcome)
	}
	wait(t, "end of the answer", gone)
}

// TestShortLimitsBeatSeldom: a time limit of a millisecond is no reason to ask the
// owners a hundred times a second.
func TestShortLimitsBeatSeldom(t *testing.T) {
	u := NewURLHosts(newOwners(), "node", 0, nil)
	defer func() { _ = u.Close() }()
	u.Set([]URLService{{App: "a", Name: "s", URL: "http://127.0.0.1:1", Timeout: time.Millisecond}})
	for _, h := range u.hosts {
		if h.timeout != runtime.LeastServiceTimeout || h.window != shortestWindow {
			t.Errorf("limit %s, window %s", h.timeout, h.window)
		}
	}
}

// TestOddAnswersOfServices: the answer of a service came and cannot be read. The
// service is not called again for it.
func TestOddAnswersOfServices(t *testing.T) {
	for name, raw := range map[string]string{
		"two lengths":           "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
		"a line without colon":  "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nok",
		"a control character":   "HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 2\r\n\r\nok",
		"identity":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
		"several encodings":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
		"another version":       "HTTP/2 200\r\nContent-Length: 2\r\n\r\nok",
		"another protocol":      "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"no status":             "HTTP/1.1 OK\r\n\r\n",
		"more than anybody has": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("x", 1000)+"\r\n", 11_000) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte(raw))
				_ = c.Close()
			}))
			defer app.Close()
			o := newOwners()
			u := NewURLHosts(o, "node", 10_000, nil)
			defer func() { _ = u.Close() }()
			u.Set([]URLService{{App: "a", Name: "s", URL: app.URL, Timeout: time.Hour}})
			o.send(wait(t, "attached", o.ups).Boot, invoke(1, "GET", "/", ""))
			if a := wait(t, "answer", o.answers); a.Outcome == nil || a.Outcome.Code != runtime.CodeBadAnswer {
				t.Errorf("%+v", a.Outcome)
			}
		})
	}
}
