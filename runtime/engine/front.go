package engine

import (
	"context"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A living owner has in memory what somebody else has deleted from the front of
// its log: it writes everything that is live anew, and says loudly that this
// happened, for the next owner could not. Requests whose bodies were nowhere else end.

// watchFronts looks now and then where the logs of this node begin.
func (m *Mesh) watchFronts(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Lease * 5 / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range m.parts {
			if p.owning.Load() && !p.watchFront(ctx) {
				break // the others' are away as well
			}
		}
	}
}

// watchFront is false when the log does not answer.
func (p *partition) watchFront(ctx context.Context) bool {
	ask, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	start, _, err := p.log.Bounds(ask)
	if err != nil || start <= p.front.Load() {
		return err == nil
	}
	p.order(ask, func(context.Context) { // a loop that is at an append hears it later
		if p.core != nil && start > p.front.Load() {
			p.trim.tear(start)
		}
	})
	return true
}

// tear takes the news that the log begins behind where this node has cut it.
func (t *trimmer) tear(start uint64) {
	t.p.logger.Error("somebody else has deleted the front of the log: what is live is written anew, and requests whose bodies were in the log only end with body_lost; see to it that nothing deletes records of the topic",
		"begins", start, "cut", t.p.front.Load())
	t.p.m.tally.torn.Add(1)
	t.p.front.Store(start)
	t.torn, t.marks, t.decided, t.wait = true, nil, 0, 0
	t.nudge()
}

// nextCut is where the log is to be cut, when that is due. A torn log is cut at a
// header that stands behind the damage.
func (t *trimmer) nextCut(now runtime.Now) (mark, bool) {
	switch {
	case t.cutting:
	case t.torn:
		if len(t.marks) > 0 {
			return t.marks[0], true
		}
	case len(t.marks) >= 2 && (t.p.log.Size() >= t.threshold || t.older(now, t.marks[0].at, 4)):
		return t.marks[1], true
	}
	return mark{}, false
}
