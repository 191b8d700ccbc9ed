package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A noRoomLog holds one append, then has no room for any.
type noRoomLog struct {
	runtime.Log
	gate atomic.Pointer[chan struct{}]
	held atomic.Bool
	full atomic.Bool
}

func (l *noRoomLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if g := l.gate.Swap(nil); g != nil {
		l.held.Store(true)
		<-*g
		l.full.Store(true)
		return l.Log.Append(ctx, batch)
	}
	if l.full.Load() {
		return 0, 0, runtime.Errorf(runtime.CodeDiskFull, "no space left")
	}
	return l.Log.Append(ctx, batch)
}

// The log has no room: whoever asks is told so, and need not wait until it has.
func TestFullLogAnswersAll(t *testing.T) {
	for _, n := range []int{5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var log *noRoomLog
			m := open(t, t.TempDir(), 1, func(c *engine.Config) {
				logs := c.Logs
				c.Logs = func(p uint16) (runtime.Log, error) {
					l, err := logs(p)
					log = &noRoomLog{Log: l}
					return log, err
				}
			})
			tell := func(ctx context.Context, i int) error {
				r := call("app", "A", fmt.Sprint(i), "m")
				r.Kind = runtime.Tell
				_, err := m.Accept(ctx, r)
				return err
			}
			if err := tell(within(t), 0); err != nil {
				t.Fatal(err)
			}
			gate := make(chan struct{})
			log.gate.Store(&gate)
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			go tell(ctx, 1) //nolint:errcheck
			eventually(t, "an append is held", log.held.Load)
			var wg sync.WaitGroup
			var told, waited atomic.Int64
			for i := range n {
				wg.Go(func() {
					err := tell(ctx, 2+i)
					if errors.Is(err, context.DeadlineExceeded) {
						waited.Add(1)
					} else if err != nil {
						told.Add(1)
					}
				})
			}
			time.Sleep(500 * time.Millisecond)
			close(gate)
			wg.Wait()
			t.Logf("%d were told, %d waited for 15 s", told.Load(), waited.Load())
			if waited.Load() > 0 {
				t.Errorf("%d of %d had no answer while the log has no room", waited.Load(), n)
			}
			log.full.Store(false)
		})
	}
}
