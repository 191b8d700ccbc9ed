package engine

import (
	"context"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// An applier brings durable records into the store, in log order. It may lag:
// the core's overlay answers for what is not there yet.
type applier struct {
	p *partition

	mu      sync.Mutex
	changes []runtime.StoreChange
	busy    bool   // changes were taken and are not in the store yet
	upTo    uint64 // everything up to here is in changes or in the store
	applied uint64
	synced  uint64
	want    uint64 // somebody wants this to be durable in the store
	wake    chan struct{}
	moved   *signal // applied has grown
}

func newApplier(p *partition) *applier {
	return &applier{p: p, wake: make(chan struct{}, 1), moved: newSignal()}
}

func (a *applier) reset(applied uint64, changes []runtime.StoreChange) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changes, a.applied, a.upTo = changes, applied, applied
	if n := len(changes); n > 0 {
		a.upTo = changes[n-1].Seq
		a.signal()
	}
}

// add takes the changes of durable records; seq is the last durable record.
func (a *applier) add(changes []runtime.StoreChange, seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.upTo = seq
	if len(changes) > 0 {
		a.changes = append(a.changes, changes...)
		a.signal()
	}
}

func (a *applier) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// durable reports whether the store holds everything up to seq for good, and
// sees to it that it will.
func (a *applier) durable(seq uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.synced >= seq {
		return true
	}
	a.want = max(a.want, seq)
	a.signal()
	return false
}

// caughtUp waits until the store holds every change that was durable at the call.
func (a *applier) caughtUp(ctx context.Context) error {
	target := uint64(0)
	for {
		moved := a.moved.wait()
		a.mu.Lock()
		if target == 0 {
			target = a.upTo
		}
		done := a.applied >= target || len(a.changes) == 0 && !a.busy
		a.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

func (a *applier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			a.step(context.WithoutCancel(ctx))
			return
		case <-a.wake:
		}
		for !a.step(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

// step applies what is there; false means that the store did not answer.
func (a *applier) step(ctx context.Context) bool {
	a.mu.Lock()
	changes, from, to := a.changes, a.applied, a.upTo
	want, synced := a.want, a.synced
	a.changes, a.busy = nil, true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.busy = false
		a.mu.Unlock()
		a.moved.fire()
	}()
	put := func() {
		a.mu.Lock()
		a.changes = append(changes, a.changes...)
		a.mu.Unlock()
	}
	if len(changes) > 0 || (want > synced && to > from) {
		var writes []runtime.Mutation
		for _, c := range changes {
			writes = append(writes, c.Writes...)
		}
		got, err := a.p.m.cfg.Store.Apply(ctx, a.p.n, from, to, writes)
		if err != nil {
			a.p.logger.Warn("the store does not take changes; they wait", "error", err)
			put()
			return false
		}
		if got != to {
			// Somebody else moved the store: go on from there.
			a.p.logger.Warn("the store is elsewhere", "applied", got, "expected", from)
			rest := changes[:0]
			for _, c := range changes {
				if c.Seq > got {
					rest = append(rest, c)
				}
			}
			changes = rest
			a.mu.Lock()
			a.applied = got
			a.mu.Unlock()
			put()
			return false
		}
		a.mu.Lock()
		a.applied = to
		a.mu.Unlock()
		a.p.push(&runtime.StoreApplied{Seq: to})
		a.moved.fire()
	}
	if want > synced {
		d, err := a.p.m.cfg.Store.Sync(ctx, a.p.n)
		if err != nil {
			return false
		}
		a.mu.Lock()
		a.synced = d
		a.mu.Unlock()
		a.p.trim.nudge()
	}
	return true
}
