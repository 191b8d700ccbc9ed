package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/karmesh/kar/runtime"
)

// ready is nil while clients may come to this gateway.
func (o *ownerLoop) ready() error {
	begun := o.settled.Load()
	v := runtime.DoorView{Begun: begun, Patience: int64(o.patience())}
	owns := map[string]bool{}
	abandoned := o.abandoned()
	for p, own := range o.m.dir.all() {
		if own.node == "" && !begun && !abandoned.has(uint16(p)) {
			return runtime.Errorf(runtime.CodeUnavailable, "the gateway has just begun and does not know the owners of all partitions yet")
		}
		owns[own.node] = true
	}
	now := time.Now()
	o.mu.Lock()
	live, _ := o.liveLocked()
	for i := range live {
		x := &live[i]
		if x.Node == o.m.cfg.Node {
			continue
		}
		up := o.up[x.Node]
		v.Living++
		if up {
			v.Reached++
			v.Peers = append(v.Peers, runtime.DoorPeer{Node: x.Node, Knows: o.vouch[x.Node]})
		}
		if owns[x.Node] {
			v.Owners = append(v.Owners, runtime.DoorOwner{Node: x.Node, Reached: up, Waited: int64(o.waitedLocked(x.Node, now))})
		}
	}
	o.mu.Unlock()
	if owner, closed := runtime.ClosedDoor(&v); closed {
		return runtime.Errorf(runtime.CodeUnavailable, "this gateway has no stream to the gateway %s, which owns partitions: one of the two cannot reach the other's address (--advertise)", o.m.addressOf(owner))
	}
	if len(abandoned.waited) == len(o.m.parts) {
		return abandoned.err(runtime.CodeUnavailable)
	}
	o.settled.Store(true)
	return nil
}

// An abandonment is which partitions have no owner anywhere for how long, and why this
// gateway is none of them.
type abandonment struct {
	waited map[uint16]time.Duration
	why    error
}

func (a *abandonment) has(p uint16) bool { _, ok := a.waited[p]; return ok }

func (o *ownerLoop) abandoned() *abandonment {
	a, now := &abandonment{waited: map[uint16]time.Duration{}}, time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	a.why = o.unfit
	o.missLocked(now)
	for p, since := range o.missing {
		if waited := now.Sub(since); runtime.Ownerless(int64(waited), int64(o.m.cfg.Shared.Lease)) {
			a.waited[p] = waited
		}
	}
	return a
}

// missLocked notes since when partitions have no owner that lives, whoever tries to take
// them; o.mu is held.
func (o *ownerLoop) missLocked(now time.Time) {
	live, _ := o.liveLocked()
	for p, own := range o.m.dir.all() {
		if own.node != "" && contains(live, own.node) {
			delete(o.missing, uint16(p))
		} else if _, known := o.missing[uint16(p)]; !known {
			o.missing[uint16(p)] = now
		}
	}
}

// err names one of the partitions.
func (a *abandonment) err(code runtime.Code) error {
	p := slices.Min(slices.Collect(maps.Keys(a.waited)))
	e := runtime.Errorf(code, "partition %d has had no owner for %s", p, a.waited[p].Round(time.Second))
	if a.why != nil {
		e.Detail += ": " + a.why.Error()
	}
	return e
}

// addressOf names a gateway for people.
func (m *Mesh) addressOf(node string) string {
	o := m.owned
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range o.knownLocked() {
		if x.Node == node && x.Address != "" {
			return x.Address
		}
	}
	return node
}
