package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// The core hears that nobody waits for a drain or a cancel of all any more.
func TestWhoAsksToClearLeaves(t *testing.T) {
	id := runtime.NewID(1, 0, "app", [6]byte{1})
	for name, op := range map[string]*Op{
		"drain":  {Drain: &runtime.Drain{App: "app", ID: id}},
		"cancel": {CancelAll: &runtime.CancelAll{App: "app", ID: id}},
	} {
		m := &Mesh{}
		p := &partition{m: m, wake: make(chan struct{}, 1), queued: map[any]bool{}}
		p.left.Store(newLeave())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.exec(ctx, op); !errors.Is(err, context.Canceled) {
			t.Fatal(name, err)
		}
		if in, ok := p.inputs[len(p.inputs)-1].(*runtime.Leave); !ok || in.ID != id || in.Waiter == nil {
			t.Errorf("%s: the last input is %T", name, p.inputs[len(p.inputs)-1])
		}
	}
}
