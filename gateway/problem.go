package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// A problem is an error as RFC 9457 writes it, with KAR's additions.
type problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	Hint      string       `json:"hint"`
	Code      runtime.Code `json:"code"`
	RequestID string       `json:"requestId,omitempty"`
}

// fail is the one place where an error becomes HTTP.
func (x *exchange) fail(err error) { x.failWith(err, 0) }

func (x *exchange) failWith(err error, status int) {
	e := x.asError(err)
	if status == 0 {
		status = e.Code.Status()
	}
	h := x.w.Header()
	h["Kar-Error"] = []string{string(e.Code)}
	if !e.ID.IsZero() {
		h["Kar-Request-Id"] = []string{e.ID.String()}
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h["Retry-After"] = []string{"1"}
	}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	if (x.route != nil && !x.route.kar1) || x.accepts("application/problem+json") {
		_ = x.bytes(status, "application/problem+json", problemBody(e, status))
		return
	}
	_ = x.text(status, e.Detail+"\n"+e.Code.Hint()+"\n")
}

func problemBody(e *runtime.Error, status int) []byte {
	p := problem{
		Type:   "docs/errors/" + string(e.Code) + ".md",
		Title:  strings.ReplaceAll(string(e.Code), "_", " "),
		Status: status,
		Detail: e.Detail,
		Hint:   e.Code.Hint(),
		Code:   e.Code,
	}
	if !e.ID.IsZero() {
		p.RequestID = e.ID.String()
	}
	body, err := json.Marshal(p)
	if err != nil { // strings and a number: cannot happen
		return []byte("{}")
	}
	return body
}

// asError gives every error a code. What has none is a defect and is logged.
func (x *exchange) asError(err error) *runtime.Error {
	var e *runtime.Error
	switch {
	case errors.As(err, &e):
		if e.Code == runtime.CodeInternal {
			x.logFailure(err)
		}
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return runtime.Errorf(runtime.CodeUnknownOutcome, "the connection or the gateway ended before the answer was there")
	}
	x.logFailure(err)
	return runtime.Errorf(runtime.CodeInternal, "%v", err)
}

func (x *exchange) logFailure(err error) {
	x.cfg.Logger.Error("request failed", "method", x.r.Method, "route", x.routeName(), "error", err)
}

// Refuse answers a request in the way of the API that never reaches it: what
// stands before the gateway calls it, or a handler beside it.
func (g *Gateway) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	x := &exchange{Gateway: g, w: w, r: r}
	x.route, _ = g.router.match(r.URL.EscapedPath(), &x.names) // for the form of the answer alone
	x.fail(err)
	g.metrics.observe(x.route, x.status, 0)
}

// withID says which request an error is about.
func withID(err error, id runtime.ID) error {
	if id.IsZero() {
		return err
	}
	var e *runtime.Error
	if errors.As(err, &e) {
		if e.ID.IsZero() {
			named := *e
			named.ID = id
			return &named
		}
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		e = runtime.Errorf(runtime.CodeUnknownOutcome, "the connection or the gateway ended before the answer was there")
		e.ID = id
		return e
	}
	return err
}
