package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A fullStore answers reads and takes no writes while it is full.
type fullStore struct {
	runtime.Store
	full atomic.Bool
}

func (s *fullStore) Apply(ctx context.Context, p uint16, from, to uint64, w []runtime.Mutation) (uint64, error) {
	if s.full.Load() {
		return 0, errors.New("OOM")
	}
	return s.Store.Apply(ctx, p, from, to, w)
}

// A scale weighs what a store gets at a time.
type scale struct {
	runtime.Store
	most atomic.Int64
}

func (s *scale) Apply(ctx context.Context, p uint16, from, to uint64, w []runtime.Mutation) (uint64, error) {
	n := int64(0)
	for i := range w {
		n += int64(len(w[i].Value))
	}
	s.most.Store(max(n, s.most.Load()))
	return s.Store.Apply(ctx, p, from, to, w)
}

// A store that lacks much is given it in pieces, by the owner that sees it fall
// back, and by one that finds it so: neither has all of it in memory.
func TestStoreIsHealedInPieces(t *testing.T) {
	const writes, size = 600, 64 << 10 // 37 MiB
	r := newMeshRig(t, 1)
	s := &scale{Store: r.store}
	tune := func(c *engine.Config) { c.Store, c.TrimAt = s, 1<<40 }
	a := r.open("a", tune)
	actor := func(i int) runtime.Actor { return runtime.Actor{App: "app", Type: "A", ID: fmt.Sprint(i % 50)} }
	for i := range writes {
		v := make([]byte, size)
		v[0], v[1] = byte(i>>8), byte(i)
		if _, err := a.State(within(t), runtime.StateOp{Actor: actor(i), Verb: runtime.StateSet, Key: "k", Value: v}); err != nil {
			t.Fatal(err)
		}
	}
	healed := func(m *engine.Mesh) {
		t.Helper()
		for i := writes - 50; i < writes; i++ {
			eventually(t, "the store has it", func() bool {
				got, err := m.State(within(t), runtime.StateOp{Actor: actor(i), Verb: runtime.StateGet, Key: "k"})
				return err == nil && len(got.Value) == size && got.Value[0] == byte(i>>8) && got.Value[1] == byte(i)
			})
		}
		eventually(t, "all is in the store", func() bool {
			r.store.mu.Lock()
			defer r.store.mu.Unlock()
			return len(r.store.entries[0]) >= 50
		})
		if most := s.most.Load(); most > 9<<20 || most == 0 {
			t.Errorf("the store got %d MiB at a time", most>>20)
		}
	}
	loseAll := func() {
		r.store.mu.Lock()
		r.store.entries[0], r.store.applied[0] = map[string][]byte{}, 0
		r.store.mu.Unlock()
		s.most.Store(0)
	}
	eventually(t, "all is in the store", func() bool {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		return len(r.store.entries[0]) >= 50
	})
	loseAll()
	healed(a)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "a")
	loseAll()
	healed(r.open("b", tune))
}

func codeIn(err error) runtime.Code {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// What a store does not take waits in memory, so it is bounded: then what would
// add to it is refused, before anything of it is in the log. What means nothing
// for the store goes on.
func TestFullStoreRefusesAtTheDoor(t *testing.T) {
	const memory = 4 << 20
	r := newMeshRig(t, 1)
	s := &fullStore{Store: r.store}
	a := r.open("a", func(c *engine.Config) { c.Store, c.Memory = s, memory })
	attach(t, a, actorHost("h"), func(*runtime.Invoke) *runtime.Outcome { return ok("1") })
	set := func(id string) error {
		op := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: id}, Verb: runtime.StateSet, Key: "k", Value: make([]byte, 64<<10)}
		_, err := a.State(within(t), op)
		return err
	}
	ask := func(k runtime.Kind, key string) error {
		q := call("app", "A", "1", "m")
		q.Kind, q.Key = k, key
		_, err := a.Call(within(t), q)
		return err
	}
	for _, err := range []error{set("1"), ask(runtime.Call, "k1"), ask(runtime.Promise, "")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.full.Store(true)
	taken := 0
	for ; taken < 500; taken++ {
		if err := set(fmt.Sprint("1", taken%3)); err != nil {
			if codeIn(err) != runtime.CodeStoreAway {
				t.Fatal(err)
			}
			break
		}
	}
	if size := taken * 64 << 10; size < memory/8 || size > memory/2 {
		t.Errorf("%d bytes of changes were accepted in vain", size)
	}
	for n := 0; ask(runtime.Promise, "") == nil; n++ { // small ones fit for a while
		if n > 1000 {
			t.Fatal("promises are taken without end")
		}
	}
	for until := time.Now().Add(10 * time.Second); a.Stats().Pending > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	_, end, _ := (&memHandle{memLog: r.logs[0]}).Bounds(t.Context())
	for range 20 {
		for what, err := range map[string]error{"a state": set("1"), "a keyed call": ask(runtime.Call, "k2"), "a promise": ask(runtime.Promise, "")} {
			if codeIn(err) != runtime.CodeStoreAway {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if _, now, _ := (&memHandle{memLog: r.logs[0]}).Bounds(t.Context()); now > end+5 { // proofs that it is still the owner
		t.Errorf("%d records were appended for what was refused", now-end)
	}
	for what, err := range map[string]error{"a call": ask(runtime.Call, ""), "a tell": ask(runtime.Tell, ""), "a key that was used": ask(runtime.Call, "k1")} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.full.Store(false)
	for until := time.Now().Add(10 * time.Second); set("1") != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("state is refused although the store takes changes again")
		}
	}
}

// What a new owner finds in the log of a store that takes nothing may be more than
// all work may take. Work that needs no store goes on.
func TestOldChangesKeepNoWorkOut(t *testing.T) {
	r := newMeshRig(t, 1)
	a := r.open("a", func(c *engine.Config) { c.TrimAt = 1 << 40 })
	for i := range 100 {
		op := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: fmt.Sprint(i)}, Verb: runtime.StateSet, Key: "k", Value: make([]byte, 64<<10)}
		if _, err := a.State(within(t), op); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "a")
	r.store.mu.Lock()
	r.store.entries[0], r.store.applied[0] = map[string][]byte{}, 0
	r.store.mu.Unlock()
	s := &fullStore{Store: r.store}
	s.full.Store(true)
	b := r.open("b", func(c *engine.Config) { c.Store, c.Memory = s, 4<<20 })
	attach(t, b, actorHost("h"), func(*runtime.Invoke) *runtime.Outcome { return ok("1") })
	for range 10 {
		if _, err := b.Call(within(t), call("app", "A", "1", "m")); err != nil {
			t.Fatal(err)
		}
	}
	op := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "1"}, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}
	if _, err := b.State(within(t), op); codeIn(err) != runtime.CodeStoreAway {
		t.Errorf("a change of state: %v", err)
	}
}
