package engine_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A store that was restored from a copy is brought up to date from the log, also with what
// was accepted in front of where the log begins and has ended behind it: the outcome is
// there, and its key is not free again.
func TestStoreThatFallsBackBehindACut(t *testing.T) {
	rig := newMeshRig(t, 1)
	a := rig.open("a", small)
	var ran atomic.Int64
	release := make(chan struct{})
	serve := func(in *runtime.Invoke) *runtime.Outcome {
		if in.Path == "/slow" && ran.Add(1) == 1 {
			<-release
		}
		return ok(fmt.Sprintf(`{"value":%d}`, ran.Load()))
	}
	attach(t, a, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}}, serve)
	slow := func() *runtime.Request {
		r := call("app", "A", "slow", "slow")
		r.Kind, r.Key = runtime.Promise, "k"
		return r
	}
	id, err := a.Accept(within(t), slow())
	if err != nil {
		t.Fatal(err)
	}
	fill := func(bytes int) {
		for n := 0; n < bytes; n += 2000 {
			r := call("app", "A", "fill", "m")
			r.Kind, r.Body = runtime.Tell, []byte(`["`+strings.Repeat("x", 2000)+`"]`)
			if _, err := a.Accept(within(t), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(40 << 10) // some headers
	rig.store.mu.Lock()
	saved, upTo := maps.Clone(rig.store.entries[0]), rig.store.applied[0]
	rig.store.mu.Unlock()
	close(release)
	if o, err := a.Await(within(t), "app", id, ""); err != nil || string(o.Body) != `{"value":1}` {
		t.Fatal(o, err)
	}
	for deadline := within(t); a.Stats().Trims == 0; {
		if deadline.Err() != nil {
			t.Fatal("the log is never cut")
		}
		fill(8 << 10)
		time.Sleep(20 * time.Millisecond)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	delete(rig.nodes, "a")
	rig.store.put(saved, upTo)

	b := rig.open("b", small)
	attach(t, b, runtime.HostInfo{Boot: "b2", App: "app", Actors: []string{"A"}}, serve)
	b.HostDown("b1", "exited")
	if o, err := b.Await(within(t), "app", id, ""); err != nil || string(o.Body) != `{"value":1}` {
		t.Errorf("the outcome is %+v, %v", o, err)
	}
	if again, err := b.Accept(within(t), slow()); again != id {
		t.Errorf("the key names %v in place of %v, %v", again, id, err)
	}
	if n := ran.Load(); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// emptied is a store that is emptied once, after some reads.
type emptied struct {
	*memStore
	after atomic.Int32
}

func (s *emptied) Read(ctx context.Context, p uint16, fn func(runtime.Snapshot) error) error {
	err := s.memStore.Read(ctx, p, fn)
	if s.after.Add(-1) == 0 {
		s.mu.Lock()
		s.entries[p], s.applied[p] = map[string][]byte{}, 0
		s.mu.Unlock()
	}
	return err
}

// A store loses what it holds after a key was found in it, and before its outcome is
// read: the outcome is in the log.
func TestStoreThatFallsBackBetweenKeyAndOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		s := &emptied{memStore: rig.store}
		a := rig.open("a", func(c *engine.Config) { c.Store = s })
		attach(t, a, actorHost("h"), echo)
		again := func() (*runtime.Outcome, error) {
			r := call("app", "A", "1", "m")
			r.Key = "k"
			return a.Call(within(t), r)
		}
		first, err := again()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // only the store remembers it now
		s.after.Store(1)
		if o, err := again(); err != nil || string(o.Body) != string(first.Body) {
			t.Errorf("the repeat is told %v, %v", o, err)
		}
		if s.after.Load() >= 0 {
			t.Error("the outcome was not read")
		}
	})
}
