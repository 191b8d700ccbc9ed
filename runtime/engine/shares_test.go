package engine_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestFiguresOfAMesh: who owns what, who asks whom, and how store and log are.
func TestFiguresOfAMesh(t *testing.T) {
	r := newMeshRig(t, 16)
	a := r.open("a")
	eventually(t, "one has all", func() bool {
		s := a.Stats()
		return s.Owned == 16 && s.TakenOver == 16 && s.Gateways == 1 && s.Unowned == 0 && s.ReachesBack > 0
	})
	b := r.open("b")
	spread(t, a, b)
	eventually(t, "what one gave the other has", func() bool {
		x, y := a.Stats(), b.Stats()
		return x.Owned+y.Owned == 16 && x.Given == y.HandedOver && int(x.Given) == y.Owned && y.TakeSeconds > 0 && x.Gateways == 2 && x.Listed == 2
	})
	for _, g := range a.Members() {
		if want := owners(a)[g.Node]; !g.Alive || g.Partitions != want || g.This != (g.Node == "a") || g.Address != "http://"+g.Node {
			t.Errorf("%+v, want %d partitions", g, want)
		}
	}

	attach(t, a, actorHost("h1"), func(i *runtime.Invoke) *runtime.Outcome { return ok(i.Target.ID) })
	for i := range 40 {
		if _, err := a.Call(within(t), call("app", "A", strconv.Itoa(i), "m")); err != nil {
			t.Fatal(err)
		}
	}
	x, y := a.Stats(), b.Stats()
	if x.Forwarded == 0 || y.Served == 0 || x.Accepted+y.Accepted != 40 || y.Accepted == 0 {
		t.Fatalf("forwarded %d, served %d, accepted %d and %d", x.Forwarded, y.Served, x.Accepted, y.Accepted)
	}

	// The store is away: what it lacks is known, and made good.
	away := func(is bool) { r.store.mu.Lock(); r.store.away = is; r.store.mu.Unlock() }
	away(true)
	promise := call("app", "A", "1", "m")
	promise.Kind = runtime.Promise
	if _, err := a.Accept(within(t), promise); err != nil {
		t.Fatal(err)
	}
	lag := func() (n uint64) { return a.Stats().StoreLag + b.Stats().StoreLag }
	eventually(t, "the store is behind", func() bool { return lag() > 0 && a.Stats().StoreWaits+b.Stats().StoreWaits > 0 })
	away(false)
	eventually(t, "the store has it", func() bool { return lag() == 0 })

	// b dies: its partitions are taken over, and a's counters do not fall.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "b")
	eventually(t, "a has everything", func() bool { s := a.Stats(); return s.Owned == 16 && int(s.TakenOver) == 16+y.Owned })
	if s := a.Stats(); s.Accepted != x.Accepted || s.Completed != x.Completed {
		t.Errorf("reading a log counted as doing: accepted %d, was %d; completed %d, was %d", s.Accepted, x.Accepted, s.Completed, x.Completed)
	}

	// The log does not answer.
	fault := func(f func(string, bool) error) {
		for _, l := range r.logs {
			l.mu.Lock()
			l.fault = f
			l.mu.Unlock()
		}
	}
	fault(func(string, bool) error { return &runtime.UnknownError{Cause: errors.New("of the test")} })
	done := make(chan error, 1)
	go func() {
		_, err := a.Call(within(t), call("app", "A", "1", "m"))
		done <- err
	}()
	eventually(t, "an append waits", func() bool { s := a.Stats(); return s.UnknownAppends > 1 && s.AppendWaits > 0 })
	fault(nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
	eventually(t, "none waits", func() bool { return a.Stats().AppendWaits == 0 })
}
