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

// A tightLog has room for small batches only while tight: a disk that is nearly full.
type tightLog struct {
	runtime.Log
	most    atomic.Int64 // records of a batch, 0 for any
	refused atomic.Int64
}

func (l *tightLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if n := l.most.Load(); n > 0 && len(batch) > int(n) {
		l.refused.Add(1)
		return 0, 0, runtime.Errorf(runtime.CodeDiskFull, "no space left")
	}
	return l.Log.Append(ctx, batch)
}

// What a host has said to one term, when it was asked to join, counts in no other: a round
// of its answers goes down with the log, and the join behind it must not say for the next
// term that they have never arrived.
func TestJoinOfTheTermBefore(t *testing.T) {
	for _, n := range []int{1900, 2500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var log *tightLog
			m := open(t, t.TempDir(), 1, func(c *engine.Config) {
				logs := c.Logs
				c.Logs = func(p uint16) (runtime.Log, error) {
					l, err := logs(p)
					log = &tightLog{Log: l}
					return log, err
				}
			})
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
