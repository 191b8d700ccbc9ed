package runtime

import "testing"

func TestProxiedAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"http://rev.ns.svc.cluster.local": true, "http://rev.ns.svc.cluster.local:80/x": true, "http://s.ns.svc": true,
		"https://app.1a2b.us-south.CodeEngine.appdomain.cloud/": true, "http://rev.ns.svc.cluster.local.": true,
		"http://127.0.0.1:8080": false, "https://tax.example.com": false, "http://svc.example.com": false, "http://example.com/a.svc.b": false, "::": false,
	} {
		if Proxied(address) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
}

func TestAnswersThroughProxies(t *testing.T) {
	a := Attempt{ID: ID{15: 7}, Number: 2}
	mine, other := a.ID.String(), ID{15: 8}.String()
	for _, c := range []struct {
		name   string
		status int
		body   string
		id, n  string
		want   Meaning
	}{
		{"crash", 502, "EOF", "", "", MeansNothing},
		{"too long", 504, "activator request timeout", "", "", MeansNothing},
		{"no pod", 503, "", "", "", MeansNothing},
		{"queue", 503, "pending request queue full\n", "", "", MeansNotStarted},
		{"wrong revision", 404, "Error getting active endpoint: revision \"\" not found", "", "", MeansNothing},
		{"queue-proxy panics", 500, "", "", "", MeansNothing},
		{"the app's 500", 500, "boom", "", "", MeansResult},
		{"the app's 404", 404, "no such order", "", "", MeansResult},
		{"the app's 503 with a mark", 503, "busy", mine, "", MeansResult},
		{"with both marks", 502, "", mine, "2", MeansResult},
		{"of an earlier attempt", 503, "", mine, "1", MeansNothing},
		{"of another request", 503, "", other, "2", MeansNothing},
		{"success", 200, "", "", "", MeansResult},
		{"429 is the app's", 429, "", "", "", MeansResult},
	} {
		o := &Outcome{Status: c.status, Body: []byte(c.body), Header: Header{}}
		if c.id != "" {
			o.Header["Kar-Request-Id"] = []string{c.id}
		}
		if c.n != "" {
			o.Header["Kar-Attempt"] = []string{c.n}
		}
		if got := o.ThroughProxy(a); got != c.want {
			t.Errorf("%s: %d", c.name, got)
		}
	}
}
