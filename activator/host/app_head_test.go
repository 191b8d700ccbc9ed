package host

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestOddHeads: an answer whose head is odd is an answer. What can be understood is
// taken for what it means, anything else is a bad answer; nothing is of unknown fate.
func TestOddHeads(t *testing.T) {
	const bad = "bad"
	long := strings.Repeat("x", 9000)
	for name, c := range map[string]struct{ raw, want string }{
		"a length twice":          {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "ok"},
		"two lengths":             {"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok", bad},
		"no number":               {"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", bad},
		"a line without a colon":  {"HTTP/1.1 200 OK\r\nX-A\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"the first line folded":   {"HTTP/1.1 200 OK\r\n X-A: a\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"a line without a name":   {"HTTP/1.1 200 OK\r\n: a\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"a strange name":          {"HTTP/1.1 200 OK\r\nX(\xe4): a\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"a blank behind a name":   {"HTTP/1.1 200 OK\r\nX-B : b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"identity":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"an unknown encoding":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", bad},
		"chunks in capitals":      {"HTTP/1.1 200 OK\r\nX-B: b\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"},
		"odd behind the encoding": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A\r\nX-B: b\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"},
		"HTTP/2":                  {"HTTP/2 200\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"HTTP/2.0":                {"HTTP/2.0 200 OK\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"another protocol":        {"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok", bad},
		"no status":               {"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok", bad},
		"switched":                {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", bad},
		"bare line feeds":         {"HTTP/1.1 200 OK\nX-B: b\nX-A\nContent-Length: 2\n\nok", "ok"},
		"a long one":              {"HTTP/1.1 200 OK\r\nX-A: " + long + "\x01\r\nX-B: b\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"an endless one":          {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat(long, 150), bad},
	} {
		t.Run(name, func(t *testing.T) {
			a := sloppyApp(t, c.raw, "")
			for range 3 {
				o, err := a.do(context.Background(), &appRequest{method: "POST", path: "/void", limit: 100})
				switch {
				case err != nil:
					t.Fatal("of unknown fate:", err)
				case c.want == bad:
					if o.Code != runtime.CodeBadAnswer {
						t.Errorf("got %+v", o)
					}
				case o.Status != http.StatusOK || string(o.Body) != c.want || o.Header.Get("X-B") != "b" && strings.Contains(c.raw, "X-B"):
					t.Errorf("got %+v", o)
				}
				if o, err := a.do(context.Background(), &appRequest{method: "POST", path: "/next", limit: 100}); err != nil || string(o.Body) != "ok" {
					t.Fatalf("the next one: %+v, %v", o, err)
				}
			}
		})
	}
}

// TestMendedHeadKeepsItsBytes: values are in whatever alphabet the app has.
func TestMendedHeadKeepsItsBytes(t *testing.T) {
	got, ok := mendHead([]byte("HTTP/1.1 200 \xc4\xe3\r\nX-A: \xc4\xe3\x01\r\nX-B: ä\r\n\r\n"))
	if want := []byte("HTTP/1.1 200 \xc4\xe3\nX-A:\xc4\xe3\nX-B:ä\n\n"); !ok || !bytes.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// FuzzMendHead: what was mended is never longer, and plain.
func FuzzMendHead(f *testing.F) {
	f.Add([]byte("HTTP/2 200\r\nA\r\n b\r\nContent-Length: 2,2\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := headEnd(b)
		if end == 0 {
			return
		}
		if mended, ok := mendHead(b[:end]); ok && headEnd(mended) != len(mended) {
			t.Errorf("%q ends at %d", mended, headEnd(mended))
		}
	})
}
