package engine_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A hangingStore gives no answer while it hangs, and then does what it was asked.
type hangingStore struct {
	runtime.Store
	mu    sync.Mutex
	hangs chan struct{} // nil, or closed when it goes on
	reads atomic.Int64  // begun
}

func (s *hangingStore) hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangs = make(chan struct{})
}

func (s *hangingStore) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hangs != nil {
		close(s.hangs)
		s.hangs = nil
	}
}

func (s *hangingStore) wait(ctx context.Context) error {
	s.mu.Lock()
	hangs := s.hangs
	s.mu.Unlock()
	if hangs == nil {
		return nil
	}
	select {
	case <-hangs:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *hangingStore) Applied(ctx context.Context, p uint16) (uint64, error) {
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	return s.Store.Applied(ctx, p)
}

func (s *hangingStore) Apply(ctx context.Context, p uint16, from, to uint64, w []runtime.Mutation) (uint64, error) {
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	return s.Store.Apply(ctx, p, from, to, w)
}

func (s *hangingStore) Sync(ctx context.Context, p uint16) (uint64, error) {
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	return s.Store.Sync(ctx, p)
}

func (s *hangingStore) Read(ctx context.Context, p uint16, fn func(runtime.Snapshot) error) error {
	s.reads.Add(1)
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Store.Read(ctx, p, fn)
}

// The store hangs when a gateway dies: its partitions do not wait for the store
// one after the other, and what was written meanwhile and before is in it when it
// goes on.
func TestTakeOverWhileTheStoreHangs(t *testing.T) {
	const parts = 64
	r := newMeshRig(t, parts)
	s := &hangingStore{Store: r.store}
	t.Cleanup(s.goOn)
	hang := func(c *engine.Config) { c.Store = s }
	a, b := r.open("a", hang), r.open("b", hang)
	spread(t, a, b)
	key := func(p uint16, key, value string) runtime.StateOp {
		return runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: r.actorIn(p)}, Verb: runtime.StateSet, Key: key, Value: []byte(value)}
	}
	for p := range uint16(parts) {
		if _, err := a.State(within(t), key(p, "before", fmt.Sprint(p))); err != nil {
			t.Fatal(err)
		}
	}
	s.hang()
	s.reads.Store(0)
	r.kill("b")
	began := time.Now()
	eventually(t, "all is taken over", func() bool { return owners(a)["a"] == parts })
	if took := time.Since(began); took > 3*time.Second { // 8 s and more when each eight wait
		t.Errorf("it took %v", took)
	}
	var writes sync.WaitGroup
	for p := range uint16(parts) { // a state is read before it is written
		writes.Go(func() {
			if _, err := a.State(t.Context(), key(p, "meanwhile", fmt.Sprint(p))); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "the writes wait for the store", func() bool { return s.reads.Load() >= parts })
	s.goOn()
	writes.Wait()
	for p := range uint16(parts) {
		for _, k := range []string{"before", "meanwhile"} {
			op := key(p, k, "")
			op.Verb, op.Value = runtime.StateGet, nil
			got := ""
			eventually(t, "state is served again", func() bool {
				res, err := a.State(within(t), op)
				if err == nil {
					got = string(res.Value)
				}
				return err == nil
			})
			if got != fmt.Sprint(p) {
				t.Errorf("partition %d, what was written %s: %q", p, k, got)
			}
		}
	}
	eventually(t, "the store has all", func() bool {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		for p := range parts {
			if len(r.store.entries[p]) < 2 {
				return false
			}
		}
		return true
	})
}
