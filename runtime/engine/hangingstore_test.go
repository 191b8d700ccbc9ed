package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A hangingStore gives no answer while it hangs.
type hangingStore struct {
	runtime.Store
	hangs atomic.Bool
}

func (s *hangingStore) Applied(ctx context.Context, p uint16) (uint64, error) {
	if s.hangs.Load() {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return s.Store.Applied(ctx, p)
}

// The store hangs when a gateway dies: its partitions do not wait for the store
// one after the other.
func TestTakeOverWhileTheStoreHangs(t *testing.T) {
	r := newMeshRig(t, 64)
	s := &hangingStore{Store: r.store}
	hang := func(c *engine.Config) { c.Store = s }
	a, b := r.open("a", hang), r.open("b", hang)
	spread(t, a, b)
	act := runtime.Actor{App: "app", Type: "A", ID: r.actorIn(7)}
	if _, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	s.hangs.Store(true)
	r.kill("b")
	began := time.Now()
	eventually(t, "all is taken over", func() bool { return owners(a)["a"] == 64 })
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	s.hangs.Store(false)
	eventually(t, "state is served again", func() bool {
		got, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateGet, Key: "k"})
		return err == nil && string(got.Value) == "v"
	})
}
