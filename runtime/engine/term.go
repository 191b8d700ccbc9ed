package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A term is the time for which this node owns a partition. It begins with a
// claim that was read back from the log, and it is over when another claim is
// found there, or when the owner hands over. A term that is over throws its
// memory away.
type term struct {
	p       *partition
	core    *runtime.Core
	applied uint64 // of the store, when known
	stored  bool   // whether the store said so
	claimed time.Time
	before  uint64 // the last record in front of the claim
	share   share
	places  *places

	// of the reading
	next    uint64 // offset to read from
	first   uint64 // seq of the first valid record
	needs   uint64 // up to where the store has to be complete, as the log begins behind it
	start   uint64 // offset at which the log begins
	begins  uint64 // offset at which the fold began anew: nothing in front of it counts
	marks   []mark
	changes []runtime.StoreChange
	size    int64 // bytes of changes
	// unread: there were more changes than are held in memory at a time; the
	// applier reads them again.
	unread bool
}

// errDeposed: another gateway has claimed the partition.
var errDeposed = errors.New("another gateway owns the partition")

// storePatience is what a store that works needs at most for one answer.
const storePatience = 2 * time.Second

func (p *partition) newTerm() *term {
	cfg := p.m.cfg
	address := ""
	if cfg.Shared != nil {
		address = cfg.Shared.Address
	}
	return &term{p: p, share: share{of: &p.m.memory}, places: &places{}, core: runtime.New(runtime.Config{
		Mesh: cfg.Mesh, Partition: p.n, Partitions: cfg.Partitions, Node: cfg.Node + "/" + NewBoot()[:8], Address: address,
		Lease: cfg.Lease.Milliseconds(), IDWindow: cfg.IDWindow.Milliseconds(), ResultRetention: cfg.ResultRetention.Milliseconds(),
		MailboxLimit: cfg.MailboxLimit, MaxAttempts: cfg.MaxAttempts, OutcomeBytes: cfg.outcomeBytes(), WorkBytes: cfg.WorkBytes,
		HostLimit: cfg.HostLimit, HostBytes: cfg.HostBytes, Level: cfg.Level, RecordLimit: p.recordLimit(),
	})}
}

// recordLimit is the size of the largest record that the log takes; 0 when it
// does not say.
func (p *partition) recordLimit() int {
	if l, ok := p.log.(interface{ MaxRecord() int }); ok {
		return l.MaxRecord()
	}
	return 0
}

// read folds the log up to its end; it began at start a moment ago. One that has
// lost its front is not believed before it has been read without being cut
// meanwhile.
func (p *partition) read(ctx context.Context, start uint64) (*term, error) {
	for {
		t, err := p.readOnce(ctx, start)
		if err != nil {
			t.drop()
			return nil, err
		}
		t.start = start
		damage := t.front(start)
		if damage == nil {
			return t, nil
		}
		t.drop()
		now, _, err := p.log.Bounds(ctx)
		if err != nil || now == start {
			return nil, damage
		}
		start = now
	}
}

// front refuses a log that lacks what it has held once.
func (t *term) front(start uint64) error {
	e := t.core.Front(start > 0 || t.next > 0)
	if e == nil && t.stored && t.applied > t.core.Seq() {
		e = runtime.Errorf(runtime.CodeDamaged, "the log has lost records: it ends at record %d, and the store holds what was decided up to record %d", t.core.Seq(), t.applied)
	}
	if e == nil {
		return nil // not a nil *Error
	}
	e.Detail += fmt.Sprintf(" (partition %d, the log begins at offset %d)", t.p.n, start)
	return e
}

func (p *partition) readOnce(ctx context.Context, start uint64) (*term, error) {
	t := p.newTerm()
	applied, err := p.m.whereStore(ctx, p.n)
	if t.applied, t.stored = applied, err == nil; err != nil && p.m.cfg.Shared == nil {
		return nil, err
	}
	return t, t.to(ctx, start)
}

// to folds the log from an offset to its end.
func (t *term) to(ctx context.Context, from uint64) error {
	return t.visit(ctx, from, func() error {
		if t.size > piece {
			t.changes, t.size, t.unread = nil, 0, true
		}
		return nil
	})
}

// visit does the same, and has each record looked at.
func (t *term) visit(ctx context.Context, from uint64, each func() error) error {
	return t.p.log.Read(ctx, from, func(offset uint64, b []byte) error {
		t.next = offset + 1
		before, anew := t.core.Seq(), t.core.Anew()
		valid, err := t.core.Fold(b)
		if err != nil {
			var e *runtime.Error
			if errors.As(err, &e) {
				e.Detail += fmt.Sprintf(" (partition %d, offset %d)", t.p.n, offset)
			}
			return err
		}
		begins := t.core.Anew() != anew
		if begins {
			t.forget()
			t.begins = offset
		}
		if valid {
			t.places.add(t.core.Seq(), offset)
		}
		if len(b) > 1<<10 || offset%64 == 0 {
			t.p.steps.Add(1)
			t.weigh()
		}
		for _, ch := range t.core.TakeChanges() {
			if ch.Seq > t.applied && !t.unread {
				t.changes = append(t.changes, ch)
				t.size += changeSize(&ch)
			}
		}
		if valid && t.first == 0 {
			t.first, t.needs = t.core.Seq(), t.core.LastChange()
		}
		if valid && (begins || t.core.Seq() != before) && runtime.IsHeader(b) {
			t.marks = append(t.marks, mark{seq: t.core.Seq(), offset: offset, at: runtime.HeaderTime(b)})
		}
		return each()
	})
}

// forget drops what was read before the fold began anew: it counts for nothing.
func (t *term) forget() {
	t.places.runs, t.marks, t.changes, t.size, t.unread, t.first, t.needs = nil, nil, nil, 0, false, 0, 0
}

// claim reads what has come meanwhile, appends the claim, and reads it back.
func (t *term) claim(ctx context.Context) error {
	if err := t.to(ctx, t.next); err != nil {
		return err
	}
	record := [][]byte{t.core.Claim(t.p.m.now())}
	began := time.Now()
	for again := t.p.m.patience(); ; {
		_, _, err := t.p.send(ctx, record)
		t.p.m.lands.landed(err == nil)
		var unknown *runtime.UnknownError
		if err == nil {
			break
		}
		if !errors.As(err, &unknown) || !again.wait(ctx) {
			return &writeError{began, err}
		}
	}
	t.claimed = time.Now()
	if err := t.to(ctx, t.next); err != nil {
		return err
	}
	t.before = t.core.Seq() - 1 // without the claim
	return nil
}

// A writeError is an append that failed in the taking of a partition, begun then.
type writeError struct {
	began time.Time
	cause error
}

func (e *writeError) Error() string { return e.cause.Error() }
func (e *writeError) Unwrap() error { return e.cause }

func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// begin starts the term; the loop's alone. When the claim did not count,
// somebody else's did.
func (p *partition) begin(ctx context.Context, t *term, began time.Time) error {
	if t.stored && t.applied < t.needs && p.m.cfg.Shared == nil {
		return runtime.Errorf(runtime.CodeDamaged, "the store of partition %d is complete up to record %d, but the log begins at %d: state in between is lost", p.n, t.applied, t.first)
	}
	if !t.core.Own(p.m.now(), t.applied) {
		return errDeposed
	}
	if n := t.core.Counts.Foreign; n > 0 {
		p.logger.Error("the log holds what is no record of KAR's; it counts for nothing. Find out who else writes to it", "records", n)
	}
	p.core, p.next, p.places = t.core, t.next, t.places
	p.share, t.share.held = t.share, 0
	p.proof = p.m.stamp(t.claimed)
	p.trim.reset(t.marks, t.core)
	p.front.Store(max(t.start, t.places.of(t.core.Floor()))) // a cut of the owner before may land late
	p.startApplier(ctx, t)
	p.epoch.Store(t.core.Epoch())
	p.owning.Store(true)
	p.down.Store(nil)
	p.count.recovery = time.Since(began)
	p.count.begin(t.core.Counts)
	snapshot := p.count
	p.stats.Store(&snapshot)
	if err := p.round(ctx, nil); err != nil {
		return err
	}
	p.push(&runtime.Mark{})
	p.m.owns(p)
	return nil
}

// recover folds the log, claims the partition and starts the term, for an owner
// that was the last one itself.
func (p *partition) recover(ctx context.Context) error {
	began := time.Now()
	start, _, err := p.log.Bounds(ctx)
	if err != nil {
		return err
	}
	t, err := p.read(ctx, start)
	if err != nil {
		return err
	}
	defer t.drop()
	if p.m.cfg.Shared != nil && t.core.Epoch() > p.epoch.Load() {
		return errDeposed
	}
	claim := t.claim
	if o := p.m.owned; o != nil {
		claim = func(ctx context.Context) error { return o.claim(ctx, t) }
	}
	if err := claim(ctx); err != nil {
		return err
	}
	return p.begin(ctx, t, began)
}

// end is the end of a term that another gateway has ended, or that this one
// gives away: waiters ask the next owner. The loop's alone.
func (p *partition) end() {
	if p.core != nil {
		p.core.StepDown()
		_, effects := p.core.Take()
		for i := range effects {
			if effects[i].Kind == runtime.Reply {
				p.reply(&effects[i])
			}
		}
		p.core = nil
		p.share.set(0, 0)
	}
	p.owning.Store(false)
	p.down.Store(nil)
	p.stopApplier()
	p.gens.Clear()
	p.m.groups.fire()
}

// A stamp is a moment on both clocks: the one that does not jump may stand
// still while the machine sleeps, the other may jump.
type stamp struct{ mono, wall time.Time }

func (m *Mesh) stamp(t time.Time) stamp { return stamp{t, t.Round(0)} }

// since is how long ago that was by the clock that has gone further.
func (s stamp) since(now time.Time) time.Duration {
	return max(now.Sub(s.mono), now.Round(0).Sub(s.wall))
}

// proven tells that this node can be sure to be the owner still: a record that
// it sent a short while ago came back in its place, and whoever claims from an
// owner that may be alive waits for longer before it answers anybody.
func (p *partition) proven() bool {
	return p.m.cfg.Shared == nil || p.proof.since(time.Now()) < p.m.proofAge()
}

// proofAge is how long an owner may rely on its last append.
func (m *Mesh) proofAge() time.Duration { return m.cfg.Lease / 6 }

// afterClaim is how long a new owner waits after a claim from an owner that
// may still be alive, before it answers anybody: longer than proofAge by the
// drift of clocks.
func (m *Mesh) afterClaim() time.Duration { return m.proofAge() + m.proofAge()/10 }

// placed notes where the records of a round stand that landed between two
// offsets. What else came behind this owner's last record is looked at: another's
// claim ends the term, wherever it stands; anything else is void.
func (p *partition) placed(ctx context.Context, records [][]byte, first, next uint64) error {
	seq, n := p.core.Seq()-uint64(len(records))+1, uint64(len(records))
	if first < p.next || next < first+n {
		return runtime.Errorf(runtime.CodeDamaged, "the log of partition %d has lost records: the next offset was %d, and %d records landed from %d to %d", p.n, p.next, n, first, next)
	}
	if first == p.next && next == first+n {
		p.places.add(seq, first)
		return nil
	}
	stop := errors.New("seen")
	for again := p.m.patience(); ; {
		deposed := false
		var at []uint64 // of the first of the records, in their order, as who folds the log counts them
		err := p.log.Read(ctx, p.next, func(offset uint64, b []byte) error {
			if offset >= next {
				return stop
			}
			if epoch, ok := runtime.ClaimEpoch(b); ok && epoch > p.core.Epoch() {
				deposed = true
				return stop
			}
			if len(at) < len(records) && bytes.Equal(b, records[len(at)]) {
				at = append(at, offset)
			}
			return nil
		})
		switch {
		case deposed:
			p.unsure = p.unsure || len(at) > 0 // what came before the claim counts
			return errDeposed
		case (err == nil || errors.Is(err, stop)) && len(at) < len(records):
			return runtime.Errorf(runtime.CodeDamaged, "the log of partition %d has lost records: of %d that landed from %d to %d, it has %d", p.n, n, first, next, len(at))
		case err == nil || errors.Is(err, stop):
			for i, offset := range at {
				p.places.add(seq+uint64(i), offset)
			}
			return nil
		}
		p.logger.Warn("what else is in the log cannot be read, trying again", "error", err)
		if !p.pause(func() bool { return again.wait(ctx) }) {
			return &runtime.UnknownError{Cause: err}
		}
	}
}
