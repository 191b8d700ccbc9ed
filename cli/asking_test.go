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
