package host

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// An app is the HTTP client towards the application. Two exist: one for
// HTTP/1.1 that knows what a broken connection means, and one for h2c over the
// connections of net/http.
type app interface {
	// do sends one request so that it is processed once at most. A nil error means
	// that the answer is complete. An error that is errNotSent means that nothing
	// was sent; any other leaves open what the app did.
	do(ctx context.Context, r *appRequest) (*runtime.Outcome, error)
	close()
}

type appRequest struct {
	method string
	path   string // escaped, with query
	header runtime.Header
	// kind is the Content-Type when header has none; "" for none.
	kind string
	body []byte
	// actor is nil for a service; redirects do not leave its path.
	actor *runtime.Actor
	// limit of the answer's body in bytes.
	limit int
}

var errNotSent = errors.New("the app does not listen")

const maxRedirects = 10

// follow sends r and follows redirects to the app itself, as KAR 1.x did, but
// not to where only KAR may call: another actor, or any from a service. Any other
// redirect is an answer.
func follow(ctx context.Context, a app, base *url.URL, r *appRequest) (*runtime.Outcome, error) {
	for n := 0; ; n++ {
		o, err := a.do(ctx, r)
		if err != nil || n == maxRedirects {
			return o, err
		}
		next, ok := redirect(base, r, o)
		if !ok {
			return o, nil
		}
		r = next
	}
}

func redirect(base *url.URL, r *appRequest, o *runtime.Outcome) (*appRequest, bool) {
	location := o.Header.Get("Location")
	if location == "" {
		return nil, false
	}
	next := *r
	switch o.Status {
	case 301, 302, 303:
		if r.method != "GET" && r.method != "HEAD" {
			next.method, next.body, next.kind = "GET", nil, ""
			next.header = make(runtime.Header, len(r.header))
			for k, v := range r.header {
				if k != "Content-Type" && k != "Content-Encoding" {
					next.header[k] = v
				}
			}
		}
	case 307, 308:
	default:
		return nil, false
	}
	here, err := url.Parse(r.path)
	if err != nil {
		return nil, false
	}
	here.Scheme, here.Host = base.Scheme, base.Host
	to, err := here.Parse(location)
	if err != nil || !same(base, to) {
		return nil, false
	}
	next.path = to.EscapedPath()
	if next.path == "" {
		next.path = "/"
	}
	if !r.may(next.path) {
		return nil, false
	}
	if to.RawQuery != "" {
		next.path += "?" + to.RawQuery
	}
	return &next, true
}

// may tells whether a redirect of r to a path of the app is to be followed.
func (r *appRequest) may(path string) bool {
	if r.actor == nil {
		return !runtime.LeadsToActors(path)
	}
	rest, inside := strings.CutPrefix(path, actorPath(*r.actor))
	return inside && (rest == "" || rest[0] == '/') && !runtime.HasDotSegments(rest)
}

// same tells whether u is the app: the same port of this machine, by any name.
func same(base, u *url.URL) bool {
	if u.Scheme != base.Scheme {
		return false
	}
	if strings.EqualFold(u.Host, base.Host) {
		return true
	}
	return u.Port() == base.Port() && loopback(u.Hostname()) && loopback(base.Hostname())
}

func loopback(host string) bool {
	return strings.EqualFold(host, "localhost") || host == "127.0.0.1" || host == "::1"
}

// badRequest tells requests that cannot be put on the wire.
func (r *appRequest) badRequest() *runtime.Error {
	if r.path == "" || r.path[0] != '/' {
		return runtime.Errorf(runtime.CodeBadRequest, "the path %q does not start with a slash", r.path)
	}
	for i := range len(r.path) {
		if c := r.path[i]; c <= ' ' || c == 0x7f {
			return runtime.Errorf(runtime.CodeBadRequest, "the path %q contains a character that must be escaped", r.path)
		}
	}
	if r.method == "" || !isToken(r.method) {
		return runtime.Errorf(runtime.CodeBadRequest, "%q is not an HTTP method", r.method)
	}
	return nil
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}
