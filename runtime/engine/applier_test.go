package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A slowStore cannot say for a while what it holds for good.
type slowStore struct {
	runtime.Store
	safe         atomic.Bool
	asks, writes atomic.Int64
}

func (s *slowStore) Sync(ctx context.Context, p uint16) (uint64, error) {
	s.asks.Add(1)
	if !s.safe.Load() {
		return 0, nil
	}
	return s.Store.Sync(ctx, p)
}

func (s *slowStore) Apply(ctx context.Context, p uint16, from, to uint64, w []runtime.Mutation) (uint64, error) {
	s.writes.Add(1)
	return s.Store.Apply(ctx, p, from, to, w)
}

// A log that waits for its store to be safe asks now and then, and is cut in the end.
func TestTrimWaitsForTheStoreAtRest(t *testing.T) {
	var s slowStore
	n := open(t, t.TempDir(), 1, func(c *engine.Config) {
		s.Store = c.Store
		c.Store, c.TrimAt = &s, 16<<10
	})
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}}, func(*runtime.Invoke) *runtime.Outcome {
		return ok(`{"value":"` + strings.Repeat("x", 500) + `"}`)
	})
	calls := func() {
		for i := range 200 {
			r := call("app", "A", fmt.Sprint(i%10), "m")
			if _, err := n.Call(within(t), r); err != nil {
				t.Fatal(err)
			}
			n.Release(r.Target.App, r.ID)
			op := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "1"}, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}
			if _, err := n.State(within(t), op); err != nil {
				t.Fatal(err)
			}
		}
	}
	calls()
	until := time.Now().Add(10 * time.Second)
	for s.asks.Load() == 0 {
		if time.Now().After(until) {
			t.Fatal("the store was never asked")
		}
		time.Sleep(time.Millisecond)
	}
	asks, writes, began := s.asks.Load(), s.writes.Load(), time.Now()
	calls()
	time.Sleep(300 * time.Millisecond)
	most := int64(time.Since(began)/(400*time.Millisecond)) + 1
	if a, w := s.asks.Load()-asks, s.writes.Load()-writes; a > most || w > most+200 { // one for each state write at the most
		t.Errorf("in %v the store was asked %d times and written %d times", time.Since(began), a, w)
	}
	if n.Stats().Trims > 0 {
		t.Fatal("cut although the store may forget")
	}
	s.safe.Store(true)
	for n.Stats().Trims == 0 {
		if time.Now().After(until) {
			t.Fatal("not cut when the store was safe")
		}
		time.Sleep(time.Millisecond)
	}
}

// What means nothing for the store does not wait for it: a log of calls alone is
// cut although the store cannot say what it holds for good, and one that has
// lost the mere position lacks nothing.
func TestTrimOfCallsAloneDoesNotWait(t *testing.T) {
	r := newMeshRig(t, 1)
	tune := func(c *engine.Config) {
		s := &slowStore{Store: c.Store}
		c.Store, c.TrimAt = s, 16<<10
	}
	a := r.open("a", tune)
	attach(t, a, actorHost("h"), func(*runtime.Invoke) *runtime.Outcome { return ok(strings.Repeat("x", 500)) })
	for i := 0; a.Stats().Trims == 0; i++ {
		q := call("app", "A", fmt.Sprint(i%10), "m")
		if _, err := a.Call(within(t), q); err != nil || i > 5000 {
			t.Fatal(i, err)
		}
		a.Release(q.Target.App, q.ID)
	}
	r.store.mu.Lock()
	r.store.entries[0], r.store.applied[0] = map[string][]byte{}, 0
	r.store.mu.Unlock()
	act := runtime.Actor{App: "app", Type: "A", ID: "1"}
	if _, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if s, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateGet, Key: "k"}); err != nil || string(s.Value) != "v" {
		t.Fatalf("%q %v", s.Value, err)
	}
}
