package host_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

// write answers with bytes of its own.
func write(t *testing.T, w http.ResponseWriter, answer string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = c.Write([]byte(answer))
	_ = c.Close()
}

// TestOddAnswerEndsItsRequestOnly: what a caller makes the app answer ends neither
// the component nor what else runs in it.
func TestOddAnswerEndsItsRequestOnly(t *testing.T) {
	app := newSlowApp(t)
	app.scriptApp = newScriptApp(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/slow"):
			app.entered <- struct{}{}
			<-app.release
			ok(w, r)
		case strings.HasSuffix(r.URL.Path, "/odd"):
			status := "200 OK"
			if b, _ := io.ReadAll(r.Body); string(b) == "[3]" {
				status = "099 Odd" // nothing follows it
			}
			write(t, w, "HTTP/1.1 "+status+"\r\nContent-Length: 2, "+map[bool]string{true: "2", false: "3"}[status[0] == '0']+"\r\n\r\nok")
		default:
			ok(w, r)
		}
	})
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	slow := actorCall(1, "a", "/slow", "[1]")
	r.owners.send(slow)
	wait(t, "start", app.entered)
	for n := range 3 {
		odd := actorCall(2+n, "b", "/odd", fmt.Sprintf("[%d]", 2+n))
		r.owners.send(odd)
		if a := wait(t, "answer", r.owners.answers); a.Attempt != odd.Attempt || a.Outcome == nil || a.Outcome.Code != runtime.CodeBadAnswer {
			t.Fatalf("got %+v", a)
		}
	}
	free(app.release)
	if a := wait(t, "answer", r.owners.answers); a.Attempt != slow.Attempt || body(a.Outcome) != "200 [1]" {
		t.Errorf("got %+v", a)
	}
	none(t, "end of the app", r.guard.did, 0)
}

// TestEndlessAnswerOfTheApp: an answer without an end costs no more than a bound.
func TestEndlessAnswerOfTheApp(t *testing.T) {
	gone := make(chan struct{})
	r := start(t, newScriptApp(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/endless") {
			ok(w, r)
			return
		}
		for chunk := make([]byte, 1<<20); ; {
			if _, err := w.Write(chunk); err != nil {
				close(gone)
				return
			}
		}
	}), func(_ *rig, a *activator.Config, h *host.Config) {
		a.BodyLimit, h.BodyLimit = 10_000, 10_000
		a.Lease = time.Minute
	})
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "a", "/endless", "[1]"))
	if a := wait(t, "answer", r.owners.answers); a.Outcome == nil || a.Outcome.Code != runtime.CodeResultTooLarge {
		t.Errorf("got %+v", a.Outcome)
	}
	wait(t, "end of the answer", gone)
	none(t, "end of the app", r.guard.did, 0)
}
