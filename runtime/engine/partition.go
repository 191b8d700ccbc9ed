package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A partition is one core and the loop that feeds it. Inputs gather while a
// round is being made durable; then all of them are decided at once, their
// records go out in one append, and only then their effects are carried out.
type partition struct {
	m       *Mesh
	n       uint16
	log     runtime.Log
	sending chan struct{} // holds who is at an append
	logger  *slog.Logger
	applier atomic.Pointer[applier] // of the term, or of the last one
	lookups lookups
	bodies  bodyReader

	// The loop's alone.
	core     *runtime.Core // nil without a term
	next     uint64        // offset at which the next round should land
	proof    stamp         // when the last append that came back in place was sent
	lastTick time.Time
	unsure   bool // some try of the round's append has an unknown outcome
	trim     trimmer
	share    share
	trouble  trouble // with the log
	places   *places // of the term

	orders chan func(context.Context) // for the loop

	mu     sync.Mutex
	inputs []runtime.Input // nil where an asker has gone
	gaps   int             // how many are nil, since the queue was last taken
	debts  []debt          // of what is in inputs
	queued map[any]bool    // what is in inputs that is sent again while it has no answer
	closed bool
	wake   chan struct{}

	line line // the loop's alone
	pace

	epoch atomic.Uint64
	level atomic.Int64 // of the records in the log
	// owning is set while there is a term, whether it is over or not.
	owning   atomic.Bool
	gens     sync.Map // app → generation, a hint
	stats    atomic.Pointer[partStats]
	saidLost uint64                        // the term for which it was said that a later one was lost; the loop's
	down     atomic.Pointer[runtime.Error] // why the partition does not work now
	count    partStats
	// oldest is since when everything is in the log, Unix ms; 0 when that is not known.
	oldest    atomic.Int64
	front     atomic.Uint64          // up to which offset this node knows the log to be cut
	full      atomic.Pointer[noRoom] // nil since an append succeeded
	appending atomic.Int64           // when the append in flight was first sent, Unix ms; 0 when there is none
}

type partStats struct {
	appends, records, bytes, trims uint64
	appendTime, recovery           time.Duration
	counts                         runtime.Counts // of the term's core, the reading of the log included
	read, past                     runtime.Counts // at the term's begin; of the terms before it
}

func newPartition(m *Mesh, n uint16, log runtime.Log) *partition {
	p := &partition{
		m: m, n: n, log: log, sending: make(chan struct{}, 1), wake: make(chan struct{}, 1), queued: map[any]bool{}, orders: make(chan func(context.Context), 4),
		logger: m.cfg.Logger.With("partition", n),
	}
	p.applier.Store(newApplier(p))
	p.left.Store(newLeave())
	p.trim.p, p.bodies.p = p, p
	p.share.of = &m.memory
	p.stats.Store(&partStats{})
	return p
}

// push hands an input to the loop. It never blocks: what comes from outside is
// bounded at the door.
func (p *partition) push(ins ...runtime.Input) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		for _, in := range ins {
			refuseInput(in, runtime.Errorf(runtime.CodeShutdown, "the gateway is stopping"))
		}
		return
	}
	first := len(p.inputs) == 0
	for _, in := range ins {
		if x := runtime.AskedAgain(in); x != nil {
			if p.queued[x] {
				continue
			}
			p.queued[x] = true
		}
		if w := waiterOf(in); w != nil {
			w.at = len(p.inputs)
		}
		p.inputs = append(p.inputs, in)
	}
	p.mu.Unlock()
	if first {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

func (p *partition) take(spare []runtime.Input) []runtime.Input {
	p.mu.Lock()
	defer p.mu.Unlock()
	ins := p.inputs
	p.inputs, p.gaps = spare[:0], 0
	clear(p.queued)
	p.settle()
	return ins
}

// maxTick is the longest time without a tick under constant load.
const maxTick = 200 * time.Millisecond

func (p *partition) run(ctx context.Context) {
	var spare []runtime.Input
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.step(loopIdle)
		select {
		case <-ctx.Done():
			p.stop()
			return
		case order := <-p.orders:
			p.step(loopWorks)
			order(ctx)
		case <-p.wake:
		case <-timer.C:
		}
		for {
			ins := p.take(spare)
			p.line.add(ins)
			clear(ins)
			spare = ins
			empty := p.line.empty()
			for more := !empty; more; more = p.line.others() > 0 {
				round := p.line.next()
				p.turn(ctx, round)
				for _, in := range round {
					if w := waiterOf(in); w != nil {
						w.decided()
					}
				}
				clear(round)
			}
			if empty || len(p.orders) > 0 || time.Since(p.lastTick) > maxTick {
				break
			}
		}
		p.lastTick = time.Now()
		p.turn(ctx, p.ticks())
		wait := time.Hour // no term: nothing to do by itself
		if p.core != nil {
			wait = time.Duration(max(p.core.Due(p.m.now()), 1)) * time.Millisecond
			if p.m.cfg.Shared != nil && p.core.Attended() {
				wait = min(wait, p.m.proofAge())
			}
			if keep := p.m.cfg.LogRetention; keep > 0 {
				wait = min(wait, keep/16)
			}
		}
		if !p.line.empty() {
			wait = 0
		}
		timer.Reset(wait)
		if p.pending() {
			p.trim.nudge()
		}
	}
}

// ticks are the inputs of a round that nobody asked for. An owner that somebody
// relies on finds out now and then whether it still is one.
func (p *partition) ticks() []runtime.Input {
	if p.core == nil {
		return nil
	}
	if p.core.Attended() && !p.proven() {
		return []runtime.Input{&runtime.Tick{}, &runtime.Prove{}}
	}
	return []runtime.Input{&runtime.Tick{}}
}

func (p *partition) pending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.inputs) > 0
}

// turn is a round, and what follows when it fails.
func (p *partition) turn(ctx context.Context, ins []runtime.Input) {
	p.step(loopWorks)
	if err := p.round(ctx, ins); err != nil {
		p.repair(ctx, err)
	}
}

// order has the loop do something between two rounds, and waits for it.
func (p *partition) order(ctx context.Context, do func(context.Context)) bool {
	done := make(chan struct{})
	select {
	case p.orders <- func(ctx context.Context) { defer close(done); do(ctx) }:
	case <-ctx.Done():
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// stop ends the loop: waiters are told, nothing that was not durable is shown.
func (p *partition) stop() {
	p.mu.Lock()
	p.closed = true
	p.line.add(p.inputs)
	p.inputs = nil
	p.settle()
	p.mu.Unlock()
	for _, in := range p.line.rest() {
		refuseInput(in, runtime.Errorf(runtime.CodeShutdown, "the gateway is stopping"))
	}
}

// stopWaiters answers those who still wait when the loop has ended.
func (p *partition) stopWaiters() {
	if p.core == nil {
		return
	}
	p.core.StepDown()
	_, effects := p.core.Take()
	for i := range effects {
		if e := &effects[i]; e.Kind == runtime.Reply && e.Err != nil && e.Err.Code == runtime.CodeAskAgain {
			e.Err = &runtime.Error{Code: runtime.CodeUnknownOutcome, Detail: "the gateway stopped while the request was under way; it goes on when a gateway runs", ID: e.Err.ID}
			p.reply(e)
		}
	}
}

// round decides inputs, makes the records durable, and lets the effects out.
func (p *partition) round(ctx context.Context, ins []runtime.Input) error {
	if p.core == nil {
		p.refuseAll(ins)
		return nil
	}
	now := p.m.now()
	if p.m.memory.limit > 0 {
		spare := p.m.memory.spare()
		for _, in := range ins {
			if s, ok := in.(*runtime.Submit); ok {
				spare += int64(len(s.Request.Body)) // what is decided now does not stand in its own way
			}
		}
		p.core.SetSpare(spare, p.m.memory.limit)
	}
	p.core.SetRecordLimit(p.recordLimit())
	p.core.SetRoom(p.m.memory.room - p.m.memory.ahead.Load())
	var err error
	if p.proven() {
		err = p.readFirst(now, ins)
	} else {
		err = p.decide(now, ins, false) // answered behind this round's append
	}
	if err == nil {
		err = p.decide(now, ins, true)
	}
	if err == nil && p.core.Pending() == 0 && p.core.Answers() && !p.proven() {
		p.core.Step(now, &runtime.Prove{})
	}
	records, effects := p.core.Take()
	if err == nil && len(records) > 0 {
		err = p.append(ctx, records)
	}
	if err != nil {
		p.fail(ins, effects, err)
		return err
	}
	p.applier.Load().add(p.core.TakeChanges(), p.core.Seq())
	p.trim.landed()
	p.level.Store(int64(p.core.LogLevel()))
	p.count.counts = p.core.Counts
	snapshot := p.count
	p.stats.Store(&snapshot)
	p.weigh()
	for i := range effects {
		p.carryOut(&effects[i])
	}
	if p.unsure { // an earlier try may still be on its way, with these bytes
		p.unsure, records = false, nil
	}
	p.core.Recycle(records, effects)
	return nil
}

// refuseAll answers what comes while this node does not own the partition, or
// cannot work on it.
func (p *partition) refuseAll(ins []runtime.Input) {
	err := runtime.Errorf(runtime.CodeNotOwner, "this gateway does not own partition %d", p.n)
	if down := p.down.Load(); down != nil {
		err = runtime.Errorf(runtime.CodeUnavailable, "the partition cannot work now: %s", down.Detail)
	}
	for _, in := range ins {
		refuseInput(in, err)
	}
}

// readFirst answers the round's reads before anything of the round is decided:
// all that they can see is durable then, so they need not wait for its append.
func (p *partition) readFirst(now runtime.Now, ins []runtime.Input) error {
	if err := p.decide(now, ins, false); err != nil {
		return err
	}
	if p.core.Pending() > 0 {
		return nil // something else came up; the reads wait with it
	}
	records, effects := p.core.Take()
	for i := range effects {
		p.carryOut(&effects[i])
	}
	p.core.Recycle(records, effects)
	return nil
}

// decide steps the core: with the inputs that may change something, or with the
// others. A rule that panics refuses the input that caused it;
// the core may then be half changed, so the partition is rebuilt from its log,
// in which nothing of this round is.
func (p *partition) decide(now runtime.Now, ins []runtime.Input, changes bool) (err error) {
	var current runtime.Input
	defer func() {
		if r := recover(); r != nil {
			p.logger.Error("a rule failed", "input", fmt.Sprintf("%T", current), "panic", r, "stack", stack())
			if current != nil {
				refuseInput(current, runtime.Errorf(runtime.CodeInternal, "the request could not be decided"))
			}
			for _, in := range ins { // those that were not reached; answered ones ignore it
				refuseInput(in, runtime.Errorf(runtime.CodeUnavailable, "the partition is being rebuilt"))
			}
			err = runtime.Errorf(runtime.CodeInternal, "a rule failed: %v", r)
		}
	}()
	for _, current = range ins {
		if runtime.OnlyReads(current) != changes {
			p.core.Step(now, current)
		}
	}
	current = nil
	if changes {
		p.trim.decide(now)
	}
	return nil
}

// fail throws the round away: nothing of it is in the log, or, when the engine
// stops while an append is unknown, perhaps all of it. An outcome belongs to a
// request that was accepted before, so whoever waits for it asks again.
func (p *partition) fail(ins []runtime.Input, effects []runtime.Effect, cause error) {
	refusal := runtime.CodeUnavailable
	var surrender *surrenderError
	switch {
	case errors.Is(cause, errDeposed):
		refusal = runtime.CodeNotOwner // nothing of the round counts
		if p.unsure {
			refusal = runtime.CodeAskAgain // an earlier try may have come before the other's claim
		}
	case errors.As(cause, &surrender):
		refusal = runtime.CodeAskAgain // the next owner knows
	default:
		if p.unsure {
			refusal = runtime.CodeUnknownOutcome // an earlier try may have landed
		}
		if p.m.life.Err() == nil { // else this gateway ends, and nothing is wrong with the partition
			p.down.Store(asError(cause))
		}
	}
	var unknown *runtime.UnknownError
	if errors.As(cause, &unknown) {
		refusal = runtime.CodeUnknownOutcome
	}
	for i := range effects {
		e := &effects[i]
		if e.Kind == runtime.Reply {
			code := refusal
			if e.Outcome != nil {
				code = runtime.CodeAskAgain
			}
			e.Outcome, e.Open, e.Value = nil, false, nil
			e.Err = &runtime.Error{Code: code, Detail: fmt.Sprintf("the log cannot be written: %v", cause), ID: e.ID}
			p.reply(e)
		}
	}
	for _, in := range ins { // calls of this round; the others who wait ask again
		refuseInput(in, runtime.Errorf(refusal, "the log cannot be written: %v", cause))
	}
	p.unsure = false
	p.core.StepDown()
	_, rest := p.core.Take()
	for i := range rest {
		if rest[i].Kind == runtime.Reply {
			p.reply(&rest[i])
		}
	}
	p.core = nil
	p.share.set(0, 0)
}

func asError(err error) *runtime.Error {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e
	}
	return runtime.Errorf(runtime.CodeUnavailable, "%v", err)
}

// repair recovers the partition from its log, again and again until it works or
// another gateway owns it. Meanwhile inputs are refused: nothing of them was accepted.
func (p *partition) repair(ctx context.Context, cause error) {
	var surrender *surrenderError
	switch {
	case errors.Is(cause, errDeposed):
		p.deposed()
		return
	case errors.As(cause, &surrender):
		p.surrender(surrender.step, cause)
		return
	}
	began := time.Now()
	p.logger.Error("the partition stops until its log can be written", "error", cause)
	p.core = nil
	lost := is(cause, runtime.CodeDamaged) // reading again would only hide it
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		if !p.pause(func() bool { return pauseFor(ctx, wait) }) {
			return
		}
		p.refuseAll(append(p.line.rest(), p.take(nil)...)) // what was for the term that has ended
		if lost {
			continue
		}
		err, step := p.recover(ctx), runtime.WriteOn
		if cannotWrite(err) {
			step = p.m.writeStep(p.n, true, began)
		}
		switch {
		case errors.Is(err, errDeposed):
			p.deposed()
			return
		case step != runtime.WriteOn:
			p.surrender(step, err)
			return
		case err != nil:
			p.down.Store(asError(err)) // what is wrong now
			p.trouble.say(p.logger, "the partition cannot be recovered yet", err)
			continue
		}
		p.trouble.over(p.logger, "the partition works again")
		p.m.turns.back.fire()
		return
	}
}

// deposed ends a term that another gateway has ended.
func (p *partition) deposed() {
	p.logger.Debug("another gateway has claimed the partition")
	p.end()
	o := p.m.owned
	if o == nil {
		return
	}
	o.mu.Lock()
	o.lost++
	o.ousted[p.n] = true
	listed := o.listed
	o.mu.Unlock()
	if !listed {
		o.setUnfit(errUnlisted)
	}
	p.m.gone(p)
}

// surrender ends a term that cannot go on here.
func (p *partition) surrender(step runtime.WriteStep, cause error) {
	p.end()
	p.leaveToOthers(step, cause)
}

func (p *partition) leaveToOthers(step runtime.WriteStep, cause error) {
	if step == runtime.WriteUnfit {
		p.m.owned.setUnfit(cause)
	} else {
		p.m.owned.shun(p.n, cause)
	}
	p.m.gone(p)
}
