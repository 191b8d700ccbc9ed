package cli

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A call whose connection forwards nothing more is asked for again, under its key.
func TestAskAgainBesideASilentConnection(t *testing.T) {
	var met atomic.Int32
	over := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := met.Add(1); {
		case r.Header.Get("Idempotency-Key") != "k":
			w.WriteHeader(http.StatusBadRequest)
		case n == 1: // for ever
			<-over
		case n == 2: // says nothing about the first
			w.Header().Set("Kar-Error", string(runtime.CodeMailboxFull))
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			_, _ = w.Write([]byte("done"))
		}
	}))
	defer s.Close()
	defer close(over)
	c := &client{app: "a", base: s.URL, http: s.Client(), askEvery: 20 * time.Millisecond}
	a, err := c.do(t.Context(), http.MethodPost, "/", http.Header{"Idempotency-Key": {"k"}}, []byte("[]"))
	if err != nil || a.status != http.StatusOK || string(a.body) != "done" {
		t.Errorf("%v, %v", a, err)
	}
}

// The first one is still listened to.
func TestAskAgainKeepsTheFirst(t *testing.T) {
	var met atomic.Int32
	second := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if met.Add(1) == 1 {
			<-second
			_, _ = w.Write([]byte("done"))
			return
		}
		select {
		case <-second:
		default:
			close(second)
		}
		<-r.Context().Done()
	}))
	defer s.Close()
	c := &client{app: "a", base: s.URL, http: s.Client(), askEvery: 100 * time.Millisecond}
	a, err := c.do(t.Context(), http.MethodGet, "/", http.Header{}, nil)
	if err != nil || string(a.body) != "done" {
		t.Errorf("%v, %v", a, err)
	}
}

// What a proxy says of its own is no answer to a call with a key: it is asked for again.
func TestAskAgainBehindAProxy(t *testing.T) {
	for _, status := range []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		for _, header := range []string{"", "Kar-Request-Id", "Kar-Error"} {
			var met atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if met.Add(1) > 2 {
					_, _ = w.Write([]byte("done"))
					return
				}
				if header != "" {
					w.Header().Set(header, string(runtime.CodeHostLost))
				}
				w.WriteHeader(status)
				_, _ = w.Write([]byte("<html>"))
			}))
			c := &client{app: "a", base: s.URL, http: s.Client()}
			a, err := c.do(t.Context(), http.MethodPost, "/", http.Header{"Idempotency-Key": {"k"}}, []byte("[]"))
			want := http.StatusOK
			if header != "" { // the app's, or the gateway's
				want = status
			}
			if err != nil || a.status != want {
				t.Errorf("%d with %q: %v, %v", status, header, a, err)
			}
			s.Close()
		}
	}
}

// The same beside one that is still waited for.
func TestAskAgainDropsAProxysAnswer(t *testing.T) {
	var met atomic.Int32
	over, done := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if met.Add(1) == 1 {
			<-over
			w.WriteHeader(http.StatusGatewayTimeout)
			return
		}
		if met.Load() == 2 {
			close(over)
			time.AfterFunc(50*time.Millisecond, func() { close(done) }) // for whoever asks then
		}
		select {
		case <-r.Context().Done():
		case <-done:
			_, _ = w.Write([]byte("done"))
		}
	}))
	defer s.Close()
	c := &client{app: "a", base: s.URL, http: s.Client(), askEvery: 20 * time.Millisecond}
	a, err := c.do(t.Context(), http.MethodPost, "/", http.Header{"Idempotency-Key": {"k"}}, nil)
	if err != nil || a.status != http.StatusOK {
		t.Errorf("%v, %v", a, err)
	}
}

// A query goes out as its bytes are, in what a server may be sent.
func TestQueryIsEscaped(t *testing.T) {
	for query, want := range map[string]string{
		"x=ü": "x=%C3%BC", "x=%C3%BC&y=1+2": "x=%C3%BC&y=1+2", "a b\n": "a%20b%0A", "x=#1": "x=%231", "x=\xe9\x7f": "x=%E9%7F", "": "",
	} {
		if got := escapeQuery(query); got != want {
			t.Errorf("%q: %q, not %q", query, got, want)
		}
	}
}
