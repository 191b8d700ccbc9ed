package engine_test

import (
	"context"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// put puts what a store holds in place of what it has; nothing for one that was emptied.
func (s *memStore) put(entries map[string][]byte, applied uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away = false; entries == nil {
		entries = map[string][]byte{}
	}
	s.entries[0], s.applied[0] = entries, applied
}

// small has a gateway cut its log soon.
func small(c *engine.Config) { c.TrimAt = 64 << 10 }

// leaveCut leaves a partition without an owner whose log is cut behind what before does.
func leaveCut(t *testing.T, rig *meshRig, before func(*engine.Mesh)) {
	t.Helper()
	a := rig.open("a", small)
	before(a)
	fill := stateOp(runtime.StateSet, strings.Repeat("x", 4000))
	for fill.Key = "fill"; a.Stats().Trims < 2; time.Sleep(20 * time.Millisecond) {
		if _, err := a.State(within(t), fill); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	delete(rig.nodes, "a")
}

// takenWhileAway is the same partition, taken by b while the store was away; lose says
// what it holds when it is back.
func takenWhileAway(t *testing.T, rig *meshRig, before func(*engine.Mesh), lose func()) *engine.Mesh {
	t.Helper()
	leaveCut(t, rig, before)
	rig.store.mu.Lock()
	rig.store.away = true
	rig.store.mu.Unlock()
	b := rig.start("b", small)
	time.Sleep(time.Minute)
	lose()
	return b
}

func written(t *testing.T, value string) func(*engine.Mesh) {
	return func(m *engine.Mesh) {
		t.Helper()
		if _, err := m.State(within(t), stateOp(runtime.StateSet, value)); err != nil {
			t.Fatal(err)
		}
	}
}

// notEmpty: what was written is there, or the answer is an error.
func notEmpty(t *testing.T, m *engine.Mesh) {
	t.Helper()
	if r, err := m.State(within(t), stateOp(runtime.StateGet, "")); err == nil && !r.Found {
		t.Fatalf("read as empty: %+v", r)
	}
}

// A partition is taken while the store does not answer; the store comes back without what
// it held (a Redis without persistence that was restarted). Its state is not in the log any
// more, and is not read as empty before it is found out where the store is.
func TestStoreComesBackEmptyAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		b := takenWhileAway(t, rig, written(t, "1000"), func() { rig.store.put(nil, 0) })
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			notEmpty(t, b)
		}
	})
}

// The same for an Idempotency-Key, whose request has completed.
func TestKeyOfALostStoreDoesNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		var ran atomic.Int64
		serve := func(*runtime.Invoke) *runtime.Outcome {
			ran.Add(1)
			return ok(`{"value":1}`)
		}
		pay := func(m *engine.Mesh) error {
			r := call("app", "A", "1", "pay")
			r.Key = "k"
			_, err := m.Call(within(t), r)
			return err
		}
		b := takenWhileAway(t, rig, func(a *engine.Mesh) {
			attach(t, a, actorHost("h"), serve)
			if err := pay(a); err != nil {
				t.Fatal(err)
			}
		}, func() { rig.store.put(nil, 0) })
		attach(t, b, actorHost("h2"), serve)
		b.HostDown("h", "exited")
		_ = pay(b) // refused, or answered
		if n := ran.Load(); n != 1 {
			t.Errorf("the request of the key ran %d times", n)
		}
	})
}

// And for a store that is older: the value of before is not read as the last one.
func TestOldStoreIsNotReadAsTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		var saved map[string][]byte
		var upTo uint64
		b := takenWhileAway(t, rig, func(a *engine.Mesh) {
			written(t, "old")(a)
			time.Sleep(time.Second)
			rig.store.mu.Lock()
			saved, upTo = maps.Clone(rig.store.entries[0]), rig.store.applied[0]
			rig.store.mu.Unlock()
			written(t, "new")(a)
			time.Sleep(time.Second)
		}, func() { rig.store.put(saved, upTo) })
		if r, err := b.State(within(t), stateOp(runtime.StateGet, "")); err == nil && string(r.Value) != "new" {
			t.Errorf("read %q (found %v)", r.Value, r.Found)
		}
	})
}

// The store answers at the taking and is emptied within the first two seconds of the term.
func TestStoreEmptiedRightAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		leaveCut(t, rig, written(t, "v"))
		b := rig.open("b", small)
		rig.store.put(nil, 0)
		notEmpty(t, b)
	})
}

// slowApplied is long in saying where it is, as an applier is that reads a large log anew.
type slowApplied struct{ *memStore }

func (s slowApplied) Applied(ctx context.Context, p uint16) (uint64, error) {
	time.Sleep(300 * time.Millisecond)
	return s.memStore.Applied(ctx, p)
}

// The store lost its content while nobody owned the partition, and answers all the time.
func TestStoreLostWhileNobodyOwned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		leaveCut(t, rig, written(t, "v"))
		rig.store.put(nil, 0)
		notEmpty(t, rig.open("b", small, func(c *engine.Config) { c.Store = slowApplied{rig.store} }))
	})
}

// A living owner's store is emptied: the list of actors with state is not read from it, and
// is whole again when the store was brought up to date.
func TestKnownOfAnEmptiedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		a := rig.open("a", small)
		for _, id := range []string{"1", "2"} {
			op := stateOp(runtime.StateSet, "v")
			op.Actor.ID = id
			if _, err := a.State(within(t), op); err != nil {
				t.Fatal(err)
			}
		}
		for _, emptied := range []bool{false, true, false} {
			time.Sleep(time.Minute)
			if emptied {
				rig.store.put(nil, 0)
			}
			if as, err := a.Known(within(t), "app", "A"); err == nil && len(as) != 2 || err != nil && !emptied {
				t.Errorf("known are %v, %v", as, err)
			}
		}
	})
}

// The store of a living owner loses its content while nobody reads or writes state: the log
// is not cut by what the store said before, and all is rebuilt from it. Who asks for the
// health looks, too.
func TestCutBehindAnEmptiedStore(t *testing.T) {
	for _, looked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			rig := newMeshRig(t, 1)
			a := rig.open("a", small)
			attach(t, a, actorHost("h"), echo)
			tell := func() {
				r := call("app", "A", "fill", "m")
				r.Kind, r.Body = runtime.Tell, []byte(`["`+strings.Repeat("x", 2000)+`"]`)
				if _, err := a.Accept(within(t), r); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			fill := func(upTo uint64) {
				for a.Stats().Trims < upTo {
					tell()
				}
			}
			for range 20 { // some 40 of 64 KB
				tell()
			}
			written(t, "v")(a)
			fill(1)
			time.Sleep(time.Minute)
			rig.store.put(nil, 0)
			time.Sleep(time.Hour)
			if looked {
				if err := a.Healthy(within(t)); err != nil {
					t.Fatal(err)
				}
			}
			fill(6)
			time.Sleep(time.Minute)
			for range 2 {
				r, err := a.State(within(t), stateOp(runtime.StateGet, ""))
				if string(r.Value) != "v" {
					t.Errorf("%q %v: it was in the log when the store lost it", r.Value, err)
				}
				time.Sleep(time.Minute)
			}
		})
	}
}
