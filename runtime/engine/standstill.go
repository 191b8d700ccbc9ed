package engine

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A pace is what others see of a partition's loop. A loop that stands still while
// something waits for it, whatever it stands at, is a log that cannot be written: the
// partition is left to who can serve it. The loop finds that out when it goes on, since
// nothing that it appends in a term that is over counts.
type pace struct {
	steps atomic.Uint64 // that the loop has made
	at    atomic.Int32  // what it is at
	bytes atomic.Int64  // of the append in flight
	// stands is why the partition does not work while the loop stands still.
	stands  atomic.Pointer[runtime.Error]
	judging atomic.Bool
	left    atomic.Pointer[leave]
}

// What a loop is at: it waits for something to do, does it, or waits on purpose.
const (
	loopIdle int32 = iota
	loopWorks
	loopPauses
)

// A leave ends when the partition is left to others while its loop stands still: who
// waits for the loop asks the next owner.
type leave struct {
	ctx context.Context
	end context.CancelFunc
}

func newLeave() *leave {
	ctx, end := context.WithCancel(context.Background())
	return &leave{ctx, end}
}

// step notes that the loop goes on, at something.
func (p *pace) step(at int32) {
	p.at.Store(at)
	p.steps.Add(1)
}

// pause has the loop wait for something that may take long.
func (p *pace) pause(wait func() bool) bool {
	p.step(loopPauses)
	defer p.step(loopWorks)
	return wait()
}

// wanted tells whether something waits for the loop.
func (p *partition) wanted() bool {
	switch p.at.Load() {
	case loopWorks:
		return true
	case loopPauses:
		return false
	}
	if !p.mu.TryLock() {
		return true
	}
	defer p.mu.Unlock()
	return len(p.inputs) > p.gaps || len(p.orders) > 0
}

// mayStand is for how long the loop may be at one thing. An append ends by itself first.
func (p *partition) mayStand() time.Duration {
	lease := p.m.cfg.Shared.Lease
	limit := time.Duration(runtime.WritePatience(true, int64(lease)))
	if p.appending.Load() != 0 {
		limit += lease + time.Duration(p.bytes.Load())*time.Second/slowLink
	}
	return limit
}

// A watchedLoop is what the last look has seen.
type watchedLoop struct {
	steps uint64
	stood time.Duration
}

// look tells for how long the loop has stood with something to do, passed after the
// last look.
func (w *watchedLoop) look(steps uint64, wanted bool, passed time.Duration) time.Duration {
	if steps != w.steps || !wanted {
		*w = watchedLoop{steps: steps}
	} else {
		w.stood += passed
	}
	return w.stood
}

// watchLoops looks at the loops of all partitions. A gateway that stood still as a whole
// counts that time once, so that loops which only were slow with it are not blamed.
func (o *ownerLoop) watchLoops() {
	now, lease := time.Now(), o.m.cfg.Shared.Lease
	passed := min(now.Sub(o.looked), lease/2)
	o.looked = now
	for i, p := range o.m.parts {
		stood := o.loops[i].look(p.steps.Load(), p.wanted(), passed)
		switch {
		case stood >= p.mayStand():
			o.standsStill(p, o.loops[i])
		case stood == 0 && p.stands.Load() != nil:
			p.stands.Store(nil)
			p.push(&runtime.Prove{}) // finds out whether the term is over
			o.tasks.Go(func() {
				o.m.tellOwns()
				o.nudge()
				p.logger.Info("the loop of the partition goes on")
			})
		}
	}
}

// standsStill leaves a partition to others when they could serve it.
func (o *ownerLoop) standsStill(p *partition, w watchedLoop) {
	why, first := p.stands.Load(), false
	if why == nil {
		at := "at something else than its log"
		if p.appending.Load() != 0 {
			at = "at an append"
		}
		why, first = runtime.Errorf(runtime.CodeUnavailable, "the loop of partition %d stands still, %s, for %s", p.n, at, w.stood.Round(time.Millisecond)), true
		p.stands.Store(why)
	}
	if !o.m.mine(p) {
		p.forsake() // who has come since
	}
	if !p.judging.CompareAndSwap(false, true) {
		return
	}
	o.tasks.Go(func() {
		defer p.judging.Store(false)
		if o.m.mine(p) {
			step := o.m.writeStep(p.n, true, time.Now().Add(-w.stood))
			if step != runtime.WriteOn && p.steps.Load() == w.steps {
				p.leaveToOthers(step, why)
				p.forsake()
			}
		}
		if first { // behind it: the log of this gateway may be what stands
			p.logger.Error("the partition does not work here", "error", why)
		}
	})
}

// askOthers is what those are told who wait for a loop that stands still.
func (p *partition) askOthers() *runtime.Error {
	return runtime.Errorf(runtime.CodeAskAgain, "this gateway has left partition %d to others", p.n)
}

// forsake has those who wait for the loop ask again.
func (p *partition) forsake() { p.left.Swap(newLeave()).end() }
