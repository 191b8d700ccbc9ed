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
)

// The log has no room: all who ask are told so, however many they are, and need not wait
// until it has.
func TestFullLogAnswersAll(t *testing.T) {
	const n = 5000
	m, log := openBreakable(t)
	tell := func(ctx context.Context, i int) error {
		r := call("app", "A", fmt.Sprint(i), "m")
		r.Kind = runtime.Tell
		_, err := m.Accept(ctx, r)
		return err
	}
	gate := make(chan struct{})
	log.gate.Store(&gate)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	go tell(ctx, 0) //nolint:errcheck // it keeps the log busy
	<-log.held
	log.broken.Store(true)
	log.gate.Store(nil)
	var all sync.WaitGroup
	var waited atomic.Int64
	for i := range n {
		all.Go(func() {
			if errors.Is(tell(ctx, 1+i), context.DeadlineExceeded) {
				waited.Add(1)
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // until they wait for the log; else this test shows less
	close(gate)
	all.Wait()
	if n := waited.Load(); n > 0 {
		t.Errorf("%d had no answer while the log has no room", n)
	}
	log.broken.Store(false)
}
