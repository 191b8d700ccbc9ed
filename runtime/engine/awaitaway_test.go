package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// The outcome of a promise that is open, or that has just ended, is in the owner's memory: whoever
// asks for it needs no store.
func TestAwaitNeedsNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		a := rig.open("a")
		open := make(chan struct{})
		host := actorHost("h") // which does not beat
		host.Grace = 60_000
		attach(t, a, host, func(*runtime.Invoke) *runtime.Outcome {
			<-open
			return ok(`{"value":1}`)
		})
		r := call("app", "A", "1", "m")
		r.Kind = runtime.Promise
		id, err := a.Accept(within(t), r)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		rig.store.mu.Lock()
		rig.store.away = true
		rig.store.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		o, err := a.Await(ctx, "app", id, "h")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the outcome of a running promise: %v, %v", o, err)
		}
		close(open)
		time.Sleep(time.Second)
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		o, err = a.Await(ctx, "app", id, "h")
		cancel()
		if err != nil || string(o.Body) != `{"value":1}` {
			t.Errorf("an outcome that is in memory: %v, %v", o, err)
		}
		rig.store.mu.Lock()
		rig.store.away = false
		rig.store.mu.Unlock()
	})
}

// In a partition whose state is lost requests go on; who waits for one is told of the state.
func TestAwaitWhereStateIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		a := rig.open("a", func(c *engine.Config) { c.TrimAt = 64 << 10 })
		actor := runtime.Actor{App: "app", Type: "A", ID: "1"}
		for a.Stats().Trims < 2 {
			if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "fill", Value: []byte(strings.Repeat("x", 4000))}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		rig.store.mu.Lock()
		rig.store.entries[0], rig.store.applied[0] = map[string][]byte{}, 0
		rig.store.mu.Unlock()
		for range 20 {
			time.Sleep(time.Second)
			_, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateGet, Key: "fill"})
			if err != nil && strings.Contains(err.Error(), "state_lost") {
				break
			}
		}
		open := make(chan struct{})
		defer close(open)
		host := actorHost("h") // which does not beat
		host.Grace = 60_000
		attach(t, a, host, func(*runtime.Invoke) *runtime.Outcome {
			<-open
			return ok(`{"value":1}`)
		})
		r := call("app", "A", "1", "m")
		r.Kind = runtime.Promise
		id, err := a.Accept(within(t), r)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		o, err := a.Await(ctx, "app", id, "h")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the outcome of a running promise: %v, %v", o, err)
		}
	})
}
