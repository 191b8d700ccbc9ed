package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// maxName is the longest app, type, id, key or other name in bytes, unescaped.
const maxName = 4096

// maxNames is how many {names} a route may have.
const maxNames = 5

// names are the values of the {names} of a route in their order, unescaped;
// the value of a final {name*} is the rest of the path, still escaped.
type names [maxNames]string

// A route is one path of the API with a handler for each of its methods.
type route struct {
	pattern string // as in the API document, e.g. /kar/v1/actor/{type}/{id}
	name    string // class of requests in metrics
	// kar1 routes existed in KAR 1.x: errors are plain text unless problem JSON is asked for.
	kar1 bool
	// open routes are for everybody. Of the others those below an app's path are
	// for callers of that app, the rest for those who may act for all.
	open    bool
	methods []method
	allow   string // value of the Allow header
}

type method struct {
	verb   string
	handle func(*exchange) error
}

func (r *route) handler(verb string) func(*exchange) error {
	for i := range r.methods {
		if r.methods[i].verb == verb {
			return r.methods[i].handle
		}
	}
	return nil
}

// A router is a tree of path segments. It works on escaped paths, so that an
// id may hold a slash, a question mark or a percent sign.
type router struct{ root *node }

type node struct {
	fixed map[string]*node
	name  *node // any one segment
	rest  *route
	route *route
}

func newRouter(routes []*route) *router {
	rt := &router{root: &node{}}
	for _, r := range routes {
		rt.add(r)
	}
	return rt
}

func (rt *router) add(r *route) {
	verbs := make([]string, len(r.methods))
	for i, m := range r.methods {
		verbs[i] = m.verb
	}
	r.allow = strings.Join(verbs, ", ")
	n := rt.root
	for _, segment := range strings.Split(r.pattern[1:], "/") {
		switch {
		case strings.HasSuffix(segment, "*}"):
			n.rest = r
			return
		case strings.HasPrefix(segment, "{"):
			if n.name == nil {
				n.name = &node{}
			}
			n = n.name
		default:
			if n.fixed == nil {
				n.fixed = map[string]*node{}
			}
			if n.fixed[segment] == nil {
				n.fixed[segment] = &node{}
			}
			n = n.fixed[segment]
		}
	}
	n.route = r
}

// match finds the route of an escaped path and fills in the names. A slash at
// the end is ignored, except in the free part of a call. A fixed segment wins
// over a name; no two routes of the API differ in that alone.
func (rt *router) match(escaped string, into *names) (*route, error) {
	n, count, path := rt.root, 0, strings.TrimPrefix(escaped, "/")
	for path != "" {
		if n.rest != nil {
			break
		}
		segment, rest, slash := strings.Cut(path, "/")
		next := n.fixed[segment]
		if next == nil {
			if next = n.name; next == nil {
				return nil, noRoute()
			}
			value, err := unescapeName(segment)
			if err != nil {
				return nil, err
			}
			into[count] = value
			count++
		}
		n, path = next, rest
		if slash && rest == "" && n.rest == nil {
			break
		}
	}
	if n.rest != nil {
		into[count] = path
		return n.rest, nil
	}
	if n.route == nil {
		return nil, noRoute()
	}
	return n.route, nil
}

func noRoute() error {
	return runtime.Errorf(runtime.CodeNotFound, "there is nothing at this path; the API document is at /kar/openapi.json")
}

func unescapeName(segment string) (string, error) {
	value, err := url.PathUnescape(segment)
	switch {
	case err != nil:
		return "", runtime.Errorf(runtime.CodeBadRequest, "a percent sign in the path is not followed by two hexadecimal digits")
	case value == "":
		return "", runtime.Errorf(runtime.CodeBadRequest, "the path has an empty segment where a name is needed")
	case len(value) > maxName:
		return "", runtime.Errorf(runtime.CodeBadRequest, "a name in the path has %d bytes; the limit is %d", len(value), maxName)
	}
	return value, nil
}

// queryValue is the first value of a parameter in a raw query, without regard to the body.
func queryValue(raw, name string) string {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, val, _ := strings.Cut(pair, "=")
		if key != name {
			continue
		}
		if v, err := url.QueryUnescape(val); err == nil {
			val = v
		}
		return val
	}
	return ""
}

// allVerbs are the methods that a service may be called with.
func allVerbs(h func(*exchange) error) []method {
	verbs := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}
	methods := make([]method, len(verbs))
	for i, v := range verbs {
		methods[i] = method{v, h}
	}
	return methods
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
