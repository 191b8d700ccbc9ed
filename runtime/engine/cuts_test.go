package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A cutLog looks at what a reader would find right after each cut.
type cutLog struct {
	runtime.Log
	t     *testing.T
	cuts  atomic.Int64
	wrong atomic.Int64
	bad   atomic.Int64
}

func (l *cutLog) Trim(ctx context.Context, before uint64) error {
	l.cuts.Add(1)
	core := runtime.New(runtime.Config{Mesh: "test", Partition: 0, Partitions: 1, IDWindow: 600_000, ResultRetention: 86_400_000})
	first := true
	err := l.Log.Read(ctx, before, func(offset uint64, b []byte) error {
		if first && !runtime.IsHeader(b) {
			l.wrong.Add(1)
			l.t.Logf("the log is cut in front of offset %d, which is no header", before)
		}
		first = false
		_, err := core.Fold(b)
		return err
	})
	var e *runtime.Error
	if err != nil && !errors.As(err, &e) {
		l.t.Logf("read: %v", err)
	}
	if front := core.Front(true); front != nil {
		l.bad.Add(1)
		l.t.Logf("who reads it from there finds: %v", front)
	}
	return l.Log.Trim(ctx, before)
}

// A log is cut in front of its headers, also when a header is decided while many requests start.
func TestCutsAreAtHeaders(t *testing.T) {
	for _, n := range []int{300, 4000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var log *cutLog
			m := open(t, t.TempDir(), 1, func(c *engine.Config) {
				c.TrimAt = 256 << 10
				logs := c.Logs
				c.Logs = func(p uint16) (runtime.Log, error) {
					l, err := logs(p)
					log = &cutLog{Log: l, t: t}
					return log, err
				}
			})
			var wg sync.WaitGroup
			for k := range 50 {
				wg.Go(func() {
					for i := k; i < n; i += 50 {
						r := call("app", "A", fmt.Sprint(i), "m")
						r.Kind = runtime.Tell
						if _, err := m.Accept(within(t), r); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			end := make(chan struct{})
			attach(t, m.Mesh, actorHost("h"), func(in *runtime.Invoke) *runtime.Outcome {
				<-end
				return ok(`{"value":1}`)
			})
			eventually(t, "all run", func() bool { return m.Stats().Running == n })
			trims := m.Stats().Trims
			for i := 0; m.Stats().Trims < trims+10 && i < 20_000; i++ { // other work, until the log has been cut some times
				r := call("app", "B", "none", "m")
				r.Kind, r.Body = runtime.Tell, make([]byte, 2000)
				if id, err := m.Accept(within(t), r); err == nil {
					_, _ = m.Cancel(within(t), "app", id)
				}
			}
			close(end)
			if log.wrong.Load()+log.bad.Load() > 0 {
				t.Errorf("of %d cuts %d were in front of no header, and %d left a log that is damaged for who begins then", log.cuts.Load(), log.wrong.Load(), log.bad.Load())
			}
		})
	}
}
