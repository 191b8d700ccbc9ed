package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
	"github.com/karmesh/kar/runtime/engine"
)

// A world is a gateway on a real engine and a real folder, with hosts that run in the test.
type world struct {
	t    testing.TB
	disk *embedded.Disk
	mesh *engine.Mesh
	gw   *Gateway
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	return newWorldOn(t, func(*engine.Config) {}, change...)
}

func newWorldOn(t testing.TB, tune func(*engine.Config), change ...func(*Config)) *world {
	t.Helper()
	cfg := Config{Version: "test", Node: "gateway-under-test", Partitions: 1}
	for _, c := range change {
		c(&cfg)
	}
	disk, err := embedded.Open(t.TempDir(), embedded.Options{Partitions: cfg.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	below := engine.Config{
		Partitions: cfg.Partitions, Node: cfg.Node, Mesh: "local", Logs: disk.Log, Store: disk.Store(), Topics: disk.Topics(),
	}
	tune(&below)
	mesh, err := engine.Open(context.Background(), below)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mesh.Close(); err != nil {
			t.Error(err)
		}
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg.Mesh, cfg.Topics = mesh, disk.Topics()
	gw, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, disk: disk, mesh: mesh, gw: gw}
}

// An ask is a request to the API and what is expected of its answer.
type ask struct {
	verb, path string // path below /apps/a/kar/v1, or from the root when it starts with "//"
	body       string
	header     http.Header
	caller     runtime.Caller
}

func (a ask) target() string {
	if strings.HasPrefix(a.path, "//") {
		return a.path[1:]
	}
	return "/apps/a/kar/v1" + a.path
}

// do sends one request through the handler, without a network.
func (w *world) do(a ask) *http.Response {
	w.t.Helper()
	var body io.Reader
	if a.body != "" {
		body = strings.NewReader(a.body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, a.verb, a.target(), body)
	for name, values := range a.header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	if a.caller != (runtime.Caller{}) {
		r = r.WithContext(runtime.WithCaller(r.Context(), a.caller))
	}
	rec := httptest.NewRecorder()
	w.gw.Handler().ServeHTTP(rec, r)
	return rec.Result()
}

// send is do for a request without header; the body comes as text.
func (w *world) send(verb, path, body string) (status int, text string, header http.Header) {
	w.t.Helper()
	resp := w.do(ask{verb: verb, path: path, body: body})
	return resp.StatusCode, readAll(w.t, resp), resp.Header
}

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// expect sends a request and checks status and body.
func (w *world) expect(verb, path, body string, status int, text string) http.Header {
	w.t.Helper()
	gotStatus, gotText, header := w.send(verb, path, body)
	if gotStatus != status || gotText != text {
		w.t.Errorf("%s %s: %d %q, want %d %q", verb, path, gotStatus, gotText, status, text)
	}
	return header
}

// A testHost is a component in the test: it implements runtime.Link.
type testHost struct {
	boot   string
	mesh   *engine.Mesh
	handle func(*runtime.Invoke) runtime.Outcome // nil Outcome.Status means never answer

	inbox chan runtime.HostMessage
	done  chan struct{}
	once  sync.Once
}

// Send implements runtime.Link.
func (h *testHost) Send(m runtime.HostMessage) {
	select {
	case h.inbox <- m:
	case <-h.done:
	}
}

// host attaches a component that offers a service and actor types of app.
func (w *world) host(app, service string, types []string, handle func(*runtime.Invoke) runtime.Outcome) *testHost {
	w.t.Helper()
	h := &testHost{boot: "boot-" + app + "-" + service + strings.Join(types, "-"), mesh: w.mesh, handle: handle,
		inbox: make(chan runtime.HostMessage, 10000), done: make(chan struct{})}
	info := runtime.HostInfo{Boot: h.boot, App: app, Name: "test host", Service: service, Actors: types, Port: 3500, Grace: 600_000}
	if err := w.mesh.HostUp(info, runtime.JoinAnswer{}, h); err != nil {
		w.t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Add(1)
	go func() { defer wait.Done(); h.run(&wait) }()
	w.t.Cleanup(func() { h.once.Do(func() { close(h.done) }); wait.Wait() })
	return h
}

func (h *testHost) run(wait *sync.WaitGroup) {
	for {
		select {
		case <-h.done:
			return
		case m := <-h.inbox:
			switch m := m.(type) {
			case *runtime.Deactivate:
				h.mesh.Deactivated(h.boot, *m)
			case *runtime.Invoke:
				wait.Add(1)
				m.MarkStep() // as each host does
				go func() {
					defer wait.Done()
					out := h.handle(m)
					h.mesh.Answered(h.boot, runtime.Answer{Attempt: m.Attempt, Outcome: &out})
				}()
			}
		}
	}
}

// value is the answer of a method with a result.
func value(v string) runtime.Outcome {
	return runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: []byte(`{"value":` + v + `}`)}
}

// echo answers a service call with what arrived.
func echo(m *runtime.Invoke) runtime.Outcome {
	if m.Target.IsActor() {
		return value(fmt.Sprintf("%q", m.Target.Type+"|"+m.Target.ID+"|"+m.Path+"|"+string(m.Body)))
	}
	return runtime.Outcome{Status: 200, Body: m.Body, Header: runtime.Header{
		"Content-Type": {m.Header.Get("Content-Type")}, "X-Method": {m.Method}, "X-Path": {m.Path},
		"X-Custom": {m.Header.Get("X-Custom")}, "X-Request": {m.Header.Get("Kar-Request-Id")},
	}}
}

// everyByte is a body that no text encoding survives.
func everyByte() []byte {
	var b bytes.Buffer
	for i := range 256 {
		b.WriteByte(byte(i))
	}
	return b.Bytes()
}
