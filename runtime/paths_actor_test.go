package runtime

import "testing"

// TestActorsOfDots: an id or a type that some server reads as a step in the path is
// refused; dots and slashes in others are as good as any byte.
func TestActorsOfDots(t *testing.T) {
	for id, fine := range map[string]bool{
		"a": true, "a.b": true, "...": true, "a/b": true, ".hidden": true, "a..b": true, "a/...": true, "%2e": true, "": true,
		".": false, "..": false, "../b": false, "a/../b": false, "a/.": false, "..\\b": false, "..;x": false, "/..": false,
	} {
		for _, x := range []Target{{App: "a", Type: "T", ID: id}, {App: "a", Type: id, ID: "x"}} {
			if x.Type == "" {
				continue
			}
			if e := checkPath(x, "/m", CodeBadRequest); (e == nil) != fine {
				t.Errorf("%q/%q: %v", x.Type, x.ID, e)
			}
		}
	}
}
