package gateway

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/gateway/doors"
)

// TestTheGuardReadsPathsAsTheRouterDoes: what a token of one app opens is of
// that app by the router's reading too, however the path is written.
func TestTheGuardReadsPathsAsTheRouterDoes(t *testing.T) {
	keys, err := doors.New(doors.Config{Secret: "a secret for tests only"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := keys.Token("shop", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	router := newRouter((&Gateway{}).routes())
	passed := false
	guard := keys.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }),
		func(http.ResponseWriter, *http.Request, error) {})
	parts := []string{"apps", "apps", "apps", "%61pps", "shop", "shop", "sh%6Fp", "other", "shop%2Fother", "..", ".", "", "", "%2E%2E", "%00",
		"kar", "kar", "v1", "v1", "missing", "requests", "actor", "T", "i", "call", "m", "metrics", "status", "health", "attach", "%zz", "a?b", "*"}
	reached, of := 0, 0
	for range 200_000 {
		var path strings.Builder
		for range 1 + rand.IntN(8) {
			path.WriteString("/" + parts[rand.IntN(len(parts))])
		}
		if rand.IntN(2) == 0 { // else it would be rare
			path.Reset()
			path.WriteString("/apps/" + parts[rand.IntN(len(parts))] + "/kar/v1/missing")
		}
		u, err := url.ParseRequestURI(path.String())
		if err != nil {
			continue
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = u
		r.Header.Set("Authorization", "Bearer "+token)
		passed = false
		guard.ServeHTTP(httptest.NewRecorder(), r)
		var n names
		route, err := router.match(u.EscapedPath(), &n)
		if err != nil || !passed {
			continue
		}
		reached++
		switch {
		case strings.HasPrefix(route.pattern, api):
			of++
			if n[0] != "shop" {
				t.Fatalf("%s reaches %s of the app %q", path.String(), route.name, n[0])
			}
		case route.name != "health" && route.name != "ready":
			t.Fatalf("%s reaches %s", path.String(), route.name)
		}
	}
	if of < 100 || reached == of {
		t.Errorf("%d paths reached a route, %d of the app: too few to say anything", reached, of)
	}
}
