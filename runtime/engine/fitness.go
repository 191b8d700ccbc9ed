package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// surrenderAfter is how long an owner that cannot write to its log holds on to
// its partitions while others could have them, in gateway leases.
const surrenderAfter = 5

// mayHold tells whether an owner that has not been able to write since then goes
// on trying: when it has not been long, or nobody else is better off, or this
// gateway reaches other logs, so that it is this log that nobody can write to.
func (m *Mesh) mayHold(since time.Time) bool {
	return m.owned == nil || time.Since(since) < surrenderAfter*m.cfg.Shared.Lease || !m.owned.heirs() || m.anyAnswers(m.life)
}

// anyAnswers tells whether this gateway reaches any of the logs.
func (m *Mesh) anyAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Shared.Lease/4)
	defer cancel()
	m.reach.Lock()
	defer m.reach.Unlock()
	if time.Since(m.reach.at) < m.cfg.Shared.Lease/4 {
		return m.reach.any
	}
	answers := make(chan bool, len(m.parts))
	for _, p := range m.parts {
		m.watches.Go(func() {
			_, _, err := p.log.Bounds(ctx)
			answers <- err == nil
		})
	}
	m.reach.any = false
	for range m.parts {
		if <-answers {
			m.reach.any = true
			break
		}
	}
	m.reach.at = time.Now()
	return m.reach.any
}

// reach is whether any log answered when all were asked last.
type reach struct {
	sync.Mutex
	at  time.Time
	any bool
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
		o.m.cfg.Logger.Error("this gateway cannot own partitions now, others take over; it still passes requests on", "error", why)
		o.m.tellOwns()
		o.nudge()
	}
}

// probe lets an unfit gateway come back once any of its logs answers. One that is too
// old for the records in it stays away.
func (o *ownerLoop) probe(ctx context.Context) {
	o.mu.Lock()
	why := o.unfit
	o.mu.Unlock()
	if why == nil || is(why, runtime.CodeNewerFormat) || errors.Is(why, errUnlisted) {
		return
	}
	if !o.m.anyAnswers(ctx) {
		return
	}
	o.mu.Lock()
	o.unfit = nil
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
