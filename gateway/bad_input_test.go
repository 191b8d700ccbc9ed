package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// Whatever nonsense arrives, what was accepted before, between and after it is
// all there: state, reminders, promises and the order of an actor's mailbox.
func TestBadInputLosesNothingAccepted(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.BodyLimit = 64 << 10 })
	promise := func(n int) string {
		resp := w.do(ask{verb: "POST", path: "/actor/Later/one/call/m", body: fmt.Sprintf("[%d]", n), header: http.Header{"Pragma": {"promise"}}})
		if resp.StatusCode != 202 {
			t.Fatalf("promise %d: %d", n, resp.StatusCode)
		}
		return readAll(t, resp)
	}
	const at = `{"path":"/m","targetTime":"2999-01-01T00:00:00Z"}`
	nonsense := []ask{
		{verb: "POST", path: "/actor/Later/one/state", body: `{"updates":`},
		{verb: "POST", path: "/actor/Later/one/state/k", body: `not json`},
		{verb: "POST", path: "/actor/Later/one/state/k", body: `{"op":"explode"}`},
		{verb: "PUT", path: "/actor/Later/one/reminders/r", body: `{"path":"/m","targetTime":"10000-01-01T00:00:00Z"}`},
		{verb: "PUT", path: "/actor/Later/one/reminders/r", body: `{"path":"/m","targetTime":"2999-01-01T00:00:00Z","period":"-1s"}`},
		{verb: "PUT", path: "/actor/Later/one/events/s", body: `{"topic":7}`},
		{verb: "POST", path: "/event/never-made/publish", body: "x"},
		{verb: "POST", path: "/await", body: "not-an-id"},
		{verb: "POST", path: "/await", body: strings.Repeat("0", 26)},
		{verb: "DELETE", path: "/requests/" + strings.Repeat("z", 26)},
		{verb: "POST", path: "/actor/Later/one/call/m?session=a%20b", body: "[]"},
		{verb: "POST", path: "/actor/Later/one/call/m", body: strings.Repeat("x", 65<<10)},
		{verb: "PUT", path: "/actor/Later/one/state/k", body: strings.Repeat("x", 65<<10)},
		{verb: "POST", path: "/actor/Later/" + strings.Repeat("i", 5000) + "/call/m", body: "[]"},
		{verb: "BREW", path: "/actor/Later/one/call/m"},
		{verb: "GET", path: "/nothing/here"},
		{verb: "POST", path: "/actor/Later/one/call/m", body: "[]", header: http.Header{"Kar-Timeout": {"soon"}}},
		{verb: "PUT", path: "/services/x", body: `{"url":"gopher://x"}`},
	}
	var ids []string
	for i, bad := range nonsense {
		ids = append(ids, promise(i))
		w.expect("PUT", fmt.Sprintf("/actor/Later/one/state/key%d", i), fmt.Sprint(i), 201, "")
		if s, text, _ := w.send("PUT", fmt.Sprintf("/actor/Later/one/reminders/kept%d", i), at); s != 204 {
			t.Fatalf("reminder: %d %s", s, text)
		}
		resp := w.do(bad)
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%s %.60s: %d", bad.verb, bad.path, resp.StatusCode)
		}
		if resp.Header.Get("Kar-Error") == "" {
			t.Errorf("%s %.60s: %d without a code", bad.verb, bad.path, resp.StatusCode)
		}
	}
	var order []string
	w.host("a", "", []string{"Later"}, func(m *runtime.Invoke) runtime.Outcome {
		order = append(order, string(m.Body)) // one at a time (P5), so this needs no lock
		return value(string(m.Body))
	})
	for i, id := range ids {
		if _, text, _ := w.send("POST", "/await", id); text != fmt.Sprintf(`{"value":[%d]}`, i) {
			t.Errorf("promise %d: %s", i, text)
		}
		if s, text, _ := w.send("GET", fmt.Sprintf("/actor/Later/one/state/key%d", i), ""); s != 200 || text != fmt.Sprint(i) {
			t.Errorf("state %d: %d %s", i, s, text)
		}
	}
	for i, body := range order {
		if body != fmt.Sprintf("[%d]", i) {
			t.Fatalf("run in the order %v", order)
		}
	}
	if _, text, _ := w.send("GET", "/actor/Later/one/reminders", ""); strings.Count(text, `"kept`) != len(nonsense) {
		t.Errorf("reminders: %s", text)
	}
}
