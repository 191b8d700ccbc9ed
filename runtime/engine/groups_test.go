package engine_test

import (
	"fmt"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// The list of groups is whole, however many pages it takes.
func TestGroupsInPages(t *testing.T) {
	r := newMeshRig(t, 2)
	m := r.open("a")
	const n = 2500
	for i := range n {
		a := runtime.Actor{App: "app", Type: "A", ID: fmt.Sprint(i)}
		if _, err := m.Subscribe(within(t), runtime.Caller{App: "app"}, runtime.Subscription{Actor: a, ID: "s", Path: "/x", Topic: "t"}); err != nil {
			t.Fatal(err)
		}
	}
	gs, _ := m.Groups()
	keys := map[string]bool{}
	for _, g := range gs {
		keys[g.Key] = true
	}
	if len(gs) != n || len(keys) != n {
		t.Errorf("%d groups are listed, %d of them once, of %d", len(gs), len(keys), n)
	}
}
