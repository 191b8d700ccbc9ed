package doors

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A fakeConn comes from an address and knows whether it was closed.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", c.from)
	return a
}
func (c *fakeConn) Close() error { c.closed = true; return nil }

// TestCrowdedDoor: who asks for nothing makes room, the one who has waited
// longest first; who was let in stays.
func TestCrowdedDoor(t *testing.T) {
	var log bytes.Buffer
	l := Limit(nil, Limits{Connections: 6, PerAddress: 3, Strangers: 4}, slog.New(slog.NewTextHandler(&log, nil)))
	raws := map[string]*fakeConn{}
	conns := map[string]*connection{}
	come := func(name, from string) bool {
		raws[name] = &fakeConn{from: from}
		c := l.take(raws[name])
		conns[name] = c
		return c != nil
	}
	gone := func(names ...string) {
		t.Helper()
		for name, c := range raws {
			if want := strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" "); c.closed != want {
				t.Errorf("%s is closed: %v", name, c.closed)
			}
		}
	}
	const here, there = "10.0.0.1:1", "[::ffff:10.0.0.2]:1"
	come("a1", here)
	come("a2", here)
	come("b1", there)
	gone()
	come("a3", here)
	come("a4", here) // a fourth from there, and a fifth stranger
	gone("a1")
	LetIn(tls.Server(conns["a2"], nil))
	LetIn(conns["a3"])
	LetIn(conns["a4"])
	if come("a5", here) { // nobody of that address can make room
		t.Error("a fourth connection from one address was let in")
	}
	come("b2", there)
	come("b3", "10.0.0.2:9")
	gone("a1")
	come("c1", "10.0.0.3:1") // a seventh: all strangers are of others
	gone("a1", "b1")
	for _, name := range []string{"b2", "b3", "c1"} {
		conns[name].known()
	}
	if come("c2", "10.0.0.3:1") {
		t.Error("a seventh connection was let in")
	}
	_ = conns["a2"].Close()
	_ = conns["a2"].Close()
	if !come("a6", here) || l.open != 6 || l.from[conns["a6"].address] != 3 || l.strangers.Len() != 1 {
		t.Errorf("%d open, %v, %d strangers", l.open, l.from, l.strangers.Len())
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

func TestDefaultLimitsLeaveRoom(t *testing.T) {
	l := DefaultLimits()
	if l.Connections < 1 || l.PerAddress < 1 || l.Strangers < 1 || l.PerAddress > l.Connections || l.Strangers > l.Connections {
		t.Errorf("%+v", l)
	}
}

// TestWhoShowsATokenIsNoStranger on a real connection.
func TestWhoShowsATokenIsNoStranger(t *testing.T) {
	k := keys(t, Config{Secret: secretA})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(tcp, Limits{Connections: 10, PerAddress: 10, Strangers: 1}, slog.New(slog.DiscardHandler))
	s := httptest.NewUnstartedServer(k.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in") }),
		func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusUnauthorized)
		}))
	_ = s.Listener.Close()
	s.Listener, s.Config.ConnContext = l, ConnContext
	s.Start()
	defer s.Close()
	known := &http.Client{Transport: &http.Transport{}}
	get := func() (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/apps/a/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token(t, k, "a", time.Time{}))
		resp, err := known.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if got, err := get(); got != "in" {
		t.Fatal(got, err)
	}
	var last net.Conn
	for range 20 {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if last != nil { // the newer one has taken its place
			if _, err := last.Read(make([]byte, 1)); err == nil {
				t.Error("a stranger was answered")
			}
		}
		last = c
	}
	open := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.open
	}
	before := open()
	if got, err := get(); got != "in" || open() != before {
		t.Errorf("%q %v: %d connections, then %d", got, err, before, open())
	}
}
