package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

func apiRouter() *router { return newRouter((&Gateway{}).routes()) }

func TestMatchFindsRouteAndNames(t *testing.T) {
	for _, c := range []struct {
		path, route string
		want        []string
	}{
		{"/apps/a/kar/v1/actor/T/i/call/m", "actor_call", []string{"a", "T", "i", "m"}},
		{"/apps/a/kar/v1/actor/T/i/call/m/n/", "actor_call", []string{"a", "T", "i", "m/n/"}},
		{"/apps/a/kar/v1/actor/T/i/call/", "actor_call", []string{"a", "T", "i", ""}},
		{"/apps/a/kar/v1/actor/T/a%2Fb/call/m%2Fn", "actor_call", []string{"a", "T", "a/b", "m%2Fn"}},
		{"/apps/a/kar/v1/service/s/call", "service_call", []string{"a", "s", ""}},
		{"/apps/a/kar/v1/service/s/call/x?y", "service_call", []string{"a", "s", "x?y"}},
		{"/apps/a%20b/kar/v1/service/%F0%9F%A6%8A/call//x", "service_call", []string{"a b", "🦊", "/x"}},
		{"/apps/a/kar/v1/actor/T/i/state", "state", []string{"a", "T", "i"}},
		{"/apps/a/kar/v1/actor/T/i/state/", "state", []string{"a", "T", "i"}},
		{"/apps/a/kar/v1/actor/T/i/state/k%25", "state_key", []string{"a", "T", "i", "k%"}},
		{"/apps/a/kar/v1/actor/T/i/state/k/s%3F", "state_subkey", []string{"a", "T", "i", "k", "s?"}},
		{"/apps/a/kar/v1/actor/T/call/state/state", "state_key", []string{"a", "T", "call", "state"}},
		{"/apps/a/kar/v1/actor/T/..", "actor", []string{"a", "T", ".."}},
		{"/apps/kar/kar/v1/await", "await", []string{"kar"}},
		{"/kar/health", "health", nil},
		{"/metrics", "metrics", nil},
	} {
		var n names
		r, err := apiRouter().match(c.path, &n)
		if err != nil || r.name != c.route {
			t.Errorf("%s: route %v, error %v, want %s", c.path, r, err, c.route)
			continue
		}
		var want names
		copy(want[:], c.want)
		if n != want {
			t.Errorf("%s: names %q, want %q", c.path, n, want)
		}
	}
}

func TestMatchRefuses(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	for path, code := range map[string]runtime.Code{
		"":                                     runtime.CodeNotFound,
		"/":                                    runtime.CodeNotFound,
		"*":                                    runtime.CodeNotFound,
		"/apps":                                runtime.CodeNotFound,
		"/apps/a":                              runtime.CodeNotFound,
		"/apps/a/kar/v2/await":                 runtime.CodeNotFound,
		"/kar/v1/await":                        runtime.CodeNotFound,
		"/apps/a/kar/v1/actor/T/i/nothing":     runtime.CodeNotFound,
		"/apps/a/kar/v1/actor/T/i/state/k/s/x": runtime.CodeNotFound,
		"/apps//kar/v1/await":                  runtime.CodeBadRequest,
		"/apps/a/kar/v1/actor//i/call/m":       runtime.CodeBadRequest,
		"/apps/a/kar/v1/actor/T//call/m":       runtime.CodeBadRequest,
		"/apps/a/kar/v1/actor/T/%zz/call/m":    runtime.CodeBadRequest,
		"/apps/a/kar/v1/actor/T/" + long:       runtime.CodeBadRequest,
	} {
		var n names
		_, err := apiRouter().match(path, &n)
		var e *runtime.Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s: error %v, want %s", clip(path, 60), err, code)
		}
	}
}

func TestEveryNameFitsAndEveryRouteMatchesItself(t *testing.T) {
	rt := apiRouter()
	for _, r := range (&Gateway{}).routes() {
		if n := strings.Count(r.pattern, "{"); n > maxNames {
			t.Errorf("%s has %d names", r.pattern, n)
		}
		var n names
		found, err := rt.match(strings.NewReplacer("{", "", "*}", "", "}", "").Replace(r.pattern), &n)
		if err != nil || found.pattern != r.pattern {
			t.Errorf("%s is found as %v, %v", r.pattern, found, err)
		}
	}
}

func TestQueryValue(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"", ""}, {"session=a:b", "a:b"}, {"x=1&session=a%3Ab", "a:b"}, {"session=1&session=2", "1"},
		{"session", ""}, {"xsession=1", ""}, {"session=%zz", "%zz"}, {"a=%zz&session=b+c", "b c"},
	} {
		if got := queryValue(c.raw, "session"); got != c.want {
			t.Errorf("%q: %q, want %q", c.raw, got, c.want)
		}
	}
}

func TestMethodPath(t *testing.T) {
	for path, want := range map[string]string{
		"/m": "/m", "/a/b": "/a/b", "/a b": "/a%20b", "/a%20b": "/a%20b", "/größe": "/gr%C3%B6%C3%9Fe",
		"/a?b": "/a%3Fb", "/100%": "/100%25", "": "", "m": "", "/": "",
	} {
		got, ok := methodPath(path)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", path, got, ok, want)
		}
	}
}

// FuzzMatch holds that a path of any bytes is answered without a panic, and
// that a name which was escaped arrives as it was.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"", "a/b", "100%", "?", "#x", "🦊", " ", "..", "%2F", "\x00\xff", "call", "state"} {
		f.Add(s, "/apps/a/kar/v1/actor/"+s)
	}
	rt := apiRouter()
	f.Fuzz(func(t *testing.T, name, path string) {
		var any names
		_, _ = rt.match(path, &any)
		if name == "" || len(name) > maxName {
			return
		}
		var n names
		r, err := rt.match("/apps/"+url.PathEscape(name)+"/kar/v1/actor/T/"+url.PathEscape(name)+"/call/m", &n)
		if err != nil || r.name != "actor_call" || n[0] != name || n[2] != name || n[3] != "m" {
			t.Fatalf("%q: %v %q %v", name, r, n, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	rt := apiRouter()
	b.ReportAllocs()
	for b.Loop() {
		var n names
		r, err := rt.match("/apps/shop/kar/v1/actor/Cart/4711/call/add", &n)
		if err != nil || r.handler(http.MethodPost) == nil {
			b.Fatal(err)
		}
	}
}
