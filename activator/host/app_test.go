package host_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

func TestServiceAnswersPassUnchanged(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/echo":
			w.Header()["X-Two"] = []string{"a", "b"}
			w.Header().Set("X-Query", r.URL.RawQuery)
			w.Header().Set("X-Mine", r.Header.Get("X-Mine"))
			w.Header().Set("X-Accept-Encoding", r.Header.Get("Accept-Encoding"))
			w.WriteHeader(418)
			_, _ = w.Write(b)
		case "/head":
			w.Header().Set("Content-Length", "1234")
		case "/empty":
			w.WriteHeader(204)
		case "/early":
			w.WriteHeader(103)
			_, _ = w.Write([]byte("late"))
		case "/chunks":
			for range 3 {
				_, _ = w.Write([]byte("chunk "))
				w.(http.Flusher).Flush()
			}
		case "/here":
			http.Redirect(w, r, "/echo?from=here", http.StatusFound)
		case "/keep":
			http.Redirect(w, r, "http://localhost:"+port(r.Host)+"/echo?kept", http.StatusTemporaryRedirect)
		case "/there":
			http.Redirect(w, r, "http://127.0.0.1:1/x", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/huge":
			_, _ = w.Write(make([]byte, 5<<20))
		}
	})
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2c=%v", h2), func(t *testing.T) {
			r := start(t, app, func(r *rig, _ *activator.Config, c *host.Config) {
				if h2 {
					s := httptest.NewUnstartedServer(app)
					s.Config.Protocols = new(http.Protocols)
					s.Config.Protocols.SetUnencryptedHTTP2(true)
					s.Start()
					r.t.Cleanup(s.Close)
					c.AppURL, c.H2C = s.URL, true
				}
				c.Info.Actors = nil
			})
			wait(t, "join", r.owners.ups)
			n := 0
			call := func(method, path string, b []byte) *runtime.Outcome {
				n++
				m := serviceCall(n, method, path, b)
				m.Header["Connection"] = []string{"X-Secret, keep-alive"}
				m.Header["X-Secret"] = []string{"1"}
				r.owners.send(m)
				a := wait(t, "answer to "+path, r.owners.answers)
				if a.Outcome == nil {
					t.Fatalf("%s: no outcome", path)
				}
				return a.Outcome
			}
			o := call("PATCH", "/echo?a=1&b=%20", every)
			if o.Status != 418 || !bytes.Equal(o.Body, every) || len(o.Header["X-Two"]) != 2 ||
				o.Header.Get("X-Query") != "a=1&b=%20" || o.Header.Get("X-Mine") != "1" || o.Header.Get("X-Accept-Encoding") != "" {
				t.Fatalf("%+v", o)
			}
			if o := call("HEAD", "/head", nil); o.Status != 200 || o.Header.Get("Content-Length") != "1234" || len(o.Body) != 0 {
				t.Fatalf("%+v", o)
			}
			if o := call("DELETE", "/empty", nil); o.Status != 204 || len(o.Body) != 0 {
				t.Fatalf("%+v", o)
			}
			if o := call("GET", "/early", nil); body(o) != "200 late" {
				t.Fatalf("%+v", o)
			}
			if o := call("GET", "/chunks", nil); string(o.Body) != "chunk chunk chunk " || o.Header.Get("Transfer-Encoding") != "" {
				t.Fatalf("%+v", o)
			}
			if o := call("POST", "/here", []byte("gone")); o.Status != 418 || o.Header.Get("X-Query") != "from=here" || len(o.Body) != 0 {
				t.Fatalf("%+v", o)
			}
			if o := call("POST", "/keep", []byte("kept")); body(o) != "418 kept" || o.Header.Get("X-Query") != "kept" {
				t.Fatalf("%+v", o)
			}
			if o := call("GET", "/there", nil); o.Status != 302 || o.Header.Get("Location") != "http://127.0.0.1:1/x" {
				t.Fatalf("%+v", o)
			}
			if o := call("GET", "/loop", nil); o.Status != 302 {
				t.Fatalf("%+v", o)
			}
			if o := call("GET", "/huge", nil); o.Status != 500 || o.Code != runtime.CodeResultTooLarge {
				t.Fatalf("%+v", o)
			}
			if o := call("GET", "/a b", nil); o.Code != runtime.CodeBadRequest {
				t.Fatalf("%+v", o)
			}
			if len(r.guard.did) != 0 {
				t.Fatal("the app was touched")
			}
		})
	}
}

func port(hostport string) string {
	_, p, _ := net.SplitHostPort(hostport)
	return p
}

// TestIdleConnectionsAreNotTrusted: an app that closes idle connections after
// 50 ms is never killed for it, and every call is answered.
func TestIdleConnectionsAreNotTrusted(t *testing.T) {
	app := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	app.Config.IdleTimeout = 50 * time.Millisecond
	app.Start()
	defer app.Close()
	r := start(t, http.HandlerFunc(ok), func(_ *rig, _ *activator.Config, c *host.Config) { c.AppURL, c.Info.Actors = app.URL, nil })
	wait(t, "join", r.owners.ups)
	n := 0
	for _, pause := range []time.Duration{10, 60, 80, 20, 70, 49, 50, 51, 52} {
		for range 4 {
			n++
			r.owners.send(serviceCall(n, "POST", "/", []byte("x")))
			if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "200 x" {
				t.Fatal(body(a.Outcome))
			}
		}
		<-time.After(pause * time.Millisecond) // the time is what is tested
	}
	if len(r.guard.did) != 0 {
		t.Fatalf("the app was touched: %s", <-r.guard.did)
	}
}

// raw is an app on bare sockets: answer gets each request and its connection.
func raw(t *testing.T, answer func(n int64, c net.Conn, r *http.Request)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					answer(n.Add(1), c, r)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestResetByALivingAppIsKilled(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing": "", "half a header": "HTTP/1.1 200 OK\r\nContent-", "half a body": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"half a chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			url := raw(t, func(_ int64, c net.Conn, _ *http.Request) {
				_, _ = io.WriteString(c, answer)
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			})
			r := start(t, http.HandlerFunc(ok), func(_ *rig, _ *activator.Config, c *host.Config) { c.AppURL, c.Info.Actors = url, nil })
			wait(t, "join", r.owners.ups)
			r.owners.send(serviceCall(1, "POST", "/", nil))
			if got := wait(t, "kill", r.guard.did); got != "kill" {
				t.Fatal(got)
			}
			if len(r.owners.answers) != 0 {
				t.Fatalf("an answer without proof: %+v", <-r.owners.answers)
			}
		})
	}
}

// The line about a connection that a living app has broken says which request that was,
// but not in which session.
func TestBrokenConnectionIsNamed(t *testing.T) {
	url := raw(t, func(_ int64, c net.Conn, _ *http.Request) { _ = c.Close() })
	said := make(chan string, 100)
	r := start(t, http.HandlerFunc(ok), func(_ *rig, _ *activator.Config, c *host.Config) {
		c.AppURL, c.Info.Actors = url, nil
		c.Logger = slog.New(slog.NewTextHandler(writes(said), nil))
	})
	wait(t, "join", r.owners.ups)
	m := serviceCall(1, "POST", "/pay?session=secret", nil)
	m.Header = runtime.Header{"Kar-Request-Id": {"the-id"}, "Kar-Attempt": {"3"}}
	r.owners.send(m)
	for line := ""; !strings.Contains(line, "broke a connection"); {
		line = wait(t, "the line", said)
		if strings.Contains(line, "broke a connection") && (!strings.Contains(line, "request=the-id attempt=3 method=POST path=/pay open=") || strings.Contains(line, "secret")) {
			t.Error(line)
		}
	}
}

// writes hands on what is written.
type writes chan string

func (w writes) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestResetWithoutGuardCountsAsRestart(t *testing.T) {
	var activations atomic.Int64
	url := raw(t, func(_ int64, c net.Conn, r *http.Request) {
		if r.Method == http.MethodGet {
			activations.Add(1)
		}
		if strings.HasSuffix(r.URL.Path, "/die") || r.Method == http.MethodDelete {
			_ = c.Close()
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	r := start(t, http.HandlerFunc(ok), func(_ *rig, _ *activator.Config, c *host.Config) { c.AppURL, c.Guard = url, nil })
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "other", "/fine", ""))
	wait(t, "answer", r.owners.answers)
	r.owners.send(actorCall(2, "x", "/die", ""))
	if a := wait(t, "answer", r.owners.answers); a.Outcome != nil || a.ActivationFailed {
		t.Fatalf("%+v", a)
	}
	for i, actor := range []string{"x", "other"} {
		r.owners.send(actorCall(3+i, actor, "/fine", ""))
		if a := wait(t, "answer", r.owners.answers); a.Outcome == nil || a.Outcome.Status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	if n := activations.Load(); n != 4 || len(r.owners.inactive) != 0 {
		t.Errorf("%d activations of two actors twice, %d were told to be inactive, which nobody has asked for", n, len(r.owners.inactive))
	}
	asked := runtime.Deactivate{Actor: runtime.Actor{App: "app/1", Type: "T", ID: "x"}, Epoch: 5, Asking: 9}
	r.owners.send(&asked) // the app is found anew in the middle of it
	if m := wait(t, "confirmation", r.owners.inactive); m != asked {
		t.Errorf("%+v", m)
	}
}

// TestLateApp: nobody asks for work before the app listens, and a refused
// connection later is no end of the attempt.
func TestLateApp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.9:0") // an address that no other server of the tests takes
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	r := start(t, http.HandlerFunc(ok), func(_ *rig, _ *activator.Config, c *host.Config) { c.AppURL, c.Info.Actors = "http://"+address, nil })
	none(t, "join", r.owners.ups, 50*time.Millisecond)
	serve := func() *http.Server {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(ok)}
		go func() { _ = s.Serve(l) }()
		return s
	}
	s := serve()
	wait(t, "join", r.owners.ups)
	wait(t, "ready", r.host.Ready())
	_ = s.Close()
	r.owners.send(serviceCall(1, "POST", "/", []byte("later")))
	none(t, "answer", r.owners.answers, 50*time.Millisecond)
	s = serve()
	if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "200 later" {
		t.Fatal(body(a.Outcome))
	}
	_ = s.Close()
}
