package engine

import (
	"context"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Beats gather the signs of life of the hosts attached here, so that an owner
// is asked once for all of them: the cost follows the number of gateways and
// partitions, not that of hosts.
type beats struct {
	m    *Mesh
	wake chan struct{}

	mu      sync.Mutex
	waiting map[string][]chan beatAnswer
	rounds  map[uint64]*beatRound
	seq     uint64
}

type beatAnswer struct {
	silent []uint16
	lost   bool
}

// A beatRound is one question to all owners. An answer takes up to two appends,
// which on a slow log are a good part of the lease: it runs from the sending of
// the beat, so that a third of it for the answers leaves two.
type beatRound struct {
	boots   map[string][]chan beatAnswer
	nodes   map[string]bool // whose answer is missing
	pending int             // partitions here, and nodes, that have not answered
	kept    map[uint16]bool
	lost    map[string]bool
	over    chan struct{} // closed when nothing is pending
}

// Beat implements runtime.Owners. Each partition answers in order with its own
// decisions: one that has just counted the host lost cannot be overtaken by an
// older "kept".
func (m *Mesh) Beat(boot string) (silent []uint16, lost bool) {
	m.heal(boot)
	b := &m.beats
	ch := make(chan beatAnswer, 1)
	b.mu.Lock()
	if b.waiting == nil {
		b.waiting = map[string][]chan beatAnswer{}
	}
	b.waiting[boot] = append(b.waiting[boot], ch)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	select {
	case a := <-ch:
		return a.silent, a.lost
	case <-m.life.Done():
		return m.allPartitions(), false
	}
}

func (m *Mesh) allPartitions() []uint16 {
	ps := make([]uint16, len(m.parts))
	for i := range ps {
		ps[i] = uint16(i)
	}
	return ps
}

func (b *beats) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		if !pauseFor(ctx, b.m.cfg.Lease/240) { // for others to come along
			return
		}
		b.mu.Lock()
		boots := b.waiting
		b.waiting = nil
		b.mu.Unlock()
		if len(boots) > 0 {
			b.ask(ctx, boots)
		}
	}
}

// ask begins a round.
func (b *beats) ask(ctx context.Context, boots map[string][]chan beatAnswer) {
	names := make([]string, 0, len(boots))
	for boot := range boots {
		names = append(names, boot)
	}
	r := &beatRound{boots: boots, nodes: map[string]bool{}, kept: map[uint16]bool{}, lost: map[string]bool{}, over: make(chan struct{})}
	var mine []*partition
	for p, own := range b.m.dir.all() {
		switch {
		case b.m.cfg.Shared == nil || own.node == b.m.cfg.Node:
			mine = append(mine, b.m.parts[p])
		case own.node != "":
			r.nodes[own.node] = true
		}
	}
	r.pending = len(mine) + len(r.nodes) + 1
	b.mu.Lock()
	b.seq++
	seq := b.seq
	if b.rounds == nil {
		b.rounds = map[uint64]*beatRound{}
	}
	b.rounds[seq] = r
	nodes := make([]string, 0, len(r.nodes))
	for node := range r.nodes {
		nodes = append(nodes, node)
	}
	b.mu.Unlock()
	for _, node := range nodes {
		b.m.peers.Tell(node, &Note{Beats: &BeatsNote{Seq: seq, Boots: names}})
	}
	for _, p := range mine {
		p.push(&runtime.HostsBeat{Boots: names, Waiter: &waiter{then: func(rep reply) {
			lost, ok := rep.value.([]string)
			b.answer(seq, func(r *beatRound) { r.note(p.n, lost, ok) })
		}}})
	}
	b.answer(seq, func(*beatRound) {}) // all are asked
	b.m.watches.Go(func() {
		select {
		case <-r.over:
		case <-time.After(b.m.cfg.Lease / 3):
		case <-ctx.Done():
		}
		b.finish(seq)
	})
}

func (r *beatRound) note(p uint16, lost []string, ok bool) {
	if ok {
		r.kept[p] = true
	}
	for _, boot := range lost {
		r.lost[boot] = true
	}
}

// answer takes one of the awaited answers.
func (b *beats) answer(seq uint64, note func(*beatRound)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rounds[seq]
	if r == nil {
		return
	}
	note(r)
	if r.pending--; r.pending == 0 {
		close(r.over)
	}
}

// kept takes another gateway's answer.
func (b *beats) kept(from string, n *KeptNote) {
	b.answered(n.Seq, from, func(r *beatRound) {
		for _, p := range n.Partitions {
			r.kept[p] = true
		}
		r.note(0, n.Lost, false)
	})
	if len(n.Unknown) > 0 {
		b.m.reintroduce(from, n.Unknown)
	}
}

// gone stops waiting for a gateway whose stream broke.
func (b *beats) gone(node string) {
	b.mu.Lock()
	seqs := make([]uint64, 0, len(b.rounds))
	for seq := range b.rounds {
		seqs = append(seqs, seq)
	}
	b.mu.Unlock()
	for _, seq := range seqs {
		b.answered(seq, node, func(*beatRound) {})
	}
}

func (b *beats) answered(seq uint64, node string, note func(*beatRound)) {
	b.mu.Lock()
	r := b.rounds[seq]
	first := r != nil && r.nodes[node]
	if first {
		delete(r.nodes, node)
	}
	b.mu.Unlock()
	if first {
		b.answer(seq, note)
	}
}

// finish tells the hosts.
func (b *beats) finish(seq uint64) {
	b.mu.Lock()
	r := b.rounds[seq]
	delete(b.rounds, seq)
	b.mu.Unlock()
	var silent []uint16
	for p := range b.m.parts {
		if !r.kept[uint16(p)] {
			silent = append(silent, uint16(p))
		}
	}
	for boot, chs := range r.boots {
		for _, ch := range chs {
			ch <- beatAnswer{silent, r.lost[boot]}
		}
	}
}

// heardBeats answers another gateway for the partitions owned here. One that
// cannot answer soon must not hold up the others.
func (m *Mesh) heardBeats(from string, n *BeatsNote) {
	var mu sync.Mutex
	answer, sent := &KeptNote{Seq: n.Seq}, false
	m.mu.Lock()
	for _, boot := range n.Boots {
		if l, ok := m.links[boot].(*relay); !ok || l.node != from {
			answer.Unknown = append(answer.Unknown, boot)
		}
	}
	m.mu.Unlock()
	send := func() {
		mu.Lock()
		defer mu.Unlock()
		if !sent {
			sent = true
			m.peers.Tell(from, &Note{Kept: answer})
		}
	}
	var mine []*partition
	for p, own := range m.dir.all() {
		if own.node == m.cfg.Node {
			mine = append(mine, m.parts[p])
		}
	}
	left := len(mine)
	if left == 0 {
		send()
		return
	}
	timer := time.AfterFunc(m.cfg.Lease/4, send)
	for _, p := range mine {
		p.push(&runtime.HostsBeat{Boots: n.Boots, Waiter: &waiter{then: func(rep reply) {
			lost, ok := rep.value.([]string)
			mu.Lock()
			if ok && !sent {
				answer.Partitions = append(answer.Partitions, p.n)
				answer.Lost = append(answer.Lost, lost...)
			}
			left--
			last := left == 0
			mu.Unlock()
			if last {
				timer.Stop()
				send()
			}
		}}})
	}
}

// reintroduce joins hosts with a gateway that does not know that they are here.
func (m *Mesh) reintroduce(node string, boots []string) {
	m.mu.Lock()
	var infos []runtime.HostInfo
	for _, b := range boots {
		if g := m.attached[b]; g != nil && m.links[b] == g.link {
			infos = append(infos, g.info)
		}
	}
	m.mu.Unlock()
	known := make([]string, 0, len(infos))
	for _, h := range infos {
		m.peers.Tell(node, &Note{Host: &HostNote{Boot: h.Boot, Up: &HostUpNote{Info: h}}})
		known = append(known, h.Boot)
	}
	if epochs := m.dir.ofNode(node); len(known) > 0 && len(epochs) > 0 {
		m.askJoins(known, epochs)
	}
}
