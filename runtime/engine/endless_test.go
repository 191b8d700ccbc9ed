package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// The list of active actors ends, whatever the bytes in the name of a boot.
func TestListOfActiveActorsEnds(t *testing.T) {
	rig := newMeshRig(t, 2)
	a := rig.open("a")
	b := rig.open("b")
	eventually(t, "all know the owners", func() bool { return owners(a)[""]+owners(b)[""] == 0 })
	boot := "\xff1"
	attach(t, a, actorHost(boot), func(*runtime.Invoke) *runtime.Outcome { return ok(`{"value":1}`) })
	beats, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for beats.Err() == nil {
			a.Beat(boot)
			time.Sleep(100 * time.Millisecond)
		}
	}()
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			for j := range 160 {
				if _, err := a.Call(within(t), call("app", "A", fmt.Sprint(i, "-", j), "m")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	for name, m := range rig.nodes {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		as, err := m.Active(ctx, "app", "")
		cancel()
		if err != nil || len(as) != 16*160 {
			t.Errorf("asked at %s: %d actors, %v", name, len(as), err)
		}
	}
}
