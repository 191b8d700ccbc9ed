package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// serve puts the API of w on a port and returns its address.
func (w *world) serve() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	s, ended := NewServer(w.gw.Handler(), nil), make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	w.t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			w.t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			w.t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestServerSpeaksBothProtocols(t *testing.T) {
	w := newWorld(t)
	w.host("a", "svc", nil, echo)
	addr := w.serve()
	for _, major := range []int{1, 2} {
		p := new(http.Protocols)
		p.SetHTTP1(major == 1)
		p.SetUnencryptedHTTP2(major == 2)
		tr := &http.Transport{Protocols: p}
		for _, body := range [][]byte{nil, everyByte(), bytes.Repeat([]byte("x"), 1<<20)} {
			resp, err := (&http.Client{Transport: tr}).Post("http://"+addr+"/apps/a/kar/v1/service/svc/call/a%2Fb?x=%3F", "a/b", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.ProtoMajor != major || !bytes.Equal(got, body) || resp.Header.Get("X-Path") != "/a%2Fb?x=%3F" {
				t.Errorf("HTTP/%d: %d bytes, %v %v", resp.ProtoMajor, len(got), resp.Header, err)
			}
		}
		tr.CloseIdleConnections()
	}
}

// TestTooLargeIsAnsweredWithoutReading holds that a client which asks first is
// refused before it has sent anything.
func TestTooLargeIsAnsweredWithoutReading(t *testing.T) {
	w := newWorld(t)
	conn, err := net.Dial("tcp", w.serve())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /apps/a/kar/v1/service/s/call/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 413 || resp.Header.Get("Kar-Error") != "too_large" {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
}

// TestBadHTTP sends what no client library would.
func TestBadHTTP(t *testing.T) {
	w := newWorld(t)
	addr := w.serve()
	for raw, want := range map[string]int{
		"GET /apps/a/kar/v1/actor/T/%zz/state HTTP/1.1\r\nHost: x\r\n\r\n":                                          400,
		"GET * HTTP/1.1\r\nHost: x\r\n\r\n":                                                                         404,
		"GET //apps/a HTTP/1.1\r\nHost: x\r\n\r\n":                                                                  404,
		"GET http://x/apps/a/kar/v1/system/health HTTP/1.1\r\nHost: y\r\n\r\n":                                      200,
		"POST /apps/a/kar/v1/await HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n":                 400,
		"GET /apps/a/kar/v1/system/health HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 400<<10) + "\r\n\r\n":   431,
		"BREW /apps/a/kar/v1/system/health HTTP/1.1\r\nHost: x\r\n\r\n":                                             405,
		"GET /apps/a/kar/v1/system/health?nilOnAbsent=%zz&;;&=&session=%00 HTTP/1.1\r\nHost: x\r\n\r\n":             200,
		"PUT /apps/a/kar/v1/actor/T/i/reminders/r HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n\x00\xff\xfe":     400,
		"POST /apps/a/kar/v1/service/s/call/x HTTP/1.1\r\nHost: x\r\nKar-Timeout: 1ms\r\nContent-Length: 0\r\n\r\n": 408,
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, raw)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%.60q: %v %v, want %d", raw, resp, err, want)
		}
		conn.Close()
	}
}

func TestCutBodyIsRefused(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequest("POST", "/apps/a/kar/v1/service/s/call/x", strings.NewReader("abc"))
	r.ContentLength = 10
	rec := httptest.NewRecorder()
	w.gw.Handler().ServeHTTP(rec, r)
	if rec.Code != 400 || rec.Header().Get("Kar-Error") != "bad_request" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

// discard is the cheapest http.ResponseWriter.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkHandler is the gateway's own share of an actor call: from a parsed
// request to the engine, and from an outcome to the answer.
func BenchmarkHandler(b *testing.B) {
	g := &Gateway{cfg: Config{BodyLimit: DefaultBodyLimit, Now: time.Now}}
	out := &runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: []byte(`{"value":1}`)}
	call := func(x *exchange) error {
		q := &runtime.Request{Target: runtime.Target{App: x.app(), Type: x.names[1], ID: x.names[2]}, Path: "/" + x.names[3]}
		q.Session = x.query("session")
		q.Kind = kindOf(x.r.Header["Pragma"])
		if err := x.limits(q); err != nil {
			return err
		}
		body, err := x.body()
		if err != nil {
			return err
		}
		q.Body = body
		x.relay(out, q.ID)
		return nil
	}
	routes := []*route{{pattern: api + "/actor/{type}/{id}/call/{path*}", name: "actor_call", methods: []method{{"POST", call}}}}
	g.router = newRouter(routes)
	g.metrics = requestMetrics(routes)
	body := []byte("[1,2,3]")
	reader := bytes.NewReader(body)
	r := httptest.NewRequest("POST", "/apps/shop/kar/v1/actor/Cart/4711/call/add?session=abc:def", nil)
	r.Header.Set("Content-Type", "application/kar+json")
	r.Body, r.ContentLength = io.NopCloser(reader), int64(len(body))
	w := &discard{header: http.Header{}}
	h := g.Handler()
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

// BenchmarkActorCall is a durable call over loopback HTTP to a host in this process.
func BenchmarkActorCall(b *testing.B) {
	w := newWorld(b)
	w.host("a", "", []string{"T"}, func(*runtime.Invoke) runtime.Outcome { return value("1") })
	addr, next := w.serve(), atomic.Int64{}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	b.Cleanup(client.CloseIdleConnections)
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		url := fmt.Sprintf("http://%s/apps/a/kar/v1/actor/T/%d/call/m", addr, next.Add(1))
		for pb.Next() {
			resp, err := client.Post(url, "application/kar+json", strings.NewReader("[1]"))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 {
				b.Error(resp.Status)
			}
		}
	})
}
