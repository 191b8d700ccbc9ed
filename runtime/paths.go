package runtime

import (
	"net/url"
	"slices"
	"strings"
)

// HasDotSegments tells whether an escaped path, with or without a query, holds a
// segment that some server would read as "here" or "one up". Escaped dots and
// slashes, backslashes and a parameter behind a semicolon count as well, since
// servers differ in what they unfold.
func HasDotSegments(path string) bool {
	return strings.ContainsAny(path, ".%") &&
		slices.ContainsFunc(segments(path), func(s string) bool { return s == "." || s == ".." })
}

// segments are the parts of a path as the most obliging server reads them.
func segments(path string) []string {
	path, _, _ = strings.Cut(path, "?")
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	} else { // of a tail call, whose path nobody has parsed
		path = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/").Replace(path)
	}
	list := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	for i := range list {
		list[i], _, _ = strings.Cut(list[i], ";")
	}
	return list
}

// checkPath refuses a path that could lead past the order of an actor and its
// host: from one actor to another, or from a service into the routes by which
// hosts reach actors.
func checkPath(t Target, path string, code Code) *Error {
	switch {
	case t.IsActor() && (dotsIn(t.Type) || dotsIn(t.ID)):
		return Errorf(code, "%s has a dot segment in its type or id, which some servers take for a way to another actor", describe(t))
	case t.IsActor() && HasDotSegments(path):
		return Errorf(code, "the path %q of a method of %s has a dot segment", clip(path, 80), describe(t))
	case !t.IsActor() && LeadsToActors(path):
		return Errorf(code, "the path %q of %s leads to /kar/impl, where only KAR itself calls", clip(path, 80), describe(t))
	}
	return nil
}

// dotsIn tells a type or an id that some server would read as a step in the path,
// also when its dots and slashes are escaped there.
func dotsIn(name string) bool {
	return strings.Contains(name, ".") && HasDotSegments(url.PathEscape(name))
}

// LeadsToActors tells paths that some server would read as one of the routes by
// which hosts reach actors.
func LeadsToActors(path string) bool {
	if !strings.Contains(path, "%") && !strings.Contains(path, "impl") {
		return false
	}
	var at []string
	for _, s := range segments(path) {
		switch {
		case s == ".":
		case s != "..":
			at = append(at, s)
		case len(at) > 0:
			at = at[:len(at)-1]
		}
	}
	return len(at) > 1 && at[0] == "kar" && at[1] == "impl"
}
