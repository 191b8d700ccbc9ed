package engine_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// What a host has said to one term, when it was asked to join, counts in no other: a round
// of its answers goes down with the log, and the join behind it must not say for the next
// term that they have never arrived.
func TestJoinOfTheTermBefore(t *testing.T) {
	for _, n := range []int{1900, 2500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			m, log := openBreakable(t)
			var mu sync.Mutex
			runs := map[string]int{}
			begun, end := make(chan struct{}, 4*n), make(chan struct{})
			attach(t, m.Mesh, runtime.HostInfo{Boot: "h", App: "app", Actors: []string{"A"}, Grace: 600_000}, func(in *runtime.Invoke) *runtime.Outcome {
				mu.Lock()
				runs[in.Target.ID]++
				mu.Unlock()
				begun <- struct{}{}
				<-end
				return ok(`{"value":1}`)
			})
			for i := range n {
				r := call("app", "A", fmt.Sprint(i), "m")
				r.Kind = runtime.Tell
				if _, err := m.Accept(within(t), r); err != nil {
					t.Fatal(err)
				}
			}
			for range n {
				select {
				case <-begun:
				case <-within(t).Done():
					t.Fatal("not all begin")
				}
			}
			log.most.Store(1)
			close(end) // all have completed; the log has no room for that, and then for some at a time
			eventually(t, "the term ends", func() bool { return log.refused.Load() > 0 })
			log.most.Store(1500)
			for end := time.Now().Add(4 * time.Second); log.refused.Load() < 2 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			log.most.Store(0)
			eventually(t, "all have ended", func() bool { return m.Healthy(within(t)) == nil && m.Stats().Pending == 0 })
			mu.Lock()
			defer mu.Unlock()
			again := 0
			for _, k := range runs {
				if k > 1 {
					again++
				}
			}
			if again > 0 {
				t.Errorf("%d of %d methods that had completed on a host that lives ran again", again, n)
			}
		})
	}
}
