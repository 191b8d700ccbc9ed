package host

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// sloppyApp answers /void as raw says, /next properly, and on "late" sends what
// is left over only once the next request has come in on any connection.
func sloppyApp(t *testing.T, raw string, late string) *http1 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if r.URL.Path == "/clean" {
						_, _ = c.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
						continue
					}
					if r.URL.Path != "/void" {
						asked <- struct{}{}
						_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
						continue
					}
					_, _ = c.Write([]byte(raw))
					if late != "" {
						go func() {
							<-asked // nothing about time says that nothing more comes
							_, _ = c.Write([]byte(late))
						}()
					}
				}
			}()
		}
	}()
	base, err := url.Parse("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a := newHTTP1(base, nil, func(string) {})
	t.Cleanup(func() { a.close(); _ = l.Close() })
	return a
}

// TestLeftoverBytes: what an app writes beyond its answer is nobody else's answer
// and breaks no other exchange.
func TestLeftoverBytes(t *testing.T) {
	const stolen = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSTOLEN"
	chars := strings.Repeat("é", 9000)
	for name, c := range map[string]struct{ method, raw, late string }{
		"204 with a body":           {"POST", "HTTP/1.1 204 No Content\r\n\r\n{}", ""},
		"204 with a late body":      {"POST", "HTTP/1.1 204 No Content\r\n\r\n", "{}"},
		"204 with a late answer":    {"POST", "HTTP/1.1 204 No Content\r\n\r\n", stolen},
		"204 that names a length":   {"POST", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", "{}"},
		"304 with a late body":      {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "{}"},
		"HEAD with a late body":     {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "{}"},
		"length in characters":      {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + chars, ""},
		"an answer too many":        {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + stolen, ""},
		"length nought with a body": {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := sloppyApp(t, c.raw, c.late)
			for range 2 * enoughClean { // another route has nothing against it
				if _, err := a.do(context.Background(), &appRequest{method: "POST", path: "/clean", limit: 1 << 20}); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				if _, err := a.do(context.Background(), &appRequest{method: c.method, path: "/void", limit: 1 << 20}); err != nil {
					t.Fatal("the answer itself:", err)
				}
				o, err := a.do(context.Background(), &appRequest{method: "POST", path: "/next", limit: 1 << 20})
				if err != nil {
					t.Fatal("the next one:", err)
				}
				if string(o.Body) != "ok" {
					t.Fatalf("the next one got %q", o.Body)
				}
			}
		})
	}
}

// TestCleanRoutesKeepTheirConnections: a void method costs no connection for each call.
func TestCleanRoutesKeepTheirConnections(t *testing.T) {
	a := sloppyApp(t, "", "")
	call := func() {
		if _, err := a.do(context.Background(), &appRequest{method: "POST", path: "/clean", limit: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	trusted := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.left.clean["POST /clean"] >= enoughClean && a.left.watched == 0
	}
	for n := 0; !trusted(); n++ { // what was watched ends by itself
		call()
		if n > 100_000 {
			t.Fatal("the route is not trusted")
		}
	}
	call()
	a.mu.Lock()
	conn := a.idle[len(a.idle)-1]
	a.mu.Unlock()
	for range 10 {
		call()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.excess || len(a.idle) != 1 || a.idle[0] != conn {
		t.Errorf("excess %v, %d idle", a.excess, len(a.idle))
	}
}

// TestControlCharactersInTheHead: a server that passes on what a caller has named
// has answered all the same.
func TestControlCharactersInTheHead(t *testing.T) {
	a := sloppyApp(t, "HTTP/1.1 200 OK\r\nX-Name: a\x01b\x7f\x00.txt\r\nContent-Length: 4\r\n\r\n\x01\x02\n\n", "")
	o, err := a.do(context.Background(), &appRequest{method: "POST", path: "/void", limit: 100})
	if err != nil || o.Status != http.StatusOK || o.Header.Get("X-Name") != "a b  .txt" || string(o.Body) != "\x01\x02\n\n" {
		t.Fatalf("%+v, %v", o, err)
	}
}
