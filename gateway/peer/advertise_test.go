package peer

import (
	"strings"
	"testing"

	kar "github.com/karmesh/kar/runtime"
)

// TestWrongAdvertise: an address that leads to another gateway is said to be one, and
// that it is wrong as soon as its gateway is seen to live; not that this has ended.
func TestWrongAdvertise(t *testing.T) {
	leaks(t)
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	c.Connect([]kar.Member{a.member()})
	wrong := b.member()
	wrong.Node = "c"
	a.Connect([]kar.Member{wrong})
	eventually(t, "it is said", func() bool {
		e := a.logged()
		return strings.Contains(e, "leads to the gateway b, though it lives") && strings.Contains(e, "--advertise") && strings.Contains(e, wrong.Address)
	})
	if e := a.logged(); strings.Contains(e, "has ended") {
		t.Error(e)
	}
}
