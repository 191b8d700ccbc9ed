package gateway

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// callService serves /service/{service}/call/{path*}.
func (x *exchange) callService() error {
	q := &runtime.Request{
		Target: runtime.Target{App: x.app(), Service: x.names[1]},
		Method: x.r.Method,
		Path:   "/" + x.names[2],
		Header: forwarded(x.r.Header),
	}
	if x.r.URL.RawQuery != "" {
		q.Path += "?" + x.r.URL.RawQuery
	}
	return x.submit(q)
}

// callActor serves /actor/{type}/{id}/call/{path*}. Of the query only the
// session has a meaning; the app gets a session of its own.
func (x *exchange) callActor() error {
	q := &runtime.Request{
		Target: runtime.Target{App: x.app(), Type: x.names[1], ID: x.names[2]},
		Method: http.MethodPost,
		Path:   "/" + x.names[3],
	}
	q.Session = x.query("session")
	return x.submit(q)
}

// removeActor serves DELETE /actor/{type}/{id}.
func (x *exchange) removeActor() error {
	q := &runtime.Request{
		Kind:   runtime.Remove,
		Target: runtime.Target{App: x.app(), Type: x.names[1], ID: x.names[2]},
		Method: http.MethodDelete,
		Path:   "/",
	}
	if err := x.limits(q); err != nil {
		return err
	}
	return x.accept(q)
}

// submit reads what calls, tells and promises have in common and runs the request.
func (x *exchange) submit(q *runtime.Request) error {
	q.Kind = kindOf(x.r.Header["Pragma"])
	if err := x.limits(q); err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	q.Body = body
	if q.Kind != runtime.Call {
		return x.accept(q)
	}
	q.ID, q.Boot = x.caller.ID, x.caller.Boot
	ctx := x.r.Context()
	if q.Key != "" && q.Deadline != 0 { // the key may be that of another request, with another limit or none
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.UnixMilli(q.Deadline).Sub(x.cfg.Now())+keyPatience)
		defer stop()
	}
	out, err := x.mesh.Call(ctx, q)
	if err != nil && ctx.Err() != nil && x.r.Context().Err() == nil {
		return &runtime.Error{Code: runtime.CodeDeadline, Detail: "the request that has this Idempotency-Key did not complete within Kar-Timeout", ID: q.ID}
	}
	if err != nil {
		return withID(err, q.ID)
	}
	x.relay(out, q.ID)
	if q.Boot == "" && q.Key == "" {
		x.mesh.Release(q.Target.App, q.ID) // a host's own stream releases when its sidecar has the answer
	}
	return nil
}

// keyPatience is how much longer than Kar-Timeout the owner of a key is waited for: its
// own answer says more.
const keyPatience = 250 * time.Millisecond

// accept hands over what nobody waits for.
func (x *exchange) accept(q *runtime.Request) error {
	q.ID, q.Boot = x.caller.ID, x.caller.Boot
	id, err := x.mesh.Accept(x.r.Context(), q)
	if err != nil {
		return withID(err, q.ID)
	}
	name := id.String()
	x.w.Header()["Kar-Request-Id"] = []string{name}
	if q.Kind == runtime.Promise {
		return x.text(http.StatusAccepted, name)
	}
	return x.text(http.StatusAccepted, "OK")
}

// kindOf reads Pragma as KAR 1.x does, and also inside a list.
func kindOf(pragma []string) runtime.Kind {
	for _, line := range pragma {
		for item := range strings.SplitSeq(line, ",") {
			switch item = strings.TrimSpace(item); {
			case strings.EqualFold(item, "async"):
				return runtime.Tell
			case strings.EqualFold(item, "promise"):
				return runtime.Promise
			}
		}
	}
	return runtime.Call
}

// relay answers with the outcome of a request: status, header and body as the
// app gave them, or KAR's own error.
func (x *exchange) relay(out *runtime.Outcome, id runtime.ID) {
	switch {
	case out == nil: // a defect, but the caller must not take it for an end
		x.fail(&runtime.Error{Code: runtime.CodeUnknownOutcome, Detail: "the request was accepted, and its outcome did not come with the answer", ID: id})
		return
	case out.Code != "":
		detail, status := strings.TrimRight(string(out.Body), "\n"), out.Status
		if !final(status) {
			status = 0
		}
		x.failWith(&runtime.Error{Code: out.Code, Detail: detail, ID: id}, status)
		return
	case !final(out.Status):
		x.fail(&runtime.Error{Code: runtime.CodeBadAnswer, Detail: "the component answered with status " + strconv.Itoa(out.Status), ID: id})
		return
	}
	h := x.w.Header()
	h["Content-Type"] = nil // nothing is guessed when the app gave none
	for name, values := range out.Header {
		name, ok := runtime.FieldName(name)
		if !ok || !passes(name) {
			continue
		}
		if before := h[name]; before != nil {
			values = slices.Concat(before, values)
		}
		h[name] = values
	}
	h["Kar-Request-Id"] = []string{id.String()}
	switch {
	case out.Status == http.StatusNoContent:
		h["Content-Type"] = nil
		x.header(out.Status)
	case x.r.Method == http.MethodHead || out.Status == http.StatusNotModified:
		if size := out.Header.Get("Content-Length"); size != "" {
			h["Content-Length"] = []string{size}
		}
		x.header(out.Status)
	default:
		h["Content-Length"] = []string{strconv.Itoa(len(out.Body))}
		x.header(out.Status)
		_, _ = x.w.Write(out.Body) // a client that has gone is not an error
	}
}

// final tells whether an answer may have this status: the first digit says what
// it means, and of 1xx another one follows.
func final(status int) bool { return status >= 200 && status < 600 }

// forwarded is what a service gets of the caller's header: all of it but the
// fields of this connection and those that speak to KAR.
func forwarded(h http.Header) runtime.Header {
	out := make(runtime.Header, len(h))
	for name, values := range h {
		if passes(name) && name != "Expect" {
			out[name] = values
		}
	}
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(out, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	return out
}

// passes tells whether a field, by its canonical name, goes through KAR from one
// end to the other.
func passes(name string) bool {
	return !runtime.HopByHop(name) && !runtime.ReservedField(name) && name != "Content-Length"
}
