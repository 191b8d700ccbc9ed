package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/gateway/doors"
	"github.com/karmesh/kar/runtime"
)

// TestNeighbour (scenario 54): whoever may act for one app reaches nothing of an
// app with a name that begins so, is begun by it or only looks like it, on any
// route, in any form of the path, through any door.
func TestNeighbour(t *testing.T) {
	w := newWorld(t)
	victims := map[string]string{ // as written in a path: the name
		"shop-prod": "shop-prod", "shop%2Dprod": "shop-prod", "%73hop-prod": "shop-prod", "shop%2Fx": "shop/x",
		"shop%00": "shop\x00", "shop%20": "shop ", "%20shop": " shop", "SHOP": "SHOP", "sho": "sho", "shop.": "shop.",
		"shop%2F..%2Fshop-prod": "shop/../shop-prod", "%2573hop": "%73hop", "..": "..", "*": "*",
	}
	for escaped, name := range victims {
		if status, text, _ := w.send("PUT", "//apps/"+escaped+"/kar/v1/actor/A/1/state/iban", "1"); status != 201 && status != 204 {
			t.Fatalf("%s: %d %s", escaped, status, text)
		}
		if got, err := w.mesh.State(t.Context(), runtime.StateOp{Actor: runtime.Actor{App: name, Type: "A", ID: "1"}, Verb: runtime.StateGet, Key: "iban"}); err != nil || !got.Found {
			t.Fatalf("%s is not the app %q: %v", escaped, name, err)
		}
	}
	keys, err := doors.New(doors.Config{Secret: "a secret for tests only"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := keys.Token("shop", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	guard := keys.Guard(w.gw.Handler(), w.gw.Refuse)
	ways := map[string]func(r *http.Request) *httptest.ResponseRecorder{
		"a token": func(r *http.Request) *httptest.ResponseRecorder {
			r.Header.Set("Authorization", "Bearer "+token)
			rec := httptest.NewRecorder()
			guard.ServeHTTP(rec, r)
			return rec
		},
		"a host's stream": func(r *http.Request) *httptest.ResponseRecorder {
			rec := httptest.NewRecorder()
			w.gw.Handler().ServeHTTP(rec, r.WithContext(runtime.WithCaller(r.Context(), runtime.Caller{App: "shop", Boot: "b"})))
			return rec
		},
		"a door that is yet to come": func(r *http.Request) *httptest.ResponseRecorder {
			rec := httptest.NewRecorder()
			w.gw.Handler().ServeHTTP(rec, r.WithContext(runtime.WithCaller(r.Context(), runtime.Caller{App: "shop"})))
			return rec
		},
	}
	gone, cancel := context.WithCancel(t.Context()) // what is let in by mistake must not wait
	cancel()
	tried := 0
	for _, route := range w.gw.routes() {
		paths := []string{route.pattern}
		if strings.HasPrefix(route.pattern, api) {
			paths = nil
			for app := range victims {
				paths = append(paths, strings.Replace(route.pattern, "{app}", app, 1))
			}
		}
		for _, path := range paths {
			path = strings.NewReplacer("{path*}", "m", "{type}", "A", "{id}", "1", "{", "", "}", "").Replace(path)
			for _, m := range route.methods {
				for way, serve := range ways {
					ctx := gone
					if route.open {
						ctx = t.Context()
					}
					rec := serve(httptest.NewRequestWithContext(ctx, m.verb, path, nil))
					tried++
					switch {
					case route.open != (path == "/kar/health" || path == "/kar/ready"):
						t.Errorf("%s is open: %v", path, route.open)
					case route.open:
						if rec.Code != 200 {
							t.Errorf("%s %s with %s: %d", m.verb, path, way, rec.Code)
						}
					case rec.Code != 403 || rec.Header().Get("Kar-Error") != "forbidden":
						t.Errorf("%s %s with %s: %d %s", m.verb, path, way, rec.Code, rec.Body)
					}
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d requests were tried", tried)
	}
	for escaped := range victims {
		w.expect("GET", "//apps/"+escaped+"/kar/v1/actor/A/1/state/iban", "", 200, "1")
	}
	for way, serve := range ways { // its own
		if rec := serve(httptest.NewRequest("GET", "/apps/%73hop/kar/v1/actor/A/1/state/iban", nil)); rec.Code != 404 {
			t.Errorf("its own app with %s: %d %s", way, rec.Code, rec.Body)
		}
	}
}
