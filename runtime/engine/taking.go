package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A plan is what is to be done about a partition now.
type plan struct {
	step runtime.OwnershipStep
	own  ownership // of whom it is to be taken
}

// plan asks the rule.
func (o *ownerLoop) plan(p uint16) plan {
	own := o.m.dir.of(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	live, complete := o.liveLocked()
	if by := o.taking[p]; own.node != o.m.cfg.Node && by != "" && contains(live, by) {
		own.node = by
	}
	now := time.Now()
	v := runtime.OwnershipView{Partition: p, Me: o.m.cfg.Node, Live: live, Owner: own.node, Complete: complete, Lease: int64(o.m.cfg.Shared.Lease), Stale: !o.failing.IsZero()}
	if v.Cut, v.Apart = o.cutLocked(now); len(v.Cut) > 0 {
		v.Met = o.met || len(o.m.dir.ofNode(o.m.cfg.Node)) > 0
	}
	if since, found := o.vacant[p]; !v.Vacated() {
		delete(o.vacant, p)
	} else if !found {
		o.vacant[p] = now
	} else {
		v.Vacant = int64(now.Sub(since))
	}
	x := plan{own: own}
	if len(live) > 0 && !o.paused && !o.idleLocked() && o.m.part(p).stands.Load() == nil {
		x.step = runtime.NextOwnershipStep(&v)
	}
	if d := o.doubts[p]; x.step == runtime.OwnershipClaim && now.Before(d.until) && !o.isDead(d.node) {
		x.step = runtime.OwnershipKeep
	}
	return x
}

// try takes a partition, if that is still wanted when its turn has come.
func (o *ownerLoop) try(ctx context.Context, p uint16) {
	claimed := false
	defer func() {
		o.mu.Lock()
		delete(o.busy, p)
		o.mu.Unlock()
		if claimed {
			o.m.tellOwns()
		}
	}()
	free := func() {}
	began := time.Now()
	var start uint64
	err := o.inTime(ctx, p, func(ctx context.Context) (err error) {
		start, _, err = o.m.part(p).log.Bounds(ctx)
		return err
	})
	if err == nil {
		began = time.Time{} // else it would wait for the log in its turn
		select {
		case o.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		free = sync.OnceFunc(func() { <-o.slots })
		defer free()
		x := o.plan(p)
		if x.step == runtime.OwnershipKeep {
			return
		}
		if x.step == runtime.OwnershipClaim {
			claimed = true
			o.mu.Lock()
			o.busy[p] = true
			o.mu.Unlock()
			o.m.tellOwns()
		}
		err = o.take(ctx, p, start, x, free)
	}
	o.reached(p, err)
	if ctx.Err() == nil {
		o.fails(p, began, err)
	}
	if err != nil && ctx.Err() == nil {
		o.m.cfg.Logger.Debug("a partition was not taken", "partition", p, "error", err)
		if is(err, runtime.CodeNewerFormat) {
			o.setUnfit(err)
		}
		free()
		if is(err, runtime.CodeDamaged) {
			o.m.part(p).damaged(err)
			pauseFor(ctx, damagedPause)
		}
		pauseFor(ctx, o.m.cfg.Shared.Lease/16)
	}
}

// reached notes whether the log of a partition answered.
func (o *ownerLoop) reached(p uint16, err error) {
	var unknown *runtime.UnknownError
	away := is(err, runtime.CodeKafkaUnreachable) || errors.As(err, &unknown) || errors.Is(err, context.DeadlineExceeded)
	o.mu.Lock()
	was := o.noneAnswers()
	if away {
		if o.away[p].IsZero() {
			o.inRow++
		}
		o.away[p] = time.Now()
		if !was {
			o.tried = o.away[p]
		}
	} else {
		o.inRow = 0
		delete(o.away, p)
	}
	o.mu.Unlock()
	if was && !away {
		o.nudge()
	}
}

// damagedPause is how long a log that has lost something is left alone: only an
// operator can mend it.
const damagedPause = 10 * time.Second

// damaged says by name that nobody can own the partition.
func (p *partition) damaged(err error) {
	if old := p.down.Load(); old == nil || old.Detail != asError(err).Detail {
		p.logger.Error("the partition has no owner until its log is restored", "error", err)
	}
	p.down.Store(asError(err))
}

// take reads the log of a partition, which began at start a moment ago, has its
// owner hand it over when there is a living one, and claims it. It frees its turn
// when it has read.
func (o *ownerLoop) take(ctx context.Context, n uint16, start uint64, x plan, free func()) error {
	p, began := o.m.part(n), time.Now()
	t, err := p.read(ctx, start)
	if err != nil {
		return err
	}
	mine := true // the loop's from the order on, whether or not anybody waits for that
	defer func() {
		if mine {
			t.drop()
		}
	}()
	o.mu.Lock()
	listed := o.listed
	o.mu.Unlock()
	if !listed {
		free()
		if err := t.quiet(ctx, 2*o.m.cfg.Shared.Lease); err != nil {
			return err
		}
	}
	if err := o.leave(ctx, p); err != nil {
		return err
	}
	if x.step == runtime.OwnershipClaim {
		if leave, err := o.doubt(n, x.own.epoch, t.core); err != nil {
			return err
		} else if leave {
			return errDeposed
		}
	}
	if x.step == runtime.OwnershipAsk {
		if o.ahead(n, x.own, t.core.Epoch()) {
			return runtime.Errorf(runtime.CodeForeign, "the log ends in term %d, and the gateway %s says that it owns the partition in term %d: its log is another one, or this one has lost records", t.core.Epoch(), x.own.node, x.own.epoch)
		}
		if err := o.proof(ctx, p); err != nil {
			return err
		}
		ask := &Op{Partition: n, Epoch: t.core.Epoch(), HandOver: &HandOverOp{}}
		if res, err := o.m.peers.Ask(ctx, x.own.node, ask); err != nil {
			return err
		} else if res.Err != nil {
			return res.Err
		}
	}
	free() // a claim that has no answer is repeated for long
	if err := o.claim(ctx, t); err != nil {
		return err
	}
	if !runtime.AnswersAtOnce(x.step, x.own.epoch, t.core.Epoch()) {
		pauseFor(ctx, time.Until(t.claimed.Add(o.m.afterClaim())))
	}
	var begun error
	mine = false
	begin := func(ctx context.Context) {
		if begun = p.begin(ctx, t, began); begun != nil {
			t.drop()
		}
	}
	if !p.order(ctx, begin) {
		return ctx.Err()
	}
	if begun == nil {
		o.m.tally.taken(x.step, time.Since(began))
		o.m.cfg.Logger.Debug("partition taken", "partition", n, "epoch", t.core.Epoch(), "in", time.Since(began).Round(time.Millisecond))
	}
	return begun
}

// leave ends an earlier term of this gateway, which its loop may not know to be over: it
// may be at a batch of unknown fate, behind which nothing else may be sent.
func (o *ownerLoop) leave(ctx context.Context, p *partition) error {
	if !p.owning.Load() {
		return nil
	}
	return o.inTime(ctx, p.n, func(ctx context.Context) error {
		if !p.order(ctx, func(context.Context) {
			if ctx.Err() == nil {
				p.end()
			}
		}) {
			return ctx.Err()
		}
		return nil
	})
}

// proof has a gateway that does not know whether it can write find out before an owner
// gives something away for it.
func (o *ownerLoop) proof(ctx context.Context, p *partition) error {
	if o.m.lands.proven() {
		return nil
	}
	began := time.Now()
	err := o.inTime(ctx, p.n, func(ctx context.Context) error { return o.m.tryWrite(ctx, p) })
	if err != nil {
		return &writeError{began, err}
	}
	return nil
}

// inTime does one thing on the way to owning a partition, and gives it up in time when
// another gateway might do better.
func (o *ownerLoop) inTime(ctx context.Context, p uint16, do func(context.Context) error) error {
	lease, began := int64(o.m.cfg.Shared.Lease), time.Now()
	limit := 2 * runtime.WritePatience(true, lease) // for slow logs
	if o.heir(p) {
		limit = runtime.WritePatience(false, lease)
	}
	ask, cancel := context.WithTimeout(ctx, time.Duration(limit))
	defer cancel()
	err := do(ask)
	if err != nil && ask.Err() != nil && ctx.Err() == nil {
		return &writeError{began, err}
	}
	return err
}

// claim claims. What was sent and given up may land later: the log judges that as it
// does any claim.
func (o *ownerLoop) claim(ctx context.Context, t *term) error {
	return o.inTime(ctx, t.p.n, t.claim)
}

// unstuck notes that nothing keeps this gateway from taking a partition, or that it
// does not want it.
func (o *ownerLoop) unstuck(p uint16) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.stuck, p)
}

// cannotWrite tells that something failed for a reason that others might not have.
func cannotWrite(err error) bool {
	var write *writeError
	var unknown *runtime.UnknownError
	return errors.As(err, &write) || errors.As(err, &unknown) || is(err, runtime.CodeKafkaUnreachable) || is(err, runtime.CodeKafkaPermission)
}

// fails notes whether a partition could not be taken for a reason that others might not
// have, and leaves it to them when that has lasted. What failed began then, if that is
// known.
func (o *ownerLoop) fails(p uint16, began time.Time, err error) {
	if !cannotWrite(err) {
		o.unstuck(p)
		return
	}
	var write *writeError
	if errors.As(err, &write) {
		began = write.began
	} else if began.IsZero() {
		began = time.Now()
	}
	o.mu.Lock()
	since, found := o.stuck[p]
	if !found || began.Before(since) {
		since = began
	}
	o.stuck[p] = since
	o.mu.Unlock()
	switch o.m.writeStep(p, false, since) {
	case runtime.WriteUnfit:
		o.setUnfit(err)
	case runtime.WriteShun:
		o.unstuck(p)
		o.shun(p, err)
	}
}

// errUnlisted keeps a gateway that has never read the list of gateways, because
// the store is away since before it began, from a war with owners that it
// cannot know.
var errUnlisted = errors.New("the list of gateways was never read, and another gateway owns what this one claimed")

// quiet tells whether nobody writes to the log: an owner with hosts or requests
// does at least once in a proofAge.
func (t *term) quiet(ctx context.Context, wait time.Duration) error {
	end := t.next
	if !pauseFor(ctx, wait) {
		return ctx.Err()
	}
	if err := t.to(ctx, t.next); err != nil {
		return err
	}
	if t.next != end {
		return errDeposed
	}
	return nil
}

// handOver gives a partition to the node that asks for it.
func (o *ownerLoop) handOver(n uint16, to string, read uint64, reply func(*Result)) {
	p := o.m.part(n)
	may := func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		v := runtime.OwnershipView{Partition: n, Me: o.m.cfg.Node}
		v.Live, _ = o.liveLocked()
		_, v.Apart = o.cutLocked(time.Now())
		return runtime.MayHandOver(&v, to, p.epoch.Load(), read)
	}
	if !may() {
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotOwner, "partition %d is not given to that gateway: it is not the one that should have it, or it has not found term %d at the end of its log", n, p.epoch.Load())})
		return
	}
	if o.m.dir.of(n).node != o.m.cfg.Node {
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotOwner, "this gateway does not own partition %d", n)})
		return
	}
	if o.m.life.Err() != nil {
		reply(&Result{Err: runtime.Errorf(runtime.CodeAskAgain, "this gateway stops")})
		return
	}
	o.m.watches.Go(func() {
		ctx, cancel := context.WithTimeout(o.m.life, o.m.cfg.Shared.Lease)
		defer cancel()
		given := false
		done := p.order(ctx, func(context.Context) {
			if given = ctx.Err() == nil && may(); given { // else the asker was told no
				p.end()
				o.m.gone(p)
			}
		})
		if !done || !given {
			reply(&Result{Err: runtime.Errorf(runtime.CodeAskAgain, "partition %d is busy", n)})
			return
		}
		o.m.tally.given.Add(1)
		reply(&Result{})
	})
}
