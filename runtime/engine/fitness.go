package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// lands is what is known about this gateway's appends. That a log can be read proves
// nothing.
type lands struct {
	mu         sync.Mutex
	at, failed time.Time     // when one came back last, and when one failed
	next       chan struct{} // closed when the next one comes back; nil while nobody waits
	probing    chan struct{} // holds one who tries the others' logs
	probed     time.Time     // when all were tried last
	turn       int           // where to begin then
}

// landed notes that an append came back, or did not.
func (l *lands) landed(ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok {
		l.failed = time.Now()
		return
	}
	l.at = time.Now()
	if l.next != nil {
		close(l.next)
		l.next = nil
	}
}

// coming is closed when the next append comes back.
func (l *lands) coming() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = make(chan struct{})
	}
	return l.next
}

// proven tells that an append has come back since one failed.
func (l *lands) proven() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at.After(l.failed)
}

func (l *lands) since() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.at)
}

// probesAtOnce bounds the logs that are tried when it is asked whether any takes appends.
const probesAtOnce = 8

// takes tells whether another log than that of p takes appends of this gateway; -1 for
// any. Owners with something to do append all the time; else some logs are tried, others
// each time.
func (m *Mesh) takes(ctx context.Context, p int) bool {
	l, lease := &m.lands, m.cfg.Shared.Lease
	select {
	case l.probing <- struct{}{}:
		defer func() { <-l.probing }()
	case <-ctx.Done():
		return false
	}
	if l.since() < 2*lease {
		return true
	}
	if time.Since(l.probed) < lease {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	n := min(probesAtOnce, len(m.parts))
	answers := make(chan error, n)
	for i := range n {
		q := (l.turn + i) % len(m.parts)
		if q == p {
			answers <- errDeposed
			continue
		}
		m.watches.Go(func() { answers <- m.tryLog(ctx, m.parts[q]) })
	}
	l.turn += n
	l.probed = time.Now()
	for range n {
		select {
		case err := <-answers:
			if err == nil {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// tryLog tries whether a log takes an append. That of a partition that is owned here, or
// is being taken, belongs to its loop or taker alone: behind a batch of unknown fate
// nothing else may be sent. The loop proves that it still is the owner; whichever append
// comes back says enough.
func (m *Mesh) tryLog(ctx context.Context, p *partition) error {
	if m.owned.takes(p.n) {
		return errDeposed
	}
	if !p.owning.Load() {
		return m.tryWrite(ctx, p)
	}
	came := m.lands.coming()
	p.push(&runtime.Prove{})
	select {
	case <-came:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takes tells whether this gateway is about to take a partition.
func (o *ownerLoop) takes(p uint16) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, busy := o.busy[p]
	return busy
}

// tryWrite appends a record that means nothing, to the log of a partition that this
// gateway does not own. An empty log is left alone: its first record is a claim.
func (m *Mesh) tryWrite(ctx context.Context, p *partition) error {
	_, end, err := p.log.Bounds(ctx)
	if err != nil || end == 0 {
		return err
	}
	_, _, err = p.send(ctx, [][]byte{runtime.VoidRecord()})
	m.lands.landed(err == nil)
	return err
}

// slowLink is how many bytes a second pass at least.
const slowLink = 256 << 10

// writing is for how long an owner waits for one append of some bytes: without an answer
// it has to decide whether to go on, when others could.
func (m *Mesh) writing(ctx context.Context, size int) (context.Context, context.CancelFunc) {
	ctx = context.WithoutCancel(ctx)
	if m.owned == nil || !m.owned.heirs() {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Duration(runtime.WritePatience(true, int64(m.cfg.Shared.Lease)))+time.Duration(size)*time.Second/slowLink)
}

// writeStep asks the rule about a log to which nothing could be appended since then.
func (m *Mesh) writeStep(p uint16, owner bool, since time.Time) runtime.WriteStep {
	o := m.owned
	if o == nil {
		return runtime.WriteOn
	}
	lease := m.cfg.Shared.Lease
	v := runtime.WriteView{Owner: owner, OwnsNone: len(m.dir.ofNode(m.cfg.Node)) == 0, Failing: int64(time.Since(since)), Lease: int64(lease)}
	if v.Failing < runtime.WritePatience(owner, v.Lease) {
		return runtime.WriteOn
	}
	v.Heir, v.Heirs = o.heir(p), o.heirs()
	v.Takes = !v.Heirs || m.takes(m.life, int(p))
	return runtime.NextWriteStep(&v)
}

// A shun is a partition that this gateway leaves to others until then.
type shun struct {
	until time.Time
	times int
}

// shun leaves a partition to others, which are told.
func (o *ownerLoop) shun(p uint16, why error) {
	lease := int64(o.m.cfg.Shared.Lease)
	now := time.Now()
	o.mu.Lock()
	s := o.shuns[p]
	if now.Sub(s.until) > time.Duration(runtime.ShunFor(s.times, lease)) {
		s.times = 0
	}
	s.until = now.Add(time.Duration(runtime.ShunFor(s.times, lease)))
	s.times++
	o.shuns[p] = s
	o.mu.Unlock()
	o.m.tellOwns()
	o.nudge()
	o.m.cfg.Logger.Warn("this gateway cannot work on a partition and leaves it to others", "partition", p, "for", time.Until(s.until).Round(time.Second), "error", why)
}

func (o *ownerLoop) shunnedLocked() (ps []uint16) {
	now := time.Now()
	for _, p := range o.m.parts {
		if now.Before(o.shuns[p.n].until) || p.stands.Load() != nil {
			ps = append(ps, p.n)
		}
	}
	return ps
}

// setUnfit has this gateway own nothing until it is fit again.
func (o *ownerLoop) setUnfit(why error) {
	o.mu.Lock()
	news := o.unfit == nil
	if news {
		o.unfit = why
	}
	o.mu.Unlock()
	if news {
		o.m.tellOwns()
		o.nudge()
		o.m.cfg.Logger.Error("this gateway cannot own partitions now, others take over; it still passes requests on", "error", why)
	}
}

// probe lets an unfit gateway come back once any log takes its appends. One that is too
// old for the records in it stays away.
func (o *ownerLoop) probe(ctx context.Context) {
	o.mu.Lock()
	why := o.unfit
	o.mu.Unlock()
	if why == nil || is(why, runtime.CodeNewerFormat) || errors.Is(why, errUnlisted) {
		return
	}
	if !o.probing.CompareAndSwap(false, true) {
		return
	}
	o.tasks.Go(func() {
		defer o.probing.Store(false)
		if o.m.takes(ctx, -1) {
			o.fit()
		}
	})
}

// fit lets this gateway own partitions again.
func (o *ownerLoop) fit() {
	o.mu.Lock()
	o.unfit = nil
	clear(o.stuck)
	o.mu.Unlock()
	o.m.cfg.Logger.Info("this gateway can own partitions again")
	o.m.tellOwns()
	o.nudge()
}

// Leave gives everything away, for a gateway that stops while others live. It
// returns when nothing is left here, nobody else is there, or ctx ends.
func (m *Mesh) Leave(ctx context.Context) {
	if m.owned == nil {
		return
	}
	o := m.owned
	o.mu.Lock()
	o.leaving = true
	o.mu.Unlock()
	m.tellOwns()
	o.nudge()
	for {
		if len(m.dir.ofNode(m.cfg.Node)) == 0 || !o.heirs() || !pauseFor(ctx, 5*time.Millisecond) {
			break
		}
	}
	gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Shared.Lease/2)
	defer cancel()
	if err := m.cfg.Shared.Members.Leave(gone, m.cfg.Node); err != nil {
		m.cfg.Logger.Warn("this gateway could not be taken off the list", "error", err)
	}
}
