package gateway

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/karmesh/kar/runtime"
)

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsValidAndServed(t *testing.T) {
	doc := loadDocument(t)
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("version %s", doc.OpenAPI)
	}
	w := newWorld(t)
	status, text, h := w.send("GET", "//kar/openapi.json", "")
	if status != 200 || text != string(document) || h.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", status, h)
	}
}

// TestDocumentAndRouterListTheSameOperations holds in both directions.
func TestDocumentAndRouterListTheSameOperations(t *testing.T) {
	served := map[string]bool{}
	for _, r := range (&Gateway{}).routes() {
		for _, m := range r.methods {
			served[m.verb+" "+docPath(r.pattern)] = true
		}
	}
	for path, item := range loadDocument(t).Paths.Map() {
		for verb := range item.Operations() {
			if !served[verb+" "+path] {
				t.Errorf("the document has %s %s, the router has not", verb, path)
			}
			delete(served, verb+" "+path)
		}
	}
	for op := range served {
		t.Errorf("the router has %s, the document has not", op)
	}
}

func docPath(pattern string) string { return strings.ReplaceAll(pattern, "*}", "}") }

// An exercise is one request that must fit the document, and so must its answer.
type exercise struct {
	ask
	status int
}

func exercises(id string, caller runtime.Caller) []exercise {
	at := func(status int, verb, path, body string) exercise {
		return exercise{ask{verb: verb, path: path, body: body}, status}
	}
	with := func(e exercise, name, value string) exercise { e.header = http.Header{name: {value}}; return e }
	list := []exercise{
		at(200, "POST", "/actor/T/i/call/m?session=", "[1]"),
		with(at(202, "POST", "/actor/T/i/call/m", "[1]"), "Pragma", "async"),
		with(at(202, "POST", "/service/svc/call/m", "[1]"), "Pragma", "promise"),
		with(at(408, "POST", "/service/absent/call/m", "[1]"), "Kar-Timeout", "10ms"),
		at(200, "POST", "/await", id), at(400, "POST", "/await", "x"),
		with(at(400, "POST", "/await", "x"), "Accept", "application/problem+json"),
		at(202, "DELETE", "/actor/Gone/i", ""),
		at(201, "PUT", "/actor/T/i/state/k", `{"x":1}`), at(204, "PUT", "/actor/T/i/state/k", `2`),
		at(200, "GET", "/actor/T/i/state/k", ""), at(404, "GET", "/actor/T/i/state/none", ""), at(200, "HEAD", "/actor/T/i/state/k", ""),
		at(201, "PUT", "/actor/T/i/state/m/k", `1`), at(200, "GET", "/actor/T/i/state/m/k", ""), at(404, "HEAD", "/actor/T/i/state/m/none", ""),
		at(200, "POST", "/actor/T/i/state/m", `{"op":"get"}`), at(200, "POST", "/actor/T/i/state/m", `{"op":"keys"}`), at(200, "POST", "/actor/T/i/state/m", `{"op":"clear"}`),
		at(200, "DELETE", "/actor/T/i/state/m/k", ""), at(200, "DELETE", "/actor/T/i/state/k", ""),
		at(200, "POST", "/actor/T/i/state", `{"updates":{"a":1},"submapupdates":{"m":{"x":1}},"removals":["r"],"submapremovals":{"m":["y"]}}`),
		at(200, "GET", "/actor/T/i/state", ""), at(200, "DELETE", "/actor/T/i/state", ""),
		at(204, "PUT", "/actor/T/i/reminders/r", `{"path":"/m","targetTime":"2090-01-02T03:04:05Z","period":"1h","data":[1]}`),
		at(200, "PUT", "/actor/T/i/reminders/r", `{"path":"/m","targetTime":"2090-01-02T03:04:05Z","catchUp":"all"}`),
		at(200, "GET", "/actor/T/i/reminders/r", ""), at(404, "GET", "/actor/T/i/reminders/none", ""), at(200, "GET", "/actor/T/i/reminders/none?nilOnAbsent=true", ""),
		at(200, "GET", "/actor/T/i/reminders", ""), at(200, "DELETE", "/actor/T/i/reminders/r", ""), at(404, "DELETE", "/actor/T/i/reminders/r", ""), at(200, "DELETE", "/actor/T/i/reminders", ""),
		at(201, "PUT", "/event/t", `{"numPartitions":1}`), at(201, "PUT", "/event/wide", `{"numPartitions":2}`), at(200, "PUT", "/event/t", ""), at(200, "POST", "/event/t/publish", "x"),
		at(204, "PUT", "/actor/T/i/events/s", `{"path":"/m","topic":"t"}`), at(200, "PUT", "/actor/T/i/events/s", `{"path":"/m","topic":"t","group":"g"}`),
		at(200, "GET", "/actor/T/i/events/s", ""), at(200, "GET", "/actor/T/i/events/none?nilOnAbsent=true", ""), at(200, "GET", "/actor/T/i/events", ""),
		at(200, "DELETE", "/actor/T/i/events/s", ""), at(404, "DELETE", "/actor/T/i/events/s", ""), at(200, "DELETE", "/actor/T/i/events", ""),
		at(200, "DELETE", "/event/t", ""), at(400, "POST", "/event/t/publish", "x"),
		at(200, "GET", "/system/health", ""), at(404, "POST", "/system/shutdown", ""),
		at(200, "GET", "/system/information/sidecars", ""), with(at(200, "GET", "/system/information/sidecars", ""), "Accept", "application/json"),
		at(501, "GET", "/debug/register", ""), at(501, "POST", "/debug/register", ""), at(501, "PUT", "/debug/register", ""),
		at(200, "GET", "/requests/"+id, ""), at(400, "GET", "/requests/x", ""), at(200, "GET", "/requests/"+id+"/outcome", ""),
		at(200, "DELETE", "/requests/"+id, ""), at(200, "DELETE", "/requests", ""),
		at(200, "GET", "/missing", ""), at(200, "GET", "/instances?type=T", ""), at(200, "GET", "/services", ""),
		at(201, "PUT", "/services/s", `{"url":"http://127.0.0.1:1"}`), at(200, "PUT", "/services/s", `{"url":"http://127.0.0.1:1","timeout":"1s"}`),
		at(204, "DELETE", "/services/s", ""), at(404, "DELETE", "/services/s", ""),
		at(200, "POST", "/drain", ""), at(204, "POST", "/purge", ""),
		at(200, "GET", "//kar/health", ""), at(200, "HEAD", "//kar/health", ""), at(200, "GET", "//kar/ready", ""), at(200, "HEAD", "//kar/ready", ""),
		at(200, "GET", "//kar/status", ""), at(200, "GET", "//kar/openapi.json", ""), at(200, "GET", "//metrics", ""),
	}
	for _, verb := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		list = append(list, at(200, verb, "/service/svc/call/x/y?q=1", ""))
	}
	own := with(at(200, "GET", "/system/information/sidecar_actors", ""), "Accept", "application/json")
	own.caller = caller
	return append(list, own)
}

// TestEveryOperationFitsTheDocument sends requests for every operation and
// checks requests and answers against the document.
func TestEveryOperationFitsTheDocument(t *testing.T) {
	for _, partitions := range []int{1, 4} {
		t.Run(strconv.Itoa(partitions)+" partitions", func(t *testing.T) { everyOperation(t, partitions) })
	}
}

func everyOperation(t *testing.T, partitions int) {
	doc, w := loadDocument(t), newWorld(t, func(c *Config) { c.Partitions = partitions })
	h := w.host("a", "svc", []string{"T"}, echo)
	promise := w.do(ask{verb: "POST", path: "/actor/T/i/call/m", header: http.Header{"Pragma": {"promise"}}})
	seen := map[string]bool{}
	for _, e := range exercises(readAll(t, promise), runtime.Caller{Boot: h.boot}) {
		r := httptest.NewRequest(e.verb, e.target(), strings.NewReader(e.body))
		if e.body == "" {
			r = httptest.NewRequest(e.verb, e.target(), nil)
		} else if e.body[0] == '{' {
			r.Header.Set("Content-Type", "application/json")
		}
		for name, values := range e.header {
			r.Header[name] = values
		}
		var n names
		found, err := w.gw.router.match(r.URL.EscapedPath(), &n)
		if err != nil {
			t.Errorf("%s %s: %v", e.verb, e.path, err)
			continue
		}
		path := docPath(found.pattern)
		seen[e.verb+" "+path] = true
		item := doc.Paths.Value(path)
		input := &openapi3filter.RequestValidationInput{
			Request: r, PathParams: pathParams(path, n), QueryParams: r.URL.Query(),
			Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: e.verb, Operation: item.GetOperation(e.verb)},
			Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
		}
		if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
			t.Errorf("%s %s: request: %v", e.verb, e.path, err)
		}
		if e.header == nil {
			e.header = http.Header{}
		}
		if ct := r.Header.Get("Content-Type"); ct != "" {
			e.header.Set("Content-Type", ct)
		}
		resp := w.do(e.ask)
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != e.status {
			t.Errorf("%s %s: %d %s, want %d", e.verb, e.path, resp.StatusCode, body, e.status)
		}
		err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header,
			Body: io.NopCloser(bytes.NewReader(body)), Options: input.Options,
		})
		if err != nil {
			t.Errorf("%s %s: answer %d: %v", e.verb, e.path, resp.StatusCode, err)
		}
	}
	for path, item := range doc.Paths.Map() {
		for verb := range item.Operations() {
			if !seen[verb+" "+path] {
				t.Errorf("%s %s is not exercised", verb, path)
			}
		}
	}
}

func pathParams(path string, n names) map[string]string {
	params, i := map[string]string{}, 0
	for segment := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(segment, "{") {
			params[strings.Trim(segment, "{}")] = url.PathEscape(n[i])
			i++
		}
	}
	return params
}
