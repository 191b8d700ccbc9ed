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

// A partition is taken while the store does not answer; the store comes back without what
// it held (a Redis without persistence that was restarted). Its state is not in the log any
// more. Until the applier has asked the store where it is, reads are told that there is
// nothing: a lost store is read as empty (P10), and writes are decided by that.
func TestStoreComesBackEmptyAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		small := func(c *engine.Config) { c.TrimAt, c.Store = 64<<10, rig.store }
		a := rig.open("a", small)
		actor := runtime.Actor{App: "app", Type: "A", ID: "1"}
		set := func(m *engine.Mesh, k, v string) (runtime.StateResult, error) {
			return m.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: k, Value: []byte(v)})
		}
		if _, err := set(a, "money", "1000"); err != nil {
			t.Fatal(err)
		}
		for a.Stats().Trims < 2 {
			if _, err := set(a, "fill", strings.Repeat("x", 4000)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if r, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateGet, Key: "money"}); err != nil || !r.Found {
			t.Fatal(r, err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		delete(rig.nodes, "a")
		rig.store.mu.Lock()
		rig.store.away = true
		rig.store.mu.Unlock()
		b := rig.start("b", small)
		time.Sleep(time.Minute)
		rig.store.mu.Lock()
		rig.store.away = false
		rig.store.entries[0], rig.store.applied[0] = map[string][]byte{}, 0
		rig.store.mu.Unlock()
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			r, err := b.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateGet, Key: "money"})
			if err == nil && !r.Found {
				t.Fatalf("a read is told that there is nothing: %+v", r)
			}
		}
	})
}

// cutAndComeBack leaves a partition whose log is cut, taken by b while the store was away.
func cutAndComeBack(t *testing.T, rig *meshRig, before func(a *engine.Mesh), lost func()) *engine.Mesh {
	small := func(c *engine.Config) { c.TrimAt, c.Store = 64<<10, rig.store }
	a := rig.open("a", small)
	before(a)
	for a.Stats().Trims < 2 {
		if _, err := a.State(within(t), runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "1"}, Verb: runtime.StateSet, Key: "fill", Value: []byte(strings.Repeat("x", 4000))}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	delete(rig.nodes, "a")
	rig.store.mu.Lock()
	rig.store.away = true
	rig.store.mu.Unlock()
	b := rig.start("b", small)
	time.Sleep(time.Minute)
	rig.store.mu.Lock()
	rig.store.away = false
	lost()
	rig.store.mu.Unlock()
	return b
}

// The same for an Idempotency-Key: its request has completed, and is run again.
func TestKeyOfALostStoreDoesNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		var ran atomic.Int64
		serve := func(in *runtime.Invoke) *runtime.Outcome {
			ran.Add(1)
			return ok(`{"value":1}`)
		}
		keyed := func() *runtime.Request {
			r := call("app", "A", "1", "pay")
			r.Key = "k"
			return r
		}
		b := cutAndComeBack(t, rig, func(a *engine.Mesh) {
			attach(t, a, actorHost("h"), serve)
			if _, err := a.Call(within(t), keyed()); err != nil {
				t.Fatal(err)
			}
		}, func() { rig.store.entries[0], rig.store.applied[0] = map[string][]byte{}, 0 })
		attach(t, b, actorHost("h2"), serve)
		b.HostDown("h", "exited")
		_, _ = b.Call(within(t), keyed())
		if n := ran.Load(); n != 1 {
			t.Errorf("the request of the key ran %d times", n)
		}
	})
}

// And for a store that is older: the value of before is read as the last one.
func TestOldStoreIsNotReadAsTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		actor := runtime.Actor{App: "app", Type: "A", ID: "1"}
		var saved map[string][]byte
		var upTo uint64
		b := cutAndComeBack(t, rig, func(a *engine.Mesh) {
			for _, v := range []string{"old", "new"} {
				if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "k", Value: []byte(v)}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				rig.store.mu.Lock()
				if v == "old" {
					saved, upTo = maps.Clone(rig.store.entries[0]), rig.store.applied[0]
				}
				rig.store.mu.Unlock()
			}
		}, func() { rig.store.entries[0], rig.store.applied[0] = saved, upTo })
		r, err := b.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateGet, Key: "k"})
		if err == nil && string(r.Value) != "new" {
			t.Errorf("read %q (found %v)", r.Value, r.Found)
		}
	})
}

// The store answers at the taking and is emptied within the first two seconds of the term.
func TestStoreEmptiedRightAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		small := func(c *engine.Config) { c.TrimAt, c.Store = 64<<10, rig.store }
		actor := runtime.Actor{App: "app", Type: "A", ID: "1"}
		a := rig.open("a", small)
		if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		for a.Stats().Trims < 2 {
			if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "fill", Value: []byte(strings.Repeat("x", 4000))}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		delete(rig.nodes, "a")
		b := rig.open("b", small)
		rig.store.mu.Lock()
		rig.store.entries[0], rig.store.applied[0] = map[string][]byte{}, 0
		rig.store.mu.Unlock()
		r, err := b.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateGet, Key: "k"})
		if err == nil && !r.Found {
			t.Errorf("read as empty: %+v", r)
		}
	})
}

// A living owner's store is emptied: the list of actors with state is read from it.
func TestKnownOfAnEmptiedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		small := func(c *engine.Config) { c.TrimAt, c.Store = 64<<10, rig.store }
		a := rig.open("a", small)
		for _, id := range []string{"1", "2"} {
			if _, err := a.State(within(t), runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: id}, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if as, err := a.Known(within(t), "app", "A"); err != nil || len(as) != 2 {
			t.Fatal(as, err)
		}
		rig.store.mu.Lock()
		rig.store.entries[0], rig.store.applied[0] = map[string][]byte{}, 0
		rig.store.mu.Unlock()
		for range 3 {
			time.Sleep(time.Minute)
			as, err := a.Known(within(t), "app", "A")
			if err == nil && len(as) != 2 {
				t.Errorf("known are %v", as)
			}
		}
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
		small := func(c *engine.Config) { c.TrimAt, c.Store = 64<<10, slowApplied{rig.store} }
		actor := runtime.Actor{App: "app", Type: "A", ID: "1"}
		a := rig.open("a", small)
		if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		for a.Stats().Trims < 2 {
			if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "fill", Value: []byte(strings.Repeat("x", 4000))}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		delete(rig.nodes, "a")
		rig.store.mu.Lock()
		rig.store.entries[0], rig.store.applied[0] = map[string][]byte{}, 0
		rig.store.mu.Unlock()
		b := rig.open("b", small)
		r, err := b.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateGet, Key: "k"})
		if err == nil && !r.Found {
			t.Errorf("read as empty: %+v", r)
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
			small := func(c *engine.Config) { c.TrimAt, c.Store = 64<<10, rig.store }
			a := rig.open("a", small)
			attach(t, a, actorHost("h"), echo)
			actor := runtime.Actor{App: "app", Type: "A", ID: "1"}
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
			if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
			fill(1)
			time.Sleep(time.Minute)
			rig.store.mu.Lock()
			rig.store.entries[0], rig.store.applied[0] = map[string][]byte{}, 0
			rig.store.mu.Unlock()
			time.Sleep(time.Hour)
			if looked {
				if err := a.Healthy(within(t)); err != nil {
					t.Fatal(err)
				}
			}
			fill(6)
			time.Sleep(time.Minute)
			for range 2 {
				r, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateGet, Key: "k"})
				if string(r.Value) != "v" {
					t.Errorf("%q %v: it was in the log when the store lost it", r.Value, err)
				}
				time.Sleep(time.Minute)
			}
		})
	}
}
