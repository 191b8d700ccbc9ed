package host_test

import (
	"net/http"
	"net/url"
	"testing"
)

// TestRedirectsStayWithTheirActor: where an app sends an actor's call on, it may
// reach no other actor and no other route, and a service's call reaches no actor.
func TestRedirectsStayWithTheirActor(t *testing.T) {
	reached := make(chan string, 100)
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		if r.Method == "POST" {
			reached <- r.RequestURI
		}
		_, _ = w.Write([]byte(`{"value":1}`))
	}))
	wait(t, "join", r.owners.ups)
	const own = "/kar/impl/v1/actor/T/i"
	for n, c := range []struct {
		actor  bool
		to     string
		status int
	}{
		{true, own + "/other", 200},
		{true, "other", 200},
		{true, "/kar/impl/v1/actor/T/vip/m", 307},
		{true, "/kar/impl/v1/actor/T/if/m", 307},
		{true, "../vip/m", 307},
		{true, own + "/%252e%252e/vip/m", 200}, // a name with percent signs
		{true, own + "/%2e%2e/vip/m", 307},
		{true, "/admin", 307},
		{false, "/admin", 200},
		{false, own + "/m", 307},
		{false, "/kar/%69mpl/v1/actor/T/vip/m", 307},
	} {
		path := "/m?to=" + url.QueryEscape(c.to)
		m := serviceCall(n+1, "POST", path, nil)
		if c.actor {
			m = actorCall(n+1, "i", path, "")
		}
		r.owners.send(m)
		if o := wait(t, "answer", r.owners.answers).Outcome; o == nil || o.Status != c.status {
			t.Errorf("%+v: %+v", c, o)
		}
		if c.status == 200 {
			wait(t, "request", reached)
		}
	}
	select {
	case path := <-reached:
		t.Errorf("%s was called", path)
	default:
	}
}
