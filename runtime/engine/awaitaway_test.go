package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// openPromise is a promise whose method runs until it is released.
func openPromise(t *testing.T, m *engine.Mesh) (id runtime.ID, release func()) {
	t.Helper()
	open := make(chan struct{})
	host := actorHost("h") // which does not beat
	host.Grace = 60_000
	attach(t, m, host, func(*runtime.Invoke) *runtime.Outcome {
		<-open
		return ok(`{"value":1}`)
	})
	r := call("app", "A", "1", "m")
	r.Kind = runtime.Promise
	id, err := m.Accept(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return id, func() { close(open) }
}

// awaited asks for an outcome for three seconds.
func awaited(t *testing.T, m *engine.Mesh, id runtime.ID) (*runtime.Outcome, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	return m.Await(ctx, "app", id, "h")
}

// The outcome of a promise that is open, or that has just ended, is in the owner's memory: whoever
// asks for it needs no store.
func TestAwaitNeedsNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		a := rig.open("a")
		id, release := openPromise(t, a)
		time.Sleep(time.Second)
		rig.store.mu.Lock()
		rig.store.away = true
		rig.store.mu.Unlock()
		if o, err := awaited(t, a, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the outcome of a running promise: %v, %v", o, err)
		}
		release()
		time.Sleep(time.Second)
		if o, err := awaited(t, a, id); err != nil || string(o.Body) != `{"value":1}` {
			t.Errorf("an outcome that is in memory: %v, %v", o, err)
		}
	})
}

// In a partition whose state is lost requests go on, and whoever waits for one goes on waiting.
func TestAwaitWhereStateIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		leaveCut(t, rig, written(t, "v"))
		rig.store.put(nil, 0)
		a := rig.open("a", small)
		time.Sleep(5 * time.Second)
		if _, err := a.State(within(t), stateOp(runtime.StateGet, "")); !is(err, runtime.CodeStateLost) {
			t.Fatalf("the state is not lost: %v", err)
		}
		id, release := openPromise(t, a)
		defer release()
		if o, err := awaited(t, a, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the outcome of a running promise: %v, %v", o, err)
		}
	})
}
