package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// TestLongerIDWindow: a request completes at a gateway that has forgotten it when one
// with a longer id window takes over. A repeat is young enough there, and must not run.
func TestLongerIDWindow(t *testing.T) {
	t.Parallel()
	r := newMeshRig(t, 1)
	r.lease = 3 * time.Second
	window := func(d time.Duration) func(*engine.Config) {
		return func(c *engine.Config) { c.IDWindow, c.TrimAt = d, 4000 }
	}
	a := r.open("a", window(2*time.Second))
	var runs atomic.Int32
	serve := func(i *runtime.Invoke) *runtime.Outcome {
		if i.Target.ID == "once" {
			runs.Add(1)
		}
		return ok(i.Target.ID)
	}
	beat := func(m *engine.Mesh, boot string) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			for ctx.Err() == nil {
				m.Beat(boot)
				time.Sleep(200 * time.Millisecond)
			}
		}()
		return cancel
	}
	h := attach(t, a, actorHost("h"), serve)
	stop := beat(a, "h")
	first := call("app", "A", "once", "m")
	if _, err := a.Call(within(t), first); err != nil {
		t.Fatal(err)
	}
	again := *call("app", "A", "once", "m")
	again.ID = first.ID
	a.Release("app", first.ID)
	_, ended, _ := r.logs[0].Bounds(t.Context())
	other := func(m *engine.Mesh) {
		t.Helper()
		if _, err := m.Call(within(t), call("app", "A", "other", "m")); err != nil {
			t.Fatal(err)
		}
	}
	// Ids go in slots of ten seconds; then the log has to be cut behind it.
	for forgotten, cut := time.UnixMilli(first.ID.Millis()).Add(13*time.Second), uint64(0); ; time.Sleep(20 * time.Millisecond) {
		other(a)
		if start, end, _ := r.logs[0].Bounds(t.Context()); time.Now().Before(forgotten) {
			cut = end
		} else if start > max(cut, ended) {
			break
		}
	}
	b := r.open("b", window(10*time.Minute))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	a.Leave(ctx)
	stop()
	h.stop()
	a.Close()
	attach(t, b, actorHost("h2"), serve)
	defer beat(b, "h2")()
	if _, err := b.Call(within(t), &again); !is(err, runtime.CodeTooOld) || runs.Load() != 1 {
		t.Errorf("a repeat %s later: %v; it was run %d times", time.Since(time.UnixMilli(again.ID.Millis())), err, runs.Load())
	}
	other(b)
}
