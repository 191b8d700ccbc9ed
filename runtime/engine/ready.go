package engine

import (
	"time"

	"github.com/karmesh/kar/runtime"
)

// ready is nil while clients may come to this gateway.
func (o *ownerLoop) ready() error {
	begun := o.settled.Load()
	v := runtime.DoorView{Begun: begun, Patience: int64(o.patience())}
	owns := map[string]bool{}
	for _, own := range o.m.dir.all() {
		if own.node == "" && !begun {
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
	o.settled.Store(true)
	return nil
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
