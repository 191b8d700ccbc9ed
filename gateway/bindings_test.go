package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

func TestReminders(t *testing.T) {
	w := newWorld(t)
	const r = "/actor/T/i/reminders"
	w.expect("GET", r, "", 200, "[]")
	w.expect("DELETE", r, "", 200, "0")
	if h := w.expect("GET", r+"/x", "", 404, ""); h["Content-Type"] != nil {
		t.Errorf("Content-Type %q", h["Content-Type"])
	}
	w.expect("GET", r+"/x?nilOnAbsent=true", "", 200, "null")
	w.expect("DELETE", r+"/x", "", 404, "")
	w.expect("DELETE", r+"/x?nilOnAbsent=true", "", 200, "0")
	w.expect("PUT", r+"/x", `{"path":"/m","targetTime":"2090-01-02T03:04:05.123456789+01:00","period":"1h30m","data":[1, "a"]}`, 204, "")
	want := `{"Actor":{"Type":"T","ID":"i"},"id":"x","path":"/m","targetTime":"2090-01-02T02:04:05.123456789Z","period":5400000000000,"encodedData":"[1, \"a\"]"}`
	if h := w.expect("GET", r+"/x", "", 200, want); h.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	w.expect("PUT", r+"/x", `{"path":"/m","targetTime":"2090-01-02T03:04:05Z"}`, 200, "OK")
	h := w.expect("PUT", r+"/a%2Fb", `{"path":"/m","targetTime":"2091-01-02T03:04:05Z","period":"","data":null,"catchUp":"all"}`, 204, "")
	if h.Get("Content-Type") != "text/plain" { // KAR 1.x's; the SDK for Python goes by it
		t.Errorf("204 of a new reminder has Content-Type %q", h.Get("Content-Type"))
	}
	w.expect("GET", r, "", 200, `[{"Actor":{"Type":"T","ID":"i"},"id":"a/b","path":"/m","targetTime":"2091-01-02T03:04:05Z","catchUp":"all"},`+
		`{"Actor":{"Type":"T","ID":"i"},"id":"x","path":"/m","targetTime":"2090-01-02T03:04:05Z"}]`)
	w.expect("DELETE", r+"/x", "", 200, "1")
	w.expect("DELETE", r, "", 200, "1")
	w.expect("GET", r, "", 200, "[]")
}

func TestReminderFires(t *testing.T) {
	w := newWorld(t)
	fired := make(chan string, 10)
	w.host("a", "", []string{"T"}, func(m *runtime.Invoke) runtime.Outcome {
		fired <- m.Path + string(m.Body)
		return runtime.Outcome{Status: 204}
	})
	w.expect("PUT", "/actor/T/i/reminders/soon", `{"path":"/m","data":["x"]}`, 204, "")
	select {
	case got := <-fired:
		if got != `/m["x"]` {
			t.Errorf("fired %s", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a reminder without targetTime does not fire at once")
	}
}

func TestBadReminders(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{
		"", "nonsense", "[]", `{"path":1}`, `{}`,
		`{"path":"m","targetTime":"2090-01-02T03:04:05Z"}`,
		`{"path":"/","targetTime":"2090-01-02T03:04:05Z"}`,
		`{"path":"/m","targetTime":"tomorrow"}`,
		`{"path":"/m","targetTime":1893456000}`,
		`{"path":"/m","targetTime":"10000-01-01T00:00:00Z"}`,
		`{"path":"/m","targetTime":"9999-12-31T23:59:59-10:00"}`,
		`{"path":"/m","period":"-1s"}`, `{"path":"/m","period":"0s"}`, `{"path":"/m","period":"1ns"}`,
		`{"path":"/m","period":"9999999h"}`, `{"path":"/m","period":"often"}`, `{"path":"/m","period":5}`,
		`{"path":"/m","catchUp":"some"}`,
	} {
		status, text, h := w.send("PUT", "/actor/T/i/reminders/x", body)
		if status != 400 || h.Get("Kar-Error") != "bad_reminder" || text == "" || strings.Contains(text, "Go ") || strings.Contains(text, "reminderAsk") {
			t.Errorf("%s: %d %q", body, status, text)
		}
	}
	w.expect("GET", "/actor/T/i/reminders", "", 200, "[]")
}

func TestTopicsAndSubscriptions(t *testing.T) {
	w := newWorld(t)
	if h := w.expect("PUT", "/event/t.1", "", 201, ""); h.Get("Location") != "/apps/a/kar/v1/event/t.1" {
		t.Errorf("Location %q", h.Get("Location"))
	}
	w.expect("PUT", "/event/t.1", `{"numPartitions":3,"replicationFactor":1,"configEntries":{"retention.ms":"1"}}`, 200, "Already existed")
	if h := w.expect("PUT", "/event/t.2", `{"numPartitions":3}`, 201, "Created with 1 partition, not 3: all events of a topic of KAR are in one order"); h.Get("Location") == "" {
		t.Error("no Location")
	}
	w.expect("PUT", "/event/t.3", `{"numPartitions":1}`, 201, "")
	const e = "/actor/T/i/events"
	w.expect("GET", e, "", 200, "[]")
	w.expect("GET", e+"/s", "", 404, "")
	w.expect("GET", e+"/s?nilOnAbsent=true", "", 200, "null")
	w.expect("DELETE", e+"/s", "", 404, "")
	w.expect("DELETE", e+"/s?nilOnAbsent=true", "", 200, "0")
	if h := w.expect("PUT", e+"/s", `{"path":"/m","topic":"t.1"}`, 204, ""); h.Get("Content-Type") != "text/plain" {
		t.Errorf("204 of a new subscription has Content-Type %q", h.Get("Content-Type"))
	}
	w.expect("GET", e+"/s", "", 200, `{"actor":{"Type":"T","ID":"i"},"id":"s","path":"/m","topic":"t.1","group":"s","oldestoffset":false}`)
	w.expect("PUT", e+"/s", `{"path":"/m","topic":"t.1","contentType":"text/plain","group":"g","offsetOldest":"true"}`, 200, "OK")
	w.expect("GET", e, "", 200, `[{"actor":{"Type":"T","ID":"i"},"id":"s","path":"/m","topic":"t.1","group":"g","contenttype":"text/plain","oldestoffset":true}]`)
	w.expect("DELETE", e+"/s", "", 200, "1")
	w.expect("DELETE", e, "", 200, "0")

	resp := w.do(ask{verb: "POST", path: "/event/t.1/publish", body: string(everyByte()),
		header: http.Header{"Content-Type": {"a/b"}, "Ce-Id": {"1"}, "X-Other": {"1"}}})
	if text := readAll(t, resp); resp.StatusCode != 200 || text != "OK" {
		t.Errorf("publish: %d %s", resp.StatusCode, text)
	}
	got, err := w.disk.Topics().Fetch(t.Context(), "t.1", 0, 10)
	events := got.Events
	if err != nil || len(events) != 1 || string(events[0].Body) != string(everyByte()) ||
		events[0].Header.Get("Content-Type") != "a/b" || events[0].Header.Get("Ce-Id") != "1" || len(events[0].Header) != 2 {
		t.Errorf("%v %v", events, err)
	}
	w.expect("PUT", e+"/early", `{"path":"/m","topic":"not.yet"}`, 204, "") // waits for its topic
	w.expect("DELETE", "/event/t.1", "", 200, "OK")
	w.expect("DELETE", "/event/t.1", "", 200, "OK")
	if status, _, h := w.send("POST", "/event/t.1/publish", "x"); status != 400 || h.Get("Kar-Error") != "topic_missing" {
		t.Errorf("publish to nothing: %d %v", status, h)
	}
}

func TestBadTopicsAndSubscriptions(t *testing.T) {
	w := newWorld(t)
	for body, code := range map[string]string{
		"": "bad_subscription", "[]": "bad_subscription", `{"path":"/m","topic":"t","offsetOldest":true}`: "bad_subscription",
		`{"topic":"t"}`: "bad_subscription", `{"path":"m","topic":"t"}`: "bad_subscription",
		`{"path":"/m"}`: "bad_request", `{"path":"/m","topic":"a b"}`: "bad_request", `{"path":"/m","topic":"_kar.x"}`: "bad_request",
	} {
		if status, _, h := w.send("PUT", "/actor/T/i/events/s", body); status != 400 || h.Get("Kar-Error") != code {
			t.Errorf("%s: %d %v", body, status, h)
		}
	}
	for _, topic := range []string{"%2F", "..", "_kar.log", "_kar_m_topics", "__orders", "._x", "..x", "a%20b", "%F0%9F%A6%8A"} {
		for _, c := range []struct{ verb, path string }{{"PUT", ""}, {"DELETE", ""}, {"POST", "/publish"}} {
			if status, _, h := w.send(c.verb, "/event/"+topic+c.path, ""); status != 400 || h.Get("Kar-Error") != "bad_request" {
				t.Errorf("%s %s: %d %v", c.verb, topic, status, h)
			}
		}
	}
	if status, _, h := w.send("PUT", "/event/t", "{"); status != 400 || h.Get("Kar-Error") != "bad_request" {
		t.Errorf("%d %v", status, h)
	}
}

func TestReminderTimesRoundTrip(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	for in, want := range map[string]string{
		"":                               "2030-01-02T03:04:05.678901234Z",
		"2031-06-01T00:00:00.000000001Z": "2031-06-01T00:00:00.000000001Z",
		"2031-06-01T02:00:00.9999+02:00": "2031-06-01T00:00:00.9999Z",
		"0001-01-01T00:00:00Z":           "1970-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999999Z": "9999-12-31T23:59:59.999999999Z",
	} {
		ask := reminderAsk{Path: "/m", TargetTime: in}
		r, err := ask.reminder(now)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		got, err := json.Marshal(answerReminder(r).TargetTime)
		if err != nil || string(got) != `"`+want+`"` {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

// TestPathsThatClimb: no path of a method leads out of its actor, whoever goes
// there: a call, a reminder or an event.
func TestPathsThatClimb(t *testing.T) {
	w := newWorld(t)
	w.host("a", "svc", []string{"T"}, echo)
	for _, path := range []string{"..", ".", "../o/m", "m/../../o/m", "%2e%2e/o/m", "%2E./o/m", "m/%2e%2e%2fo", "..%5Co", "..;x/o/m", "./m"} {
		for _, c := range []struct{ verb, path, body, code string }{
			{"POST", "/actor/T/i/call/" + path, "[]", "bad_request"},
			{"PUT", "/actor/T/i/reminders/r", `{"path":"/` + path + `"}`, "bad_reminder"},
			{"PUT", "/actor/T/i/events/s", `{"path":"/` + path + `","topic":"t"}`, "bad_subscription"},
		} {
			if status, text, h := w.send(c.verb, c.path, c.body); status != 400 || h.Get("Kar-Error") != c.code {
				t.Errorf("%s %s %s: %d %s", c.verb, c.path, c.body, status, text)
			}
		}
	}
	w.expect("POST", "/actor/T/i/call/m..n/.x", "[]", 200, `{"value":"T|i|/m..n/.x|[]"}`)
	w.expect("POST", "/service/svc/call/a/../b", "x", 200, "x")
}
