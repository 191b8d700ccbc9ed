package engine

import (
	"slices"

	"github.com/karmesh/kar/runtime"
)

// owns makes known that this node owns p from now on.
func (m *Mesh) owns(p *partition) {
	mine := []runtime.PartitionEpoch{{Partition: p.n, Epoch: p.epoch.Load()}}
	if m.cfg.Shared == nil {
		m.askJoins(nil, mine)
		return
	}
	m.owned.mu.Lock()
	m.owned.joined = true
	m.owned.mu.Unlock()
	m.learn(m.cfg.Node, mine)
	m.tellOwns()
	m.groups.fire() // now they are listed as this node's
}

// gone makes known that this node owns p no longer.
func (m *Mesh) gone(p *partition) {
	if m.cfg.Shared == nil {
		return
	}
	m.dir.gone(p.n, m.cfg.Node)
	m.tellOwns()
	m.owned.nudge()
}

// tellOwns tells what this node owns: all peers, or the given one. What is told
// last is the truth.
func (m *Mesh) tellOwns(nodes ...string) {
	m.owned.telling.Lock()
	defer m.owned.telling.Unlock()
	if nodes == nil {
		nodes = m.owned.streams()
	}
	n := m.ownsNote()
	for _, node := range nodes {
		m.peers.Tell(node, n)
	}
}

func (m *Mesh) ownsNote() *Note {
	o := m.owned
	o.mu.Lock()
	me := o.entryLocked()
	n := &OwnsNote{Leaving: me.Leaving, Self: &me, Listed: o.listedLocked(), Knows: o.answeringLocked()}
	for p, claiming := range o.busy {
		if claiming {
			n.Claiming = append(n.Claiming, p)
		}
	}
	o.mu.Unlock()
	n.Partitions = m.dir.ofNode(m.cfg.Node)
	for i := range n.Knows {
		n.Knows[i].Owns = m.dir.ofNode(n.Knows[i].Node)
	}
	return &Note{Owns: n}
}

// tellAll tells a note to every peer whose stream stands.
func (m *Mesh) tellAll(n *Note) {
	if m.peers == nil {
		return
	}
	for _, node := range m.owned.streams() {
		m.peers.Tell(node, n)
	}
}

// learn takes the news of who owns what; hosts attached here are asked to join
// the new owners.
func (m *Mesh) learn(node string, owns []runtime.PartitionEpoch) {
	var news []runtime.PartitionEpoch
	for _, e := range owns {
		if m.dir.learn(e.Partition, node, e.Epoch) {
			news = append(news, e)
			switch p := m.part(e.Partition); {
			case node == m.cfg.Node:
			case !p.owning.Load():
				p.down.Store(nil) // whatever was wrong with it here
			case e.Epoch > p.epoch.Load():
				p.push(&runtime.Prove{}) // finds out that the term is over
			}
		}
	}
	if len(news) > 0 {
		m.askJoins(nil, news)
		m.resendDowns(news)
	}
}

// tellGateways tells the hosts attached here at once when there are other
// addresses at which they may attach: those that they know may all be gone soon.
func (m *Mesh) tellGateways() {
	list := m.Gateways()
	m.owned.mu.Lock()
	news := !slices.Equal(list, m.owned.shown)
	m.owned.shown = list
	m.owned.mu.Unlock()
	if !news {
		return
	}
	m.mu.Lock()
	links := make([]runtime.Link, 0, len(m.attached))
	for _, g := range m.attached {
		links = append(links, g.link)
	}
	m.mu.Unlock()
	for _, l := range links {
		l.Send(&runtime.Elsewhere{Gateways: list})
	}
}
