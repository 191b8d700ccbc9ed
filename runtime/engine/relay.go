package engine

import (
	"github.com/karmesh/kar/runtime"
)

// Answered implements runtime.Owners.
func (m *Mesh) Answered(boot string, a runtime.Answer) {
	size := 0
	if a.Outcome != nil {
		size = len(a.Outcome.Body)
	}
	m.toOwner(a.Attempt.Partition, func(p *partition) { p.pushOf(m.backlogOf(boot), size, &runtime.Answered{Boot: boot, Answer: a}) },
		func() *HostNote { return &HostNote{Boot: boot, App: m.appOf(boot), Answered: &a} })
}

// Deactivated implements runtime.Owners.
func (m *Mesh) Deactivated(boot string, d runtime.Deactivate) {
	m.toOwner(d.Partition, func(p *partition) { p.pushOf(m.backlogOf(boot), len(d.Actor.ID), confirmation(boot, &d)) },
		func() *HostNote { return &HostNote{Boot: boot, App: m.appOf(boot), Deactivated: &d} })
}

func confirmation(boot string, d *runtime.Deactivate) *runtime.Deactivated {
	return &runtime.Deactivated{Boot: boot, Actor: d.Actor, Epoch: d.Epoch, Asking: d.Asking}
}

// toOwner brings what a host says to the owner, here or there. Without an owner
// it is dropped: the next one asks for a join.
func (m *Mesh) toOwner(n uint16, push func(*partition), note func() *HostNote) {
	p := m.part(n)
	if p == nil {
		return
	}
	switch own := m.dir.of(n); {
	case m.cfg.Shared == nil || own.node == m.cfg.Node:
		push(p)
	case own.node != "":
		m.peers.Tell(own.node, &Note{Host: note()})
	}
}

// appOf is the app of a host, "" when it is known to nobody here any more.
func (m *Mesh) appOf(boot string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.appLocked(boot)
}

func (m *Mesh) appLocked(boot string) string {
	if g := m.attached[boot]; g != nil {
		return g.info.App
	}
	return m.hosts[boot].App
}

// A relay is the link of a host that is attached to another gateway.
type relay struct {
	m          *Mesh
	node, boot string
	app        string
	attachment uint64
}

// Send implements runtime.Link.
func (r *relay) Send(msg runtime.HostMessage) {
	n := &ToHostNote{Boot: r.boot, App: r.app, Attachment: r.attachment}
	switch msg := msg.(type) {
	case *runtime.Invoke:
		n.Invoke = msg
	case *runtime.Deactivate:
		n.Deactivate = msg
	case *runtime.Taken:
		n.Taken = msg
	case *runtime.Verdict:
		n.Verdict = msg
	case *runtime.TermLost:
		n.TermLost = msg
	default:
		return
	}
	r.m.peers.Tell(r.node, &Note{ToHost: n})
}

func (n *ToHostNote) message() runtime.HostMessage {
	switch {
	case n.Invoke != nil:
		return n.Invoke
	case n.Deactivate != nil:
		return n.Deactivate
	case n.Taken != nil:
		return n.Taken
	case n.Verdict != nil:
		return n.Verdict
	case n.TermLost != nil:
		return n.TermLost
	}
	return nil
}

// heardHost takes what another gateway says of a host that is attached there.
func (m *Mesh) heardHost(from string, n *HostNote) {
	switch {
	case n.Up != nil:
		m.heardUp(from, n)
	case n.Changed != nil:
		m.changed(*n.Changed)
	case n.Unlinked:
		m.mu.Lock()
		l, _ := m.links[n.Boot].(*relay)
		m.mu.Unlock()
		if l != nil && l.node == from && (n.Attachment == 0 || l.attachment <= n.Attachment) {
			m.unlinked(n.Boot, l)
		}
	case n.Down != nil:
		m.hostDown(n.Boot, *n.Down)
	case n.Answered != nil:
		if p := m.part(n.Answered.Attempt.Partition); p != nil {
			p.push(&runtime.Answered{Boot: n.Boot, Answer: *n.Answered})
		}
	case n.Later != nil:
		if p := m.part(n.Later.Partition); p != nil {
			p.push(&runtime.HostKnowsLater{Boot: n.Boot, Seen: *n.Later})
		}
	case n.Deactivated != nil:
		if p := m.part(n.Deactivated.Partition); p != nil {
			p.push(confirmation(n.Boot, n.Deactivated))
		}
	}
}

// unlinkVia forgets the links that led over a gateway.
func (m *Mesh) unlinkVia(node string) {
	m.mu.Lock()
	var over []*relay
	for _, l := range m.links {
		if r, ok := l.(*relay); ok && r.node == node {
			over = append(over, r)
		}
	}
	m.mu.Unlock()
	for _, r := range over {
		m.unlinked(r.boot, r)
	}
}
