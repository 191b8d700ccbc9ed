package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// Drains and cancels of all are forgotten by their owners when their asker has the answer,
// or has gone: more than an owner keeps of an app come one after the other.
func TestClearingsOneAfterTheOther(t *testing.T) {
	const parts, many = 4, 150
	r := newMeshRig(t, parts)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	for i := range many {
		if _, err := b.CancelAll(within(t), "app"); err != nil {
			t.Fatalf("cancel of all %d: %v", i, err)
		}
		if _, err := b.Drain(within(t), "app"); err != nil {
			t.Fatalf("drain %d: %v", i, err)
		}
	}
	begun, long := make(chan struct{}, 2), make(chan struct{})
	attach(t, b, actorHost("h1"), func(*runtime.Invoke) *runtime.Outcome {
		begun <- struct{}{}
		<-long
		return ok("x")
	})
	for _, owner := range []string{"a", "b"} {
		actor := actorOf(parts, func(p uint16) bool { return b.Owners()[p] == owner })
		accept(t, b, runtime.Tell, actor, "long")
		<-begun
		for i := range many {
			waits := accept(t, b, runtime.Promise, actor, "waits")
			ctx, cancel := context.WithCancel(within(t))
			done := make(chan error, 1)
			go func() {
				_, err := b.Drain(ctx, "app")
				done <- err
			}()
			if o, err := b.Await(within(t), "app", waits, ""); err != nil || o.Code != runtime.CodeDrained {
				t.Fatalf("what waits in front of drain %d of %s: %v %v", i, owner, o, err)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatalf("drain %d of %s: %v", i, owner, err)
			}
		}
	}
	close(long)
}
