package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// An applier brings durable records into the store, in log order, for one
// term. It may lag: the core's overlay answers for what is not there yet. A
// store that has fallen back is brought up to date from the log again, as far
// as that reaches back.
type applier struct {
	p    *partition
	stop context.CancelFunc // nil when it never began
	over chan struct{}      // closed when run has ended

	mu         sync.Mutex
	changes    []runtime.StoreChange
	busy       bool   // changes were taken and are not in the store yet
	upTo       uint64 // everything up to here is in changes or in the store
	unread     uint64 // what the log says up to here was not taken into changes
	needs      uint64 // the log begins behind this change: a store that lacks it is lost
	lastChange uint64 // position of the last change of all
	applied    uint64
	known      bool // applied is what the store said
	synced     uint64
	want       uint64 // somebody wants this to be durable in the store
	// nextSync is before when the store is not asked again how far that is.
	nextSync time.Time
	lost     *runtime.Error // state is missing that the log no longer holds
	lostAt   uint64         // where the store was then
	bound    uint64         // the store can be no further, see isAhead
	from     uint64         // offset at which the log begins to count
	wake     chan struct{}
	moved    *signal // applied has grown
	trouble  trouble
}

func newApplier(p *partition) *applier {
	return &applier{p: p, wake: make(chan struct{}, 1), moved: newSignal(), over: make(chan struct{})}
}

// startApplier replaces the applier by one for the term that begins.
func (p *partition) startApplier(ctx context.Context, t *term) {
	p.stopApplier()
	a := newApplier(p)
	a.needs, a.lastChange = t.needs, t.core.LastChange()
	a.changes, a.applied, a.upTo = t.changes, t.applied, max(t.applied, t.core.Seq())
	a.bound, a.from = t.before, t.begins
	a.known = t.stored && t.applied >= a.needs && !t.unread
	if t.unread {
		a.unread = t.core.Seq()
	}
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.applier.Store(a)
	a.signal()
	p.m.watches.Go(func() { a.run(ctx) })
}

// stopApplier lets the term's applier end: what is durable is brought into the
// store as far as one more try gets; the rest is the next owner's.
func (p *partition) stopApplier() {
	if a := p.applier.Load(); a.stop != nil {
		a.stop()
	}
}

// add takes the changes of durable records; seq is the last durable record.
func (a *applier) add(changes []runtime.StoreChange, seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range changes {
		a.lastChange = max(a.lastChange, changes[i].Seq)
		if changes[i].Seq > a.upTo { // else it was read from the log already
			a.changes = append(a.changes, changes[i])
		}
	}
	wanted := a.upTo < a.want && seq >= a.want
	a.upTo = max(a.upTo, seq)
	if len(a.changes) > 0 || wanted {
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
	if a.lost != nil {
		return false // the log is the only place where some of it may still be
	}
	if a.synced >= min(seq, a.lastChange) {
		return true // what came since means nothing for the store
	}
	if seq > a.want { // else it is asked about already
		a.want = seq
		a.signal()
	}
	return false
}

// distrust lets what the store has said so far count for nothing: it may have lost since
// what it held then. Who wants to know asks it anew.
func (a *applier) distrust() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.synced = 0
}

// askAgain is when the store is to be asked again whether it holds what is
// wanted for good; nil for not at all.
func (a *applier) askAgain() <-chan time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.want <= a.synced || a.upTo < a.want {
		return nil
	}
	return time.After(time.Until(a.nextSync))
}

// missing is set while state is missing that nobody can bring back but an
// operator.
func (a *applier) missing() *runtime.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost
}

// saw notes where the store was when somebody read it: when it has fallen back
// it is healed before anything else is written, and when it is ahead of the log, that
// is found out.
func (a *applier) saw(applied uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known && (applied < a.applied || a.isAhead(applied)) && a.lost == nil {
		a.elsewhere(applied)
		a.signal()
	}
}

// elsewhere notes that the store is not where it was thought to be: where it is has to be
// asked, and the log keeps what it may lack. a.mu is held.
func (a *applier) elsewhere(got uint64) {
	a.known, a.synced = false, min(a.synced, got)
}

// caughtUp waits until the store holds every change that was durable at the
// call: for as long as a store that works needs. It then was at that position.
func (a *applier) caughtUp(ctx context.Context) (at uint64, err error) {
	late := time.NewTimer(storePatience)
	defer late.Stop()
	target := uint64(0)
	for {
		moved := a.moved.wait()
		a.mu.Lock()
		if target == 0 {
			target = a.upTo
		}
		done := a.known && (a.applied >= target || len(a.changes) == 0 && !a.busy)
		lost := a.lost
		at = a.applied
		a.mu.Unlock()
		switch {
		case lost != nil:
			return 0, lost
		case done:
			return at, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-a.over:
			return 0, runtime.Errorf(runtime.CodeAskAgain, "the partition has another owner")
		case <-late.C:
			return 0, runtime.Errorf(runtime.CodeStoreAway, "the store does not hold all that was decided yet")
		case <-moved:
		}
	}
}

const (
	// storeRetry is how long a store whose state is lost is left alone.
	storeRetry = time.Second
	// syncPause is how long a store that does not hold for good what is wanted
	// is not asked again. Some can say it only after minutes.
	syncPause = 500 * time.Millisecond
)

func (a *applier) run(ctx context.Context) {
	defer close(a.over)
	for {
		select {
		case <-a.askAgain():
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), storePatience)
			a.step(last)
			cancel()
			return
		case <-a.wake:
		}
		for again := a.p.m.patience(); !a.step(ctx); {
			if !again.wait(ctx) {
				return
			}
		}
		if a.trouble.over(a.p.logger, "the store takes changes again") {
			a.p.m.turns.back.fire()
		}
	}
}

// step applies what is there; false means that it is to be tried again.
func (a *applier) step(ctx context.Context) bool {
	defer a.moved.fire()
	if !a.locate(ctx) {
		return false
	}
	a.mu.Lock()
	changes, from, to := a.changes, a.applied, a.upTo
	want, lost := a.want, a.lost
	ask := want > a.synced && to >= want && !time.Now().Before(a.nextSync)
	if lost == nil {
		a.changes, a.busy = nil, true
	}
	a.mu.Unlock()
	if lost != nil {
		return pauseFor(ctx, storeRetry) && false // until somebody has restored the store
	}
	defer func() {
		a.mu.Lock()
		a.busy = false
		a.mu.Unlock()
	}()
	if len(changes) > 0 || ask && want > from {
		if !a.write(ctx, changes, from, to) {
			return false
		}
	}
	if ask {
		d, err := a.p.m.cfg.Store.Sync(ctx, a.p.n)
		if err != nil {
			return false
		}
		a.mu.Lock()
		a.synced = min(d, a.applied)
		safe := a.synced >= want
		if !safe {
			a.nextSync = time.Now().Add(syncPause)
		}
		a.mu.Unlock()
		if safe {
			a.p.trim.nudge()
		}
	}
	return true
}

// write applies the changes; they wait when that fails.
func (a *applier) write(ctx context.Context, changes []runtime.StoreChange, from, to uint64) bool {
	var writes []runtime.Mutation
	for _, c := range changes {
		writes = append(writes, c.Writes...)
	}
	a.reaches(to)
	got, err := a.p.m.cfg.Store.Apply(ctx, a.p.n, from, to, writes)
	a.p.m.heardStore(ctx, a.p.n, err)
	a.mu.Lock()
	switch {
	case err != nil:
		a.trouble.say(a.p.logger, "the store does not take changes; they wait", err)
		a.changes = append(changes, a.changes...)
	case got == to:
		a.applied = to
	default:
		a.p.logger.Warn("the store is elsewhere", "applied", got, "expected", from)
		a.changes = append(changes, a.changes...)
		a.elsewhere(got)
	}
	ok := err == nil && got == to
	a.mu.Unlock()
	if ok {
		a.p.push(&runtime.StoreApplied{Seq: to})
	}
	return ok
}

// locate finds out where the store is, when that is not known: ahead of what
// was expected (an earlier owner's last writes), or behind (it has lost
// something, and the log is read again for it).
func (a *applier) locate(ctx context.Context) bool {
	a.mu.Lock()
	known, begin, unread := a.known, max(a.applied, a.needs, a.unread), a.unread > 0
	lost, lostAt := a.lost, a.lostAt
	a.mu.Unlock()
	if known {
		return true
	}
	got, err := a.p.m.cfg.Store.Applied(ctx, a.p.n)
	if err != nil {
		a.p.m.heardStore(ctx, a.p.n, err)
		a.trouble.say(a.p.logger, "the store does not answer; changes wait", err)
		return false
	}
	if lost != nil && got <= lostAt {
		return true
	}
	a.mu.Lock()
	ahead := a.isAhead(got)
	a.mu.Unlock()
	if ahead {
		a.p.doubt(ctx, a, got)
		return false
	}
	var again []runtime.StoreChange
	if got < begin {
		if !unread {
			a.p.logger.Warn("the store has fallen back and is brought up to date from the log", "applied", got, "expected", begin)
		}
		t := a.p.newTerm()
		defer t.drop()
		if err := t.heal(ctx, a.from, got, a.reaches); errors.Is(err, errBehind) {
			a.lose(got, t.needs)
			return true
		} else if err != nil {
			a.trouble.say(a.p.logger, "the store cannot be brought up to date from the log", err)
			return false
		}
		again, got = t.changes, t.applied
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	keep := again
	last := got
	if n := len(again); n > 0 {
		last = again[n-1].Seq
	}
	for _, c := range a.changes {
		if c.Seq > last {
			keep = append(keep, c)
		}
	}
	a.changes, a.applied, a.known, a.lost, a.unread = keep, got, true, nil, 0
	a.synced = min(a.synced, got)
	a.upTo = max(a.upTo, last)
	a.p.push(&runtime.StoreApplied{Seq: got})
	return true
}

// isAhead tells that the store is further than the log was when this gateway claimed the
// partition, and than it has brought it since. Another one may have claimed it, or the log
// has lost its end; a.mu is held.
func (a *applier) isAhead(applied uint64) bool { return a.p.m.cfg.Shared != nil && applied > a.bound }

// reaches notes that the store may be brought so far.
func (a *applier) reaches(to uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bound = max(a.bound, to)
}

// doubt has the loop prove that this gateway still is the owner. If it is, the log has lost
// what the store holds: the term ends, and who takes the partition next compares the two
// before anything else is decided.
func (p *partition) doubt(ctx context.Context, a *applier, got uint64) {
	p.order(ctx, func(ctx context.Context) {
		if p.applier.Load() != a || p.core == nil {
			return
		}
		p.turn(ctx, []runtime.Input{&runtime.Prove{}})
		if p.applier.Load() != a || p.core == nil {
			return
		}
		a.mu.Lock()
		bound := a.bound
		a.mu.Unlock()
		p.logger.Error("the log has lost records: the store holds what was decided later; the partition stops", "log", bound, "store", got)
		p.end()
		p.m.gone(p)
	})
}

// lose says by name that state is missing; it is refused, never shown as empty.
func (a *applier) lose(applied, needs uint64) {
	err := runtime.Errorf(runtime.CodeStateLost, "the store of partition %d is complete up to record %d, but the log begins behind the change of record %d: state in between is lost", a.p.n, applied, needs)
	a.mu.Lock()
	news := a.lost == nil
	a.lost, a.lostAt, a.known = err, applied, false
	a.mu.Unlock()
	if news {
		a.p.logger.Error("state is refused until the store is restored", "error", err)
	}
}

// piece is about how many bytes of changes are read from a log at a time.
const piece = 8 << 20

func changeSize(c *runtime.StoreChange) (bytes int64) {
	for i := range c.Writes {
		bytes += int64(len(c.Writes[i].Key) + len(c.Writes[i].Value) + 100)
	}
	return bytes
}

// errBehind: the log begins behind a change that the store lacks.
var errBehind = errors.New("the log does not reach back to where the store is")

// heal folds the log anew, from where it counts, for what it says to the store behind a
// position, and brings it there in pieces; the last one is left in changes.
func (t *term) heal(ctx context.Context, from, behind uint64, reaches func(uint64)) error {
	t.applied = behind
	store := t.p.m.cfg.Store
	enough := func() error { // what the log begins with may turn out not to count
		if t.first != 0 && t.applied < t.needs {
			return errBehind
		}
		return nil
	}
	err := t.visit(ctx, from, func() error {
		if t.core.Ahead() > piece {
			t.core.StoreHas() // this core is never asked
		}
		if t.size <= piece {
			return nil
		}
		if err := enough(); err != nil {
			return err
		}
		var writes []runtime.Mutation
		to := t.changes[len(t.changes)-1].Seq
		for _, c := range t.changes {
			writes = append(writes, c.Writes...)
		}
		reaches(to)
		got, err := store.Apply(ctx, t.p.n, t.applied, to, writes)
		switch {
		case err != nil:
			return err
		case got != to:
			return runtime.Errorf(runtime.CodeStoreAway, "it is at %d in place of %d", got, to)
		}
		t.changes, t.size, t.applied = nil, 0, to
		return nil
	})
	if err != nil {
		return err
	}
	return enough()
}
