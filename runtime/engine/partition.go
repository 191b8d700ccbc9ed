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
	logger  *slog.Logger
	applier *applier

	core *runtime.Core // the loop's alone
	trim trimmer

	mu     sync.Mutex
	inputs []runtime.Input
	closed bool
	wake   chan struct{}

	epoch atomic.Uint64
	gens  sync.Map // app → generation, a hint
	stats atomic.Pointer[partStats]
	down  atomic.Pointer[runtime.Error] // why the partition does not work now
	count partStats
}

type partStats struct {
	appends, records, bytes, trims uint64
	appendTime, recovery           time.Duration
	counts                         runtime.Counts
}

func newPartition(m *Mesh, n uint16, log runtime.Log) *partition {
	p := &partition{m: m, n: n, log: log, wake: make(chan struct{}, 1), logger: m.cfg.Logger.With("partition", n)}
	p.applier = newApplier(p)
	p.trim.p = p
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
	p.inputs = append(p.inputs, ins...)
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
	p.inputs = spare[:0]
	return ins
}

// maxRound bounds the inputs of one round, so that a long queue is not one
// giant append.
const maxRound = 2000

func (p *partition) run(ctx context.Context) {
	var spare []runtime.Input
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.stop()
			return
		case <-p.wake:
		case <-timer.C:
		}
		for {
			ins := p.take(spare)
			for start := 0; start < len(ins); start += maxRound {
				if err := p.round(ctx, ins[start:min(start+maxRound, len(ins))]); err != nil {
					p.repair(ctx, err)
				}
			}
			empty := len(ins) == 0
			clear(ins)
			spare = ins
			if empty {
				break
			}
		}
		if err := p.round(ctx, []runtime.Input{&runtime.Tick{}}); err != nil {
			p.repair(ctx, err)
		}
		if p.core != nil {
			timer.Reset(time.Duration(max(p.core.Due(p.m.now()), 1)) * time.Millisecond)
		} else {
			timer.Reset(100 * time.Millisecond)
		}
	}
}

// stop ends the loop: waiters are told, nothing that was not durable is shown.
func (p *partition) stop() {
	p.mu.Lock()
	p.closed = true
	rest := p.inputs
	p.inputs = nil
	p.mu.Unlock()
	for _, in := range rest {
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
		err := p.down.Load()
		for _, in := range ins {
			refuseInput(in, runtime.Errorf(runtime.CodeUnavailable, "the partition cannot work now: %s", err.Detail))
		}
		return nil
	}
	now := p.m.now()
	err := p.readFirst(now, ins)
	if err == nil {
		err = p.decide(now, ins, true)
	}
	records, effects := p.core.Take()
	if err == nil && len(records) > 0 {
		err = p.append(ctx, records)
	}
	if err != nil {
		p.fail(ins, effects, err)
		return err
	}
	p.applier.add(p.core.TakeChanges(), p.core.Seq())
	p.count.counts = p.core.Counts
	snapshot := p.count
	p.stats.Store(&snapshot)
	for i := range effects {
		p.carryOut(&effects[i])
	}
	p.core.Recycle(records, effects)
	return nil
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

// append makes the records durable. While the outcome is unknown the same
// bytes go out again and nothing else.
func (p *partition) append(ctx context.Context, records [][]byte) error {
	size := 0
	for _, r := range records {
		size += len(r)
	}
	began := time.Now()
	for {
		first, err := p.log.Append(context.WithoutCancel(ctx), records)
		if err == nil {
			p.count.appends++
			p.count.records += uint64(len(records))
			p.count.bytes += uint64(size)
			p.count.appendTime += time.Since(began)
			p.trim.appended(first, size)
			return nil
		}
		var unknown *runtime.UnknownError
		if !errors.As(err, &unknown) {
			return err
		}
		p.logger.Warn("append outcome unknown, asking again", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fail throws the round away: nothing of it is in the log, or, when the engine
// stops while an append is unknown, perhaps all of it. An outcome belongs to a
// request that was accepted before, so whoever waits for it asks again.
func (p *partition) fail(ins []runtime.Input, effects []runtime.Effect, cause error) {
	p.down.Store(asError(cause))
	refusal := runtime.CodeUnavailable
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
	p.core.StepDown()
	_, rest := p.core.Take()
	for i := range rest {
		if rest[i].Kind == runtime.Reply {
			p.reply(&rest[i])
		}
	}
	p.core = nil
}

func asError(err error) *runtime.Error {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e
	}
	return runtime.Errorf(runtime.CodeUnavailable, "%v", err)
}

// repair recovers the partition from its log, again and again until it works.
// Meanwhile inputs are refused: nothing of them was accepted.
func (p *partition) repair(ctx context.Context, cause error) {
	p.logger.Error("the partition stops until its log can be written", "error", cause)
	p.core = nil
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		for _, in := range p.take(nil) {
			refuseInput(in, runtime.Errorf(runtime.CodeUnavailable, "the log cannot be written: %v", cause))
		}
		if err := p.recover(ctx); err != nil {
			p.logger.Error("the partition cannot be recovered yet", "error", err)
			continue
		}
		p.logger.Info("the partition works again")
		p.m.rejoin()
		return
	}
}

// recover folds the log, claims the partition and starts the term.
func (p *partition) recover(ctx context.Context) error {
	began := time.Now()
	cfg := p.m.cfg
	core := runtime.New(runtime.Config{
		Mesh: cfg.Mesh, Partition: p.n, Partitions: cfg.Partitions, Node: cfg.Node + "/" + NewBoot()[:8],
		Lease: cfg.Lease.Milliseconds(), IDWindow: cfg.IDWindow.Milliseconds(), ResultRetention: cfg.ResultRetention.Milliseconds(),
		BodyLimit: cfg.BodyLimit, MailboxLimit: cfg.MailboxLimit, MaxAttempts: cfg.MaxAttempts, OutcomeBytes: 64 << 20,
		HostLimit: cfg.HostLimit, HostBytes: cfg.HostBytes,
	})
	applied, err := cfg.Store.Applied(ctx, p.n)
	if err != nil {
		return err
	}
	f := &folder{p: p, core: core, applied: applied}
	if err := f.to(ctx, 0); err != nil {
		return err
	}
	if f.first > applied+1 {
		return runtime.Errorf(runtime.CodeDamaged, "the store of partition %d is complete up to record %d, but the log begins at %d: state in between is lost", p.n, applied, f.first)
	}
	at, err := p.log.Append(ctx, [][]byte{core.Claim(p.m.now())})
	if err != nil {
		return err
	}
	if err := f.to(ctx, f.next); err != nil {
		return err
	}
	p.trim.reset(f.marks, core)
	p.applier.reset(applied, f.changes)
	if !core.Own(p.m.now(), applied) {
		return runtime.Errorf(runtime.CodeInUse, "another gateway has claimed partition %d at offset %d", p.n, at)
	}
	p.core = core
	p.epoch.Store(core.Epoch())
	p.down.Store(nil)
	p.count.recovery = time.Since(began)
	snapshot := p.count
	p.stats.Store(&snapshot)
	if err := p.round(ctx, nil); err != nil {
		return err
	}
	p.push(&runtime.Mark{})
	return nil
}

// A folder reads the log into a core.
type folder struct {
	p       *partition
	core    *runtime.Core
	applied uint64
	next    uint64 // offset to read from
	first   uint64 // seq of the first valid record
	marks   []mark
	changes []runtime.StoreChange
}

func (f *folder) to(ctx context.Context, from uint64) error {
	return f.p.log.Read(ctx, from, func(offset uint64, b []byte) error {
		f.next = offset + 1
		before := f.core.Seq()
		valid, err := f.core.Fold(b)
		if err != nil {
			var e *runtime.Error
			if errors.As(err, &e) {
				e.Detail += fmt.Sprintf(" (partition %d, offset %d)", f.p.n, offset)
			}
			return err
		}
		for _, ch := range f.core.TakeChanges() {
			if ch.Seq > f.applied {
				f.changes = append(f.changes, ch)
			}
		}
		if valid && f.first == 0 {
			f.first = f.core.Seq()
		}
		if valid && f.core.Seq() != before && runtime.IsHeader(b) {
			f.marks = append(f.marks, mark{seq: f.core.Seq(), offset: offset})
		}
		return nil
	})
}
