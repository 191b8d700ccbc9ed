package engine

import (
	"testing"
	"time"
)

// A loop that goes on, however slowly, or for which nothing waits, does not stand still.
func TestLooksAtALoop(t *testing.T) {
	var w watchedLoop
	for i, x := range []struct {
		steps  uint64
		wanted bool
		want   time.Duration
	}{
		{1, true, 0}, {1, true, time.Second}, {1, true, 2 * time.Second}, // stands
		{2, true, 0}, {2, true, time.Second}, {3, true, 0}, // goes on
		{3, false, 0}, {3, false, 0}, {3, true, time.Second}, // has nothing to do, then has
	} {
		if got := w.look(x.steps, x.wanted, time.Second); got != x.want {
			t.Errorf("look %d: %s, want %s", i, got, x.want)
		}
	}
}
