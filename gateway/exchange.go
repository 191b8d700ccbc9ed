package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// An exchange is one HTTP request and its answer. Handlers return an error or
// have written an answer, never both.
type exchange struct {
	*Gateway
	w      http.ResponseWriter
	r      *http.Request
	route  *route // nil when no route matched
	names  names
	caller runtime.Caller
	status int // 0 until the answer's header is written
}

func (x *exchange) routeName() string {
	if x.route == nil {
		return "none"
	}
	return x.route.name
}

// app is the first name of every route of an app.
func (x *exchange) app() string { return x.names[0] }

// actor is the actor of the routes below /actor/{type}/{id}.
func (x *exchange) actor() runtime.Actor {
	return runtime.Actor{App: x.names[0], Type: x.names[1], ID: x.names[2]}
}

// header writes the status line; everything that is answered goes through it.
func (x *exchange) header(status int) {
	x.w.WriteHeader(status) // panics at a status that there is not
	x.status = status
}

// empty answers without a body and without a Content-Type.
func (x *exchange) empty(status int) error {
	h := x.w.Header()
	h["Content-Type"] = nil
	if status != http.StatusNoContent {
		h.Set("Content-Length", "0")
	}
	x.header(status)
	return nil
}

// bytes answers with a body.
func (x *exchange) bytes(status int, contentType string, body []byte) error {
	h := x.w.Header()
	h["Content-Type"] = []string{contentType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.header(status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body) // a client that has gone is not an error
	}
	return nil
}

// text answers in plain text, as KAR 1.x does for short answers.
func (x *exchange) text(status int, body string) error {
	return x.bytes(status, "text/plain; charset=utf-8", []byte(body))
}

// count answers with a number in plain text.
func (x *exchange) count(n int) error { return x.text(http.StatusOK, strconv.Itoa(n)) }

// json answers with v as JSON.
func (x *exchange) json(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return runtime.Errorf(runtime.CodeInternal, "the answer cannot be written as JSON: %v", err)
	}
	return x.bytes(status, "application/json", body)
}

// firstRead is how much is set aside for a body before any of it has arrived.
const firstRead = 64 << 10

// body reads the request body, of any content type, up to the body limit.
func (x *exchange) body() ([]byte, error) {
	size := x.r.ContentLength
	if size > x.cfg.BodyLimit {
		return nil, x.tooLarge()
	}
	if size == 0 {
		return nil, nil
	}
	if size > 0 && size <= firstRead {
		buf := make([]byte, size)
		if _, err := io.ReadFull(x.r.Body, buf); err != nil {
			return nil, cutBody(err)
		}
		return buf, nil
	}
	buf, err := io.ReadAll(io.LimitReader(x.r.Body, x.cfg.BodyLimit+1))
	if err != nil {
		return nil, cutBody(err)
	}
	if int64(len(buf)) > x.cfg.BodyLimit {
		return nil, x.tooLarge()
	}
	return buf, nil
}

func (x *exchange) tooLarge() error {
	if x.r.ProtoMajor == 1 {
		x.w.Header().Set("Connection", "close") // the rest of the body is not read
	}
	return runtime.Errorf(runtime.CodeTooLarge, "the body is larger than the limit of %d bytes", x.cfg.BodyLimit)
}

func cutBody(err error) error {
	return runtime.Errorf(runtime.CodeBadRequest, "the body ended before it was complete: %v", err)
}

// decode reads a JSON body into v. The error has the given code and starts with what.
func (x *exchange) decode(v any, code runtime.Code, what string) error {
	body, err := x.body()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return runtime.Errorf(code, "%s: %s", what, jsonFault(err))
	}
	return nil
}

func jsonFault(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return err.Error() + " at byte " + strconv.FormatInt(syntax.Offset, 10)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) { // Go's text names types of ours
		what := "the body"
		if kind.Field != "" {
			what = kind.Field
		}
		return what + " must not be of the kind " + kind.Value
	}
	return err.Error()
}

// query is the first value of a query parameter.
func (x *exchange) query(name string) string { return queryValue(x.r.URL.RawQuery, name) }

// nilOnAbsent is KAR 1.x's wish for 200 instead of 404.
func (x *exchange) nilOnAbsent() bool { return x.query("nilOnAbsent") == "true" }

// accepts tells whether the Accept header names a media type.
func (x *exchange) accepts(mediaType string) bool {
	for _, line := range x.r.Header["Accept"] {
		for item := range strings.SplitSeq(line, ",") {
			kind, _, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(kind), mediaType) {
				return true
			}
		}
	}
	return false
}
