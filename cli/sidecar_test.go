package cli

import (
	"context"
	"testing"
	"time"

	"github.com/karmesh/kar/cli/guard"
)

type leasedTree struct {
	until chan time.Duration
	done  chan struct{}
}

func (l *leasedTree) Lease(until time.Duration) { l.until <- until }
func (l *leasedTree) Done() <-chan struct{}     { return l.done }

// TestGuardIsFedByTheLoop: what the guard is told rests on the turns of the loop that
// keeps the lease, and on no other sign of life of this process.
func TestGuardIsFedByTheLoop(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &sidecar{ctx: ctx, turns: make(chan time.Duration, 1), hostEnded: make(chan struct{})}
	tree := &leasedTree{until: make(chan time.Duration), done: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.feedGuard(tree)
	}()
	if until := <-tree.until; until > guard.BootTime()+feedLimit {
		t.Errorf("at first until %s", until)
	}
	for _, turn := range []time.Duration{7, 11, 13} {
		s.turns <- turn
		if until := <-tree.until; until != turn+feedLimit {
			t.Errorf("after the turn at %s until %s", turn, until)
		}
	}
	begun := guard.BootTime()
	close(s.hostEnded) // the app may need time to end by itself
	for range 3 {
		if until := <-tree.until; until < begun+feedLimit {
			t.Errorf("without a host until %s", until)
		}
	}
	close(tree.done)
	for {
		select {
		case <-tree.until:
		case <-ended:
			return
		}
	}
}
