package host_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/karmesh/kar/activator/host"
)

func TestAnyClientGoesRound(t *testing.T) {
	gateway := func(name string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			if r.URL.RawQuery == "cut" {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, name+" "+r.Host+" "+r.URL.EscapedPath()+" "+string(b))
		}))
		t.Cleanup(s.Close)
		return s
	}
	a, b := gateway("a"), gateway("b")
	base, client, err := host.Access{}.AnyClient("http://127.0.0.1:1," + a.URL + "," + b.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	post := func(query string) (string, error) {
		resp, err := client.Post(base+"/x%2Fy"+query, "text/plain", strings.NewReader("hello"))
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	said := func(name string, s *httptest.Server) string {
		return name + " " + strings.TrimPrefix(s.URL, "http://") + " /x%2Fy hello"
	}
	for range 2 {
		if got, err := post(""); err != nil || got != said("a", a) {
			t.Errorf("got %q, %v", got, err)
		}
	}
	// What may have arrived is not sent again, but the next request goes elsewhere.
	if got, err := post("?cut"); err == nil {
		t.Errorf("got %q", got)
	}
	if got, err := post(""); err != nil || got != said("b", b) {
		t.Errorf("got %q, %v", got, err)
	}
	b.Close()
	client.CloseIdleConnections() // a request on one that has just ended is no dial
	if got, err := post(""); err != nil || got != said("a", a) {
		t.Errorf("got %q, %v", got, err)
	}
	a.Close()
	if got, err := post(""); err == nil {
		t.Errorf("got %q", got)
	}
}
