package engine

import (
	"context"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Refused is why this gateway must not take part in the mesh, nil while it may.
func (m *Mesh) Refused() error { return context.Cause(m.refused) }

// idleLocked tells that this gateway should own nothing.
func (o *ownerLoop) idleLocked() bool {
	return o.leaving || o.unfit != nil || o.admission != runtime.Admitted
}

// listedLocked are the gateways in the list as it is now, nil when it cannot be read.
func (o *ownerLoop) listedLocked() []string {
	if !o.listed || !o.failing.IsZero() || time.Since(o.read) > o.m.cfg.Shared.Lease {
		return nil
	}
	nodes := make([]string, 0, len(o.members))
	for i := range o.members {
		nodes = append(nodes, o.members[i].Node)
	}
	return nodes
}

// compareLocked notes whether another gateway reads the same list: in one of the
// two lists there is the other.
func (o *ownerLoop) compareLocked(node string, theirs []string) {
	mine := o.listedLocked()
	same := mine == nil || theirs == nil || contains(o.members, node)
	for _, n := range theirs {
		same = same || n == o.m.cfg.Node
	}
	if same {
		delete(o.apart, node)
	} else if _, found := o.apart[node]; !found {
		o.apart[node] = time.Now()
	}
}

// An ahead is a living owner in a term that is not in the log of this gateway.
type ahead struct {
	node  string
	since time.Time
}

// ahead notes whether the owner of a partition is in a later term than the last one
// in the log, which was read after the owner had said so.
func (o *ownerLoop) ahead(p uint16, own ownership, read uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if own.epoch <= read {
		delete(o.aheads, p)
		return false
	}
	if o.aheads[p].node != own.node {
		o.aheads[p] = ahead{own.node, time.Now()}
	}
	return true
}

// aheadLocked is for how long a gateway has been ahead.
func (o *ownerLoop) aheadLocked(node string) (d time.Duration) {
	for p, a := range o.aheads {
		switch {
		case o.m.dir.of(p).node != a.node:
			delete(o.aheads, p)
		case a.node == node:
			d = max(d, time.Since(a.since), 1)
		}
	}
	return d
}

// admit looks whether this gateway fits to the others.
func (o *ownerLoop) admit() {
	m := o.m
	o.mu.Lock()
	live, _ := o.liveLocked()
	me := o.meLocked()
	others := make([]runtime.Neighbour, 0, len(live))
	for i := range live {
		x := runtime.Neighbour{Member: live[i]}
		if since, apart := o.apart[x.Node]; apart {
			x.Apart = max(time.Since(since), 1)
		}
		x.Ahead = o.aheadLocked(x.Node)
		others = append(others, x)
	}
	a, with, why := runtime.Admit(&me, others, m.cfg.Shared.Lease)
	if o.admission == runtime.Refused {
		a = runtime.Refused
	}
	before := o.admission
	o.admission = a
	said := why == nil || o.said[with]
	if why != nil {
		o.said[with] = true
	}
	o.mu.Unlock()
	switch {
	case a == runtime.Refused && before != a:
		m.refuse(why)
		m.cfg.Logger.Error("this gateway does not take part in the mesh", "error", why)
	case !said:
		m.cfg.Logger.Error("another gateway does not fit to this one", "node", with, "error", why)
	}
	if a != before {
		m.cfg.Logger.Debug("admission", "now", a, "because of", with)
		m.tellOwns()
		o.nudge()
	}
}
