package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
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

type unheldTree struct {
	answers chan error
	pid     int
}

func (u *unheldTree) Unheld() (int, error)  { return u.pid, <-u.answers }
func (u *unheldTree) Done() <-chan struct{} { return nil }

// A process that becomes another user after the component listens is named, one that
// was so for a moment is not.
func TestProcessOutOfOurHands(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	s := &sidecar{ctx: ctx, log: newLogger(&log, slog.LevelError)}
	tree, look, ended := &unheldTree{make(chan error), 17}, make(chan time.Time), make(chan struct{})
	go func() {
		defer close(ended)
		s.watchHeld(tree, look)
	}()
	see := func(err error) {
		look <- time.Time{}
		tree.answers <- err
	}
	runs := errors.New("the process 17 runs as another user, root (0)")
	for _, err := range []error{runs, nil, runs, nil} {
		see(err)
	}
	look <- time.Time{} // what was seen before is worked off
	if log.Len() > 0 {
		t.Errorf("said %q", log.String())
	}
	tree.answers <- runs
	see(runs)
	see(runs)
	cancel()
	<-ended
	if strings.Count(log.String(), "the process 17 runs as another user, root (0)") != 1 {
		t.Errorf("said %q", log.String())
	}
}
