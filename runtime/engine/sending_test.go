package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
)

// countingLog counts the appends that are in flight.
type countingLog struct {
	runtime.Log
	flying, most atomic.Int32
}

func (l *countingLog) Append(ctx context.Context, _ [][]byte) (first, next uint64, err error) {
	l.most.Store(max(l.most.Load(), l.flying.Add(1)))
	defer l.flying.Add(-1)
	time.Sleep(2 * time.Second)
	return 0, 0, ctx.Err()
}

// The loop, a claim and who tries the log append one after the other, and none for
// longer than it may.
func TestOneAppendAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &countingLog{}
		p := &partition{log: l, sending: make(chan struct{}, 1)}
		for range 4 {
			go func() { _, _, _ = p.send(t.Context(), nil) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var unknown *runtime.UnknownError
		if _, _, err := p.send(ctx, nil); !errors.As(err, &unknown) || time.Since(deadline(ctx)) != 0 {
			t.Errorf("who cannot wait any longer is told %v", err)
		}
		time.Sleep(10 * time.Second)
		if n := l.most.Load(); n != 1 {
			t.Errorf("%d appends were in flight at once", n)
		}
	})
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}
