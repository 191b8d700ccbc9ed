package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/karmesh/kar/runtime"
)

// list renews this node's entry and reads the others'.
func (o *ownerLoop) list(ctx context.Context) {
	m, s := o.m, o.m.cfg.Shared
	o.mu.Lock()
	me := o.entryLocked()
	o.mu.Unlock()
	me.Owns = m.dir.ofNode(m.cfg.Node)
	ask, cancel := context.WithTimeout(ctx, s.Lease)
	defer cancel()
	members, err := s.Members.Announce(ask, me, s.Lease)
	if err != nil {
		m.heardStore(ctx, 0, err)
		if ctx.Err() == nil {
			o.trouble.say(m.cfg.Logger, "this gateway cannot enter itself in the list of gateways", err)
			defer m.acquaint()
		}
		for _, x := range members { // their entries may be old, for the same reason
			m.meet(x)
		}
		o.mu.Lock()
		if o.failing.IsZero() || o.paused {
			o.failing = time.Now()
		}
		o.paused = false
		if o.members == nil && time.Since(m.start) > s.Lease {
			o.members = []runtime.Member{me} // the store was never there: go on with who calls
		}
		o.mu.Unlock()
		return
	}
	o.trouble.over(m.cfg.Logger, "the list of gateways takes this gateway again")
	o.mu.Lock()
	now := time.Now()
	for _, x := range o.members { // whoever answers is alive, whatever the list says
		if o.up[x.Node] && !contains(members, x.Node) {
			o.heard[x.Node] = acquaintance{x, now}
		}
	}
	o.members, o.failing, o.paused, o.listed, o.read = slices.Clone(members), time.Time{}, false, true, now
	if errors.Is(o.unfit, errUnlisted) {
		o.unfit = nil
	}
	o.mu.Unlock()
	m.acquaint()
	m.tellGateways()
	for i := range members {
		m.learnOf(&members[i])
	}
	o.nudge()
}

// listFails tells that the list could not be read for many leases.
func (o *ownerLoop) listFails() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.failing.IsZero() && time.Since(o.failing) > 10*o.m.cfg.Shared.Lease
}

func contains(members []runtime.Member, node string) bool {
	for i := range members {
		if members[i].Node == node {
			return true
		}
	}
	return false
}

// live are the members that are alive: listed with a valid lease, or answering
// here or to a gateway that answers here, and not certainly gone.
func (o *ownerLoop) live() (live []runtime.Member, complete bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.liveLocked()
}

func (o *ownerLoop) liveLocked() (live []runtime.Member, complete bool) {
	// While the list cannot be read, whoever answers is alive.
	fresh := o.failing.IsZero() || time.Since(o.failing) < o.m.cfg.Shared.Lease
	complete = true
	self := o.meLocked()
	if o.members == nil {
		return nil, false
	}
	for _, x := range o.knownLocked() {
		me := x.Node == o.m.cfg.Node
		if me {
			x.Leaving, x.Shuns = self.Leaving, self.Shuns
		}
		x.Leaving = x.Leaving || runtime.OtherLog(&self, &x) // nothing is for it
		listed := fresh && contains(o.members, x.Node)
		if !me && (o.isDead(x.Node) || !listed && !o.up[x.Node] && !o.vouchedLocked(x.Node)) {
			continue
		}
		live = append(live, x)
		// One that cannot be reached for long has only the list to say what it owns.
		complete = complete && (me || o.told[x.Node] || time.Since(o.since[x.Node]) > o.m.cfg.Shared.Lease)
	}
	lacks := o.lacksLocked(live)
	for i := range live {
		if live[i].Node == o.m.cfg.Node {
			live[i].Lacks = lacks
		}
	}
	return live, complete
}

// lacksLocked are those of the gateways that live, and may own something, to whom this
// one has no stream.
func (o *ownerLoop) lacksLocked(live []runtime.Member) (nodes []string) {
	for i := range live {
		if node := live[i].Node; node != o.m.cfg.Node && !live[i].Leaving && !o.up[node] {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// entryLocked is what this gateway says of itself to the others, without what it owns.
func (o *ownerLoop) entryLocked() runtime.Member {
	me := o.meLocked()
	live, _ := o.liveLocked()
	me.Lacks = o.lacksLocked(live)
	return me
}

// patience is how long a gateway may be without a stream before that means something.
func (o *ownerLoop) patience() time.Duration { return 2 * o.m.cfg.Shared.Lease }

// waitedLocked is for how long a gateway without a stream to this one has had none.
func (o *ownerLoop) waitedLocked(node string, now time.Time) time.Duration {
	waited := now.Sub(o.since[node])
	if at, parted := o.parted[node]; parted {
		waited = min(waited, now.Sub(at))
	}
	return waited
}

// cutLocked are those of the list as it was read last that may live and own something,
// and to whom neither this gateway nor one that it reaches has a stream; and those of
// them for whom that has been so for long.
func (o *ownerLoop) cutLocked(now time.Time) (cut, apart []string) {
	for i := range o.members {
		node := o.members[i].Node
		if node == o.m.cfg.Node || o.members[i].Leaving || o.isDead(node) || o.up[node] || o.vouchedLocked(node) {
			continue
		}
		cut = append(cut, node)
		if o.waitedLocked(node, now) > o.patience() {
			apart = append(apart, node)
		}
	}
	return cut, apart
}

// isDead tells that a process is certainly gone. One that is still listed when
// its lease must have run out is not: its address leads somewhere else.
func (o *ownerLoop) isDead(node string) bool {
	at, found := o.dead[node]
	if found && (contains(o.members, node) || o.vouchedLocked(node)) && time.Since(at) > o.m.cfg.Shared.Lease+o.m.cfg.Shared.Lease/2 {
		return false
	}
	return found
}

// raise lets the logs of this node's partitions go to the level that all living
// gateways read, one that leaves or owns nothing included: it may come back.
func (o *ownerLoop) raise() {
	live, complete := o.live()
	level := runtime.MeshLevel(live)
	if !complete || level < 2 {
		return
	}
	for _, e := range o.m.dir.ofNode(o.m.cfg.Node) {
		if p := o.m.part(e.Partition); p.level.Load() < int64(level) {
			p.push(&runtime.RaiseLevel{Level: level})
		}
	}
}

// report says in the log what has moved.
func (o *ownerLoop) report() {
	o.mu.Lock()
	taken, lost := o.taken, o.lost
	o.taken, o.lost = 0, 0
	o.mu.Unlock()
	if taken > 0 {
		o.m.cfg.Logger.Info("partitions taken", "partitions", taken, "owned", len(o.m.dir.ofNode(o.m.cfg.Node)))
	}
	if lost > 0 {
		o.m.cfg.Logger.Warn("other gateways have claimed partitions of this one", "partitions", lost)
	}
}

// heir tells whether another gateway could take over a partition, and has not found
// that it cannot write to it.
func (o *ownerLoop) heir(p uint16) bool {
	live, _ := o.live()
	for i := range live {
		if live[i].Node != o.m.cfg.Node && !live[i].Leaving && !slices.Contains(live[i].Shuns, p) {
			return true
		}
	}
	return false
}

// heirs tells whether another gateway could take over.
func (o *ownerLoop) heirs() bool {
	live, _ := o.live()
	for i := range live {
		if live[i].Node != o.m.cfg.Node && !live[i].Leaving {
			return true
		}
	}
	return false
}

// Settled waits until every partition has an owner that this node knows.
func (m *Mesh) Settled(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.refused, cancel)()
	for p := range m.parts {
		for {
			own := m.dir.of(uint16(p))
			if own.node != "" || m.cfg.Shared == nil {
				break
			}
			if m.dir.wait(ctx, uint16(p), own); m.Refused() != nil {
				return m.Refused()
			} else if ctx.Err() != nil {
				return runtime.Errorf(runtime.CodeUnavailable, "partition %d has no owner yet", p)
			}
		}
	}
	return nil
}

func (o *ownerLoop) streams() (nodes []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for node, up := range o.up {
		if up {
			nodes = append(nodes, node)
		}
	}
	return nodes
}
