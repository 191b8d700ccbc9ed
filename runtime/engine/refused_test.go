package engine_test

import (
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A refused connection does not prove that a gateway is dead: its partitions are
// taken at once, and it may answer reads for as long as it may believe to be the
// owner. Who takes over answers nobody before that has passed.
func TestRefusedIsNotDead(t *testing.T) {
	r := newMeshRig(t, 16)
	r.lease = 3 * time.Second // an owner believes in itself for half a second
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	var of uint16 // of a
	for p, owner := range a.Owners() {
		if owner == "a" {
			of = uint16(p)
		}
	}
	act := runtime.Actor{App: "app", Type: "A", ID: r.actorIn(of)}
	if _, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	r.net.sever("a", "b", true)
	b.PeerDown("a", true)
	began := time.Now()
	if _, err := b.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("new")}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	r.net.sever("a", "b", false)
	s, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateGet, Key: "k"})
	if err != nil || string(s.Value) != "new" {
		t.Errorf("read %q, %v, at the owner before", s.Value, err)
	}
	if took > 5*r.lease/6 {
		t.Errorf("the take-over began late: %v", took)
	}
}
