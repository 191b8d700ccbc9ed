package engine

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

var _ runtime.Owners = (*Mesh)(nil)

// Guests are the hosts of the mesh as this node knows them. A host is attached
// to one gateway, which passes on what it and the owners of the partitions have
// to say to each other.
type guests struct {
	mu *sync.Mutex
	// attached hosts have their stream here.
	attached map[string]*guest
	// links lead from the owners here to hosts, wherever they are attached.
	links map[string]runtime.Link
	hosts map[string]runtime.HostInfo
	// downs are boots whose end was proven here a short while ago; new owners are told.
	downs map[string]down
	// said are the boots whose loss stands in the log.
	said map[string]struct{}
	// asked are the notes that wait for an answer.
	asked map[uint64]func(*HostTaken)
	seq   uint64
}

type guest struct {
	info runtime.HostInfo
	link runtime.Link
}

type down struct {
	reason string
	at     time.Time
}

func newGuests() guests {
	return guests{
		mu: &sync.Mutex{}, attached: map[string]*guest{}, links: map[string]runtime.Link{}, hosts: map[string]runtime.HostInfo{},
		downs: map[string]down{}, said: map[string]struct{}{}, asked: map[uint64]func(*HostTaken){},
	}
}

// Epochs implements runtime.Owners.
func (m *Mesh) Epochs() []runtime.PartitionEpoch {
	es := make([]runtime.PartitionEpoch, len(m.parts))
	for i, p := range m.parts {
		es[i] = runtime.PartitionEpoch{Partition: p.n, Epoch: max(p.epoch.Load(), m.dir.of(p.n).epoch)}
	}
	return es
}

// Gateways implements runtime.Owners.
func (m *Mesh) Gateways() (addresses []string) {
	if m.owned == nil {
		return nil
	}
	live, _ := m.owned.live()
	for i := range live {
		if !live[i].Leaving && live[i].Address != "" {
			addresses = append(addresses, live[i].Address)
		}
	}
	return addresses
}

// send passes a message on; without a link it vanishes and the next join repairs it.
func (m *Mesh) send(boot string, msg runtime.HostMessage) {
	m.mu.Lock()
	l := m.links[boot]
	m.mu.Unlock()
	if l != nil {
		l.Send(msg)
	}
}

func (m *Mesh) attachedLink(boot string) runtime.Link {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.attached[boot]; g != nil {
		return g.link
	}
	return nil
}

const (
	// joinTimeout bounds how long an attaching host waits for its owners in local mode.
	joinTimeout = 10 * time.Second
	// joinPatience is how long it waits in a shared mesh: the owners need not have
	// answered, but then the host is ready for their work too.
	joinPatience = 250 * time.Millisecond
)

// here tells hosts that only the owners at this node know: those that live in it.
func here(h *runtime.HostInfo) bool { return h.URL != "" }

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
	m.mu.Lock()
	m.attached[h.Boot] = &guest{info: h, link: link}
	m.links[h.Boot] = link
	m.hosts[h.Boot] = h
	m.mu.Unlock()
	// An owner that the host was not asked for, or that has become one since, has
	// to ask for itself; whoever becomes one from now on finds it attached.
	var since []runtime.PartitionEpoch
	answered := make(map[uint16]uint64, len(epochs))
	for _, e := range epochs {
		answered[e.Partition] = e.Epoch
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
func (m *Mesh) Joined(boot string, epochs []runtime.PartitionEpoch, join runtime.JoinAnswer) {
	m.mu.Lock()
	g := m.attached[boot]
	m.mu.Unlock()
	if g != nil {
		_ = m.join(g.info, epochs, join, g.link, false)
	}
}

// join brings a join to the owners of some partitions. An owner of another term
// than the host was asked for waits for a join of its own.
func (m *Mesh) join(h runtime.HostInfo, epochs []runtime.PartitionEpoch, join runtime.JoinAnswer, link runtime.Link, wait bool) error {
	parts := m.split(join)
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
		asked.Add(1)
		seq := m.asking(func(t *HostTaken) {
			lost(t.Err)
			asked.Done()
		})
		note := &HostNote{Boot: h.Boot, Seq: seq, Up: &HostUpNote{Info: info, Epochs: es}}
		for _, e := range es {
			if j := parts[e.Partition]; j != nil {
				note.Up.Join.Running = append(note.Up.Join.Running, j.Running...)
				note.Up.Join.Finished = append(note.Up.Join.Finished, j.Finished...)
				note.Up.Join.Instances = append(note.Up.Join.Instances, j.Instances...)
			}
		}
		m.peers.Tell(node, &Note{Host: note})
		time.AfterFunc(joinTimeout, func() { m.taken(&HostTaken{Seq: seq}) }) // lost on its way
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
	go func() { asked.Wait(); close(all) }() // ends with joinTimeout at the latest
	select {
	case <-all:
	case <-time.After(joinPatience):
	case <-ctx.Done():
	}
	return nil
}

// joinHere is the join with one partition of this node.
func (m *Mesh) joinHere(h runtime.HostInfo, e runtime.PartitionEpoch, join *runtime.JoinAnswer, w *waiter) {
	p := m.part(e.Partition)
	if p == nil || p.epoch.Load() != e.Epoch {
		w.give(reply{err: runtime.Errorf(runtime.CodeNotOwner, "the join is for another term")})
		return
	}
	in := &runtime.HostJoined{Info: h, Waiter: w}
	if join != nil {
		in.Join = *join
	}
	p.push(in)
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

// HostChanged implements runtime.Owners.
func (m *Mesh) HostChanged(h runtime.HostInfo) {
	m.mu.Lock()
	g := m.attached[h.Boot]
	if g == nil { // lost, or attached somewhere else
		m.mu.Unlock()
		return
	}
	if h.Grace == 0 {
		h.Grace = g.info.Grace
	}
	g.info = h
	m.mu.Unlock()
	m.changed(h)
	if !here(&h) {
		m.tellAll(&Note{Host: &HostNote{Boot: h.Boot, Changed: &h}})
	}
}

func (m *Mesh) changed(h runtime.HostInfo) {
	m.mu.Lock()
	old, known := m.hosts[h.Boot]
	if !known { // counted lost, and not told yet
		m.mu.Unlock()
		return
	}
	if h.Grace == 0 {
		h.Grace = old.Grace
	}
	m.hosts[h.Boot] = h
	m.mu.Unlock()
	for _, p := range m.parts {
		p.push(&runtime.HostChanged{Info: h})
	}
}

// LinkDown implements runtime.Owners.
func (m *Mesh) LinkDown(boot string, link runtime.Link) {
	m.mu.Lock()
	g := m.attached[boot]
	mine := g != nil && g.link == link
	if mine {
		delete(m.attached, boot)
	}
	m.mu.Unlock()
	if mine {
		m.unlinked(boot, link)
		if !here(&g.info) {
			m.tellAll(&Note{Host: &HostNote{Boot: boot, Unlinked: true}})
		}
	}
}

// unlinked forgets a link, unless another one has taken its place.
func (m *Mesh) unlinked(boot string, link runtime.Link) {
	m.mu.Lock()
	mine := m.links[boot] == link
	if mine {
		delete(m.links, boot)
		delete(m.hosts, boot)
	}
	m.mu.Unlock()
	if mine {
		for _, p := range m.parts {
			p.push(&runtime.HostUnlinked{Boot: boot})
		}
	}
}

// HostDown implements runtime.Owners.
func (m *Mesh) HostDown(boot, reason string) {
	m.cfg.Logger.Info("host ended", "boot", boot, "reason", reason)
	m.mu.Lock()
	now := time.Now()
	for b, d := range m.downs {
		if now.Sub(d.at) > 4*m.cfg.Lease { // the owners have counted it lost by themselves
			delete(m.downs, b)
		}
	}
	m.downs[boot] = down{reason, now}
	delete(m.attached, boot)
	m.mu.Unlock()
	m.hostDown(boot, reason)
	m.tellAll(&Note{Host: &HostNote{Boot: boot, Down: &reason}})
}

func (m *Mesh) hostDown(boot, reason string) {
	m.mu.Lock()
	delete(m.links, boot)
	delete(m.hosts, boot)
	m.mu.Unlock()
	for _, p := range m.parts {
		p.push(&runtime.HostDown{Boot: boot, Reason: reason})
	}
}

// resendDowns tells new owners of hosts whose end was proven here.
func (m *Mesh) resendDowns(news []runtime.PartitionEpoch) {
	nodes := map[string]bool{}
	for _, e := range news {
		nodes[m.dir.of(e.Partition).node] = true
	}
	m.mu.Lock()
	downs := make(map[string]string, len(m.downs))
	for b, d := range m.downs {
		downs[b] = d.reason
	}
	m.mu.Unlock()
	for boot, reason := range downs {
		for node := range nodes {
			if node == m.cfg.Node {
				for _, e := range news {
					m.part(e.Partition).push(&runtime.HostDown{Boot: boot, Reason: reason})
				}
			} else if node != "" {
				m.peers.Tell(node, &Note{Host: &HostNote{Boot: boot, Down: &reason}})
			}
		}
	}
}

// lost tells a host that it was counted lost; it has to stop its app.
func (m *Mesh) lost(boot, reason string) {
	m.send(boot, &runtime.Verdict{Reason: reason})
	m.mu.Lock()
	if _, said := m.said[boot]; !said { // the first of the partitions that find so
		if len(m.said) > 1000 {
			clear(m.said)
		}
		m.said[boot] = struct{}{}
		h := m.hosts[boot]
		defer m.cfg.Logger.Warn("host lost", "host", h.Name, "app", h.App, "boot", boot, "reason", reason)
	}
	delete(m.links, boot)
	delete(m.hosts, boot)
	delete(m.attached, boot)
	m.mu.Unlock()
}

// Answered implements runtime.Owners.
func (m *Mesh) Answered(boot string, a runtime.Answer) {
	m.toOwner(a.Attempt.Partition, func(p *partition) { p.push(&runtime.Answered{Boot: boot, Answer: a}) },
		func() *HostNote { return &HostNote{Boot: boot, Answered: &a} })
}

// Deactivated implements runtime.Owners.
func (m *Mesh) Deactivated(boot string, a runtime.Actor, n uint16) {
	m.toOwner(n, func(p *partition) { p.push(&runtime.Deactivated{Boot: boot, Actor: a}) },
		func() *HostNote {
			return &HostNote{Boot: boot, Deactivated: &DeactivatedNote{Actor: a, Partition: n}}
		})
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

// A relay is the link of a host that is attached to another gateway.
type relay struct {
	m          *Mesh
	node, boot string
}

// Send implements runtime.Link.
func (r *relay) Send(msg runtime.HostMessage) {
	n := &ToHostNote{Boot: r.boot}
	switch msg := msg.(type) {
	case *runtime.Invoke:
		n.Invoke = msg
	case *runtime.Deactivate:
		n.Deactivate = msg
	case *runtime.Taken:
		n.Taken = msg
	case *runtime.Verdict:
		n.Verdict = msg
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
		if l != nil && l.node == from {
			m.unlinked(n.Boot, l)
		}
	case n.Down != nil:
		m.hostDown(n.Boot, *n.Down)
	case n.Answered != nil:
		if p := m.part(n.Answered.Attempt.Partition); p != nil {
			p.push(&runtime.Answered{Boot: n.Boot, Answer: *n.Answered})
		}
	case n.Deactivated != nil:
		if p := m.part(n.Deactivated.Partition); p != nil {
			p.push(&runtime.Deactivated{Boot: n.Boot, Actor: n.Deactivated.Actor})
		}
	}
}

// heardUp joins a host of another gateway with the partitions of this one.
func (m *Mesh) heardUp(from string, n *HostNote) {
	up := n.Up
	m.mu.Lock()
	link, ok := m.links[n.Boot].(*relay)
	if !ok || link.node != from {
		link = &relay{m, from, n.Boot}
		m.links[n.Boot] = link
	}
	if !here(&up.Info) {
		m.hosts[n.Boot] = up.Info
	}
	m.mu.Unlock()
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

// Hosts lists the live hosts of an app ("" for all), sorted by boot.
func (m *Mesh) Hosts(app string) []runtime.HostInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	var hs []runtime.HostInfo
	for _, h := range m.hosts {
		if app == "" || h.App == app {
			hs = append(hs, h)
		}
	}
	sort.Slice(hs, func(i, j int) bool { return hs[i].Boot < hs[j].Boot })
	return hs
}

// HostOf is the host info of a live boot.
func (m *Mesh) HostOf(boot string) (runtime.HostInfo, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.hosts[boot]
	return h, ok
}

// heal puts a host back that beats over a stream of this gateway while the
// tables say that it is somewhere else: what other gateways said of it was late.
func (m *Mesh) heal(boot string) {
	m.mu.Lock()
	g := m.attached[boot]
	wrong := g != nil && m.links[boot] != g.link
	if wrong {
		m.links[boot], m.hosts[boot] = g.link, g.info
	}
	m.mu.Unlock()
	if !wrong {
		return
	}
	if !here(&g.info) {
		m.tellAll(&Note{Host: &HostNote{Boot: boot, Up: &HostUpNote{Info: g.info}}})
	}
	g.link.Send(&runtime.JoinAsk{Epochs: m.Epochs()})
}
