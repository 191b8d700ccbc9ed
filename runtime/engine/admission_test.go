package engine_test

import (
	"errors"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// refusedBeside opens a gateway that does not fit beside one that owns all.
func refusedBeside(t *testing.T, want runtime.Code, tune func(r *meshRig) func(*engine.Config)) {
	t.Helper()
	r := newMeshRig(t, 8)
	a := r.open("a")
	before := r.epochs(t)
	b := r.start("b", tune(r))
	eventually(t, "it is refused", func() bool { return b.Refused() != nil })
	var e *runtime.Error
	if !errors.As(b.Refused(), &e) || e.Code != want {
		t.Errorf("it is refused with %v", b.Refused())
	}
	r.calm(t, a)
	if moves := r.epochs(t) - before; moves > 0 || owners(a)["a"] != 8 || a.Refused() != nil {
		t.Errorf("%d partitions moved; a sees the owners %v, and is refused with %v", moves, owners(a), a.Refused())
	}
	if err := b.Settled(within(t)); err != nil && want != e.Code {
		t.Error(err)
	}
}

func longer(c *engine.Config) { c.Lease *= 20 }

// TestAnotherLease: an owner with a longer lease would answer for longer than the
// next one waits.
func TestAnotherLease(t *testing.T) {
	refusedBeside(t, runtime.CodeBadConfig, func(*meshRig) func(*engine.Config) { return longer })
}

// TestAnotherLeaseWithoutTheList: the two meet by a claim.
func TestAnotherLeaseWithoutTheList(t *testing.T) {
	refusedBeside(t, runtime.CodeBadConfig, func(r *meshRig) func(*engine.Config) {
		list := &cutMembers{Members: r.members}
		list.cut.Store(true)
		return func(c *engine.Config) { longer(c); withMembers(list)(c) }
	})
}

// TestAnotherGatewayLease: one would hold for gone who is alive for the other.
func TestAnotherGatewayLease(t *testing.T) {
	refusedBeside(t, runtime.CodeBadConfig, func(*meshRig) func(*engine.Config) {
		return func(c *engine.Config) { c.Shared.Lease *= 2 }
	})
}

// TestAnotherStore: each has a list in which the other is not.
func TestAnotherStore(t *testing.T) {
	refusedBeside(t, runtime.CodeForeign, func(r *meshRig) func(*engine.Config) {
		return withMembers(&memMembers{s: r.store, list: map[string]memMember{}})
	})
}

// TestTwoLeasesAtOnce: of two that come together one goes on.
func TestTwoLeasesAtOnce(t *testing.T) {
	r := newMeshRig(t, 8)
	x, y := r.start("x", longer), r.start("y")
	eventually(t, "one is refused", func() bool { return (x.Refused() == nil) != (y.Refused() == nil) })
	time.Sleep(time.Second)
	if x.Refused() != nil && y.Refused() != nil {
		t.Errorf("both are refused: %v, %v", x.Refused(), y.Refused())
	}
}

// TestEmptiedList: the store has lost the list of two gateways; both are in it again soon.
func TestEmptiedList(t *testing.T) {
	r := newMeshRig(t, 8)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	for range 5 {
		r.members.mu.Lock()
		clear(r.members.list)
		r.members.mu.Unlock()
		time.Sleep(150 * time.Millisecond)
	}
	d := r.open("d")
	spread(t, a, b, d)
	if a.Refused() != nil || b.Refused() != nil || d.Refused() != nil {
		t.Errorf("%v, %v, %v", a.Refused(), b.Refused(), d.Refused())
	}
}
