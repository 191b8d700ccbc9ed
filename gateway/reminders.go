package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A reminderAsk is the body of PUT /reminders/{reminder}.
type reminderAsk struct {
	Path       string          `json:"path"`
	TargetTime string          `json:"targetTime"` // RFC 3339; absent means now, as in KAR 1.x
	Period     string          `json:"period"`     // Go duration; absent or "" means once
	Data       json.RawMessage `json:"data"`
	CatchUp    string          `json:"catchUp"` // "" or "all"
}

// A reminderAnswer is a reminder as KAR 1.x writes it; note the capital of Actor.
type reminderAnswer struct {
	Actor      actorName
	ID         string    `json:"id"`
	Path       string    `json:"path"`
	TargetTime time.Time `json:"targetTime"`
	Period     int64     `json:"period,omitempty"`      // nanoseconds
	Data       string    `json:"encodedData,omitempty"` // JSON text in a string
	CatchUp    string    `json:"catchUp,omitempty"`
}

// An actorName is an actor inside answers.
type actorName struct {
	Type string
	ID   string
}

// setReminder serves PUT /reminders/{reminder}: 204 when it is new, else 200.
func (x *exchange) setReminder() error {
	var ask reminderAsk
	if err := x.decode(&ask, runtime.CodeBadReminder, "Request body was not a reminder"); err != nil {
		return err
	}
	r, err := ask.reminder(x.cfg.Now())
	if err != nil {
		return err
	}
	r.Actor, r.ID = x.actor(), x.names[3]
	replaced, err := x.mesh.SetReminder(x.r.Context(), x.caller, r)
	if err != nil {
		return err
	}
	return x.replaced(replaced)
}

// replaced answers a PUT as KAR 1.x does: 200 OK for replaced, 204 for new. Its
// SDK for Python takes an answer with a type for text, one without for itself.
func (x *exchange) replaced(yes bool) error {
	if yes {
		return x.text(http.StatusOK, "OK")
	}
	x.w.Header()["Content-Type"] = []string{"text/plain"}
	x.header(http.StatusNoContent)
	return nil
}

func (ask *reminderAsk) reminder(now time.Time) (runtime.Reminder, error) {
	var r runtime.Reminder
	path, ok := methodPath(ask.Path)
	if !ok {
		return r, runtime.Errorf(runtime.CodeBadReminder, "the path of a reminder must start with a slash and name a method, not %q", clip(ask.Path, 60))
	}
	r.Path = path
	due := now
	if ask.TargetTime != "" {
		t, err := time.Parse(time.RFC3339Nano, ask.TargetTime)
		if err != nil || t.UTC().Year() > 9999 {
			return r, runtime.Errorf(runtime.CodeBadReminder, "targetTime must be a time such as 2030-01-31T12:00:00Z, not %q", clip(ask.TargetTime, 60))
		}
		due = t
	}
	if due.Unix() < 0 {
		due = time.Unix(0, 0) // any past time is due at once
	}
	r.Due = due.UnixMilli()
	r.TargetNS = int64(due.Nanosecond() % int(time.Millisecond))
	if ask.Period != "" {
		d, err := time.ParseDuration(ask.Period)
		if err != nil || d < time.Millisecond || d > maxDuration {
			return r, runtime.Errorf(runtime.CodeBadReminder, "period must be a duration of at least 1ms and at most a hundred years such as 30s, not %q", clip(ask.Period, 60))
		}
		r.Period = int64(d)
	}
	if ask.CatchUp != "" && ask.CatchUp != "all" {
		return r, runtime.Errorf(runtime.CodeBadReminder, "catchUp must be absent or \"all\", not %q", clip(ask.CatchUp, 20))
	}
	r.CatchUp = ask.CatchUp == "all"
	if data := bytes.TrimSpace(ask.Data); len(data) > 0 && !bytes.Equal(data, []byte("null")) {
		r.Data = data
	}
	return r, nil
}

// methodPath checks the path of a method and escapes what a URL cannot hold.
func methodPath(path string) (string, bool) {
	if len(path) < 2 || path[0] != '/' || len(path) > maxName {
		return "", false
	}
	if !strings.ContainsAny(path, "?#") {
		if plain, err := url.PathUnescape(path); err == nil {
			return (&url.URL{Path: plain, RawPath: path}).EscapedPath(), true
		}
	}
	return (&url.URL{Path: path}).EscapedPath(), true
}

func answerReminder(r runtime.Reminder) reminderAnswer {
	a := reminderAnswer{
		Actor:      actorName{r.Actor.Type, r.Actor.ID},
		ID:         r.ID,
		Path:       r.Path,
		TargetTime: time.UnixMilli(r.Due).Add(time.Duration(r.TargetNS)).UTC(),
		Period:     r.Period,
		Data:       string(r.Data),
	}
	if r.CatchUp {
		a.CatchUp = "all"
	}
	return a
}

func (x *exchange) listReminders() error {
	list, err := x.mesh.Reminders(x.r.Context(), x.actor(), "")
	if err != nil {
		return err
	}
	out := make([]reminderAnswer, len(list))
	for i, r := range list {
		out[i] = answerReminder(r)
	}
	return x.json(http.StatusOK, out)
}

func (x *exchange) getReminder() error {
	list, err := x.mesh.Reminders(x.r.Context(), x.actor(), x.names[3])
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return x.absent("null", "application/json")
	}
	return x.json(http.StatusOK, answerReminder(list[0]))
}

// absent is KAR 1.x's answer about a binding that is not there.
func (x *exchange) absent(instead, contentType string) error {
	if x.nilOnAbsent() {
		return x.bytes(http.StatusOK, contentType, []byte(instead))
	}
	return x.empty(http.StatusNotFound)
}

func (x *exchange) cancelReminders() error {
	n, err := x.mesh.CancelReminders(x.r.Context(), x.caller, x.actor(), "", x.query("session"))
	if err != nil {
		return err
	}
	return x.count(n)
}

func (x *exchange) cancelReminder() error {
	n, err := x.mesh.CancelReminders(x.r.Context(), x.caller, x.actor(), x.names[3], x.query("session"))
	if err != nil {
		return err
	}
	if n == 0 {
		return x.absent("0", "text/plain; charset=utf-8")
	}
	return x.count(n)
}
