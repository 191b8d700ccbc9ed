package engine

import (
	"context"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

const (
	// joinTimeout bounds how long an attaching host waits for its owners in local mode.
	joinTimeout = 10 * time.Second
	// joinPatience is how long it waits in a shared mesh: the owners need not have
	// answered, but then the host is ready for their work too.
	joinPatience = 250 * time.Millisecond
)

// HostUp implements runtime.Owners: every owner hears of the boot, with its
// part of what the boot runs and holds.
func (m *Mesh) HostUp(h runtime.HostInfo, join runtime.JoinAnswer, link runtime.Link) error {
	if h.Grace == 0 {
		h.Grace = m.cfg.Lease.Milliseconds()
	}
	epochs := join.Epochs
	if epochs == nil {
		epochs = m.Epochs()
	}
	if !m.linkTo(&h, link, &guest{info: h, link: link}) {
		return runtime.Errorf(runtime.CodeUnavailable, "the host has attached again since")
	}
	// An owner that the host was not asked for, or that has become one since, has
	// to ask for itself; whoever becomes one from now on finds it attached.
	var since []runtime.PartitionEpoch
	answered := make(map[uint16]uint64, len(epochs))
	for _, e := range epochs {
		answered[e.Partition] = e.Epoch
	}
	for _, t := range join.Later {
		answered[t.Partition] = t.Epoch // it was asked, and has answered
	}
	for _, now := range m.Epochs() {
		if e, ok := answered[now.Partition]; !ok || now.Epoch > e {
			since = append(since, now)
		}
	}
	if len(since) > 0 {
		link.Send(&runtime.JoinAsk{Epochs: since})
	}
	err := m.join(h, epochs, join, link, true)
	if err != nil {
		m.LinkDown(h.Boot, link)
	}
	return err
}

// Joined implements runtime.Owners.
func (m *Mesh) Joined(boot string, link runtime.Link, epochs []runtime.PartitionEpoch, join runtime.JoinAnswer) {
	m.mu.Lock()
	g := m.attached[boot]
	m.mu.Unlock()
	if g == nil || g.link != link {
		return // it has attached again since, and is asked anew
	}
	g.telling.Lock()
	defer g.telling.Unlock()
	m.mu.Lock()
	info := g.info // which HostChanged replaces
	m.mu.Unlock()
	_ = m.join(info, epochs, join, link, false)
}

// join brings a join to the owners of some partitions. An owner of another term
// than the host was asked for waits for a join of its own.
func (m *Mesh) join(h runtime.HostInfo, epochs []runtime.PartitionEpoch, join runtime.JoinAnswer, link runtime.Link, wait bool) error {
	parts := m.split(join)
	m.later(h.Boot, join.Later)
	remote := map[string][]runtime.PartitionEpoch{}
	var waiters []*waiter
	var asked sync.WaitGroup
	lost := func(err *runtime.Error) {
		if is(err, runtime.CodeHostLost) {
			link.Send(&runtime.Verdict{Reason: err.Detail})
		}
	}
	for _, e := range epochs {
		switch own := m.dir.of(e.Partition); {
		case m.cfg.Shared == nil:
			w := newWaiter()
			waiters = append(waiters, w)
			m.joinHere(h, e, parts[e.Partition], w)
		case own.node == m.cfg.Node:
			asked.Add(1)
			m.joinHere(h, e, parts[e.Partition], &waiter{then: func(r reply) {
				lost(r.err)
				asked.Done()
			}})
		case own.node != "":
			remote[own.node] = append(remote[own.node], e)
		}
	}
	info := h
	if here(&h) { // owners elsewhere give it nothing new, but must hear of what they found begun
		info.Draining = true
	}
	if wait && m.owned != nil && !here(&h) {
		for _, node := range m.owned.streams() { // those that own nothing list it too
			if remote[node] == nil {
				m.peers.Tell(node, &Note{Host: &HostNote{Boot: h.Boot, Up: &HostUpNote{Info: h}}})
			}
		}
	}
	for node, es := range remote {
		notes, rest := joinNotes(es, parts)
		for _, up := range notes {
			up.Info = info
			asked.Add(1)
			seq := m.asking(func(t *HostTaken) {
				lost(t.Err)
				asked.Done()
			})
			m.peers.Tell(node, &Note{Host: &HostNote{Boot: h.Boot, Seq: seq, Up: up}})
			time.AfterFunc(joinTimeout, func() { m.taken(&HostTaken{Seq: seq}) }) // lost on its way
		}
		for i := range rest {
			m.peers.Tell(node, &Note{Host: &HostNote{Boot: h.Boot, App: h.App, Answered: &rest[i]}})
		}
	}
	if !wait {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.life, joinTimeout)
	defer cancel()
	for _, w := range waiters {
		select {
		case r := <-w.ch:
			if r.err != nil {
				return r.err
			}
		case <-ctx.Done():
			return runtime.Errorf(runtime.CodeUnavailable, "the owners did not take the host in time")
		}
	}
	all := make(chan struct{})
	go func() { asked.Wait(); close(all) }() // ends when the last owner has answered or is given up
	select {
	case <-all:
	case <-time.After(joinPatience):
	case <-ctx.Done():
	}
	return nil
}

// later brings what a host knows of later terms to the owners.
func (m *Mesh) later(boot string, list []runtime.TermSeen) {
	for _, t := range list {
		m.toOwner(t.Partition, func(p *partition) { p.push(&runtime.HostKnowsLater{Boot: boot, Seen: t}) },
			func() *HostNote { return &HostNote{Boot: boot, App: m.appOf(boot), Later: &t} })
	}
}

// joinHere is the join with one partition of this node.
func (m *Mesh) joinHere(h runtime.HostInfo, e runtime.PartitionEpoch, join *runtime.JoinAnswer, w *waiter) {
	p := m.part(e.Partition)
	if p == nil || p.epoch.Load() != e.Epoch {
		w.give(reply{err: runtime.Errorf(runtime.CodeNotOwner, "the join is for another term")})
		return
	}
	in := &runtime.HostJoined{Info: h, Term: e.Epoch, Waiter: w}
	var ins []runtime.Input
	if join != nil {
		in.Join = *join
		in.Join.Finished = nil // there may be thousands: each as an answer of its own
		for _, a := range join.Finished {
			ins = append(ins, &runtime.Answered{Boot: h.Boot, Answer: a})
		}
	}
	p.push(append(ins, in)...)
}

// split is a join by partition.
func (m *Mesh) split(j runtime.JoinAnswer) map[uint16]*runtime.JoinAnswer {
	parts := map[uint16]*runtime.JoinAnswer{}
	of := func(p uint16) *runtime.JoinAnswer {
		x := parts[p]
		if x == nil {
			x = &runtime.JoinAnswer{}
			parts[p] = x
		}
		return x
	}
	for _, a := range j.Running {
		x := of(a.Partition)
		x.Running = append(x.Running, a)
	}
	for _, a := range j.Finished {
		x := of(a.Attempt.Partition)
		x.Finished = append(x.Finished, a)
	}
	for _, a := range j.Instances {
		x := of(runtime.ActorPartition(a, len(m.parts)))
		x.Instances = append(x.Instances, a)
	}
	return parts
}

// asking makes the number of a note that is answered; then is called once.
func (m *Mesh) asking(then func(*HostTaken)) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq++
	m.asked[m.seq] = then
	return m.seq
}

func (m *Mesh) taken(t *HostTaken) {
	m.mu.Lock()
	then := m.asked[t.Seq]
	delete(m.asked, t.Seq)
	m.mu.Unlock()
	if then != nil {
		then(t)
	}
}

// heardUp joins a host of another gateway with the partitions of this one.
func (m *Mesh) heardUp(from string, n *HostNote) {
	up := n.Up
	m.mu.Lock()
	link, ok := m.links[n.Boot].(*relay)
	m.mu.Unlock()
	if !ok || link.node != from || link.attachment != up.Info.Attachment {
		link = &relay{m, from, n.Boot, up.Info.App, up.Info.Attachment}
	}
	if !m.linkTo(&up.Info, link, nil) {
		if n.Seq != 0 {
			m.peers.Tell(from, &Note{Taken: &HostTaken{Seq: n.Seq}})
		}
		return
	}
	if n.Seq == 0 {
		return
	}
	left := len(up.Epochs)
	if left == 0 {
		m.peers.Tell(from, &Note{Taken: &HostTaken{Seq: n.Seq}})
		return
	}
	var mu sync.Mutex
	var failed *runtime.Error
	done := func(r reply) {
		mu.Lock()
		if is(r.err, runtime.CodeHostLost) {
			failed = r.err
		}
		left--
		last, err := left == 0, failed
		mu.Unlock()
		if last {
			m.peers.Tell(from, &Note{Taken: &HostTaken{Seq: n.Seq, Err: err}})
		}
	}
	parts := m.split(up.Join)
	for _, e := range up.Epochs {
		m.joinHere(up.Info, e, parts[e.Partition], &waiter{then: done})
	}
}

// askJoins asks hosts that are attached here what they run and hold in some
// partitions: all hosts, or the given ones.
func (m *Mesh) askJoins(boots []string, epochs []runtime.PartitionEpoch) {
	m.mu.Lock()
	var links []runtime.Link
	if boots == nil {
		for _, g := range m.attached {
			links = append(links, g.link)
		}
	}
	for _, b := range boots {
		if g := m.attached[b]; g != nil {
			links = append(links, g.link)
		}
	}
	m.mu.Unlock()
	for _, l := range links {
		l.Send(&runtime.JoinAsk{Epochs: epochs})
	}
}

// introduce tells a peer whose stream has just come up which hosts are attached
// here, and asks them to join the peer's partitions: what was on its way when
// an earlier stream broke is lost.
func (m *Mesh) introduce(node string) {
	m.mu.Lock()
	var infos []runtime.HostInfo
	for _, g := range m.attached {
		if !here(&g.info) && m.links[g.info.Boot] == g.link { // else it is attached elsewhere by now
			infos = append(infos, g.info)
		}
	}
	m.mu.Unlock()
	for _, h := range infos {
		m.peers.Tell(node, &Note{Host: &HostNote{Boot: h.Boot, Up: &HostUpNote{Info: h}}})
	}
	if epochs := m.dir.ofNode(node); len(epochs) > 0 {
		m.askJoins(nil, epochs)
		m.resendDowns(epochs)
	}
}

// heal puts a host back that beats over a stream of this gateway while the
// tables say that it is somewhere else: what other gateways said of it was late.
func (m *Mesh) heal(boot string) {
	m.mu.Lock()
	g := m.attached[boot]
	last := m.hosts[boot]
	wrong := g != nil && m.links[boot] != g.link && !g.info.Before(&last)
	var info runtime.HostInfo
	if wrong {
		info = g.info
		m.links[boot], m.hosts[boot] = g.link, info
	}
	m.mu.Unlock()
	if !wrong {
		return
	}
	if !here(&info) {
		m.tellAll(&Note{Host: &HostNote{Boot: boot, Up: &HostUpNote{Info: info}}})
	}
	g.link.Send(&runtime.JoinAsk{Epochs: m.Epochs()})
}
