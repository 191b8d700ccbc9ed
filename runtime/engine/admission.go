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
