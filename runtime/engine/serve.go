package engine

import (
	"context"
	"maps"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

var _ PeerHandler = (*Mesh)(nil)

// Serve implements PeerHandler: another gateway takes this one for the owner.
func (m *Mesh) Serve(ctx context.Context, from string, op *Op, reply func(*Result)) {
	p := m.part(op.Partition)
	switch {
	case p == nil:
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotFound, "there is no partition %d", op.Partition)})
		return
	case op.HandOver != nil:
		m.owned.handOver(op.Partition, from, op.Epoch, reply)
		return
	case m.dir.of(op.Partition).node != m.cfg.Node:
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotOwner, "this gateway does not own partition %d", op.Partition)})
		return
	case op.Epoch > p.epoch.Load():
		// Somebody has claimed it since; the next append will show it.
		p.push(&runtime.Prove{})
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotOwner, "this gateway no longer owns partition %d", op.Partition)})
		return
	}
	m.tally.served.Add(1)
	var c *charge
	if op.Submit != nil {
		c = m.memory.charge(len(op.Submit.Request.Body))
		if err := m.memory.door(&op.Submit.Request, op.Submit.Vouched); err != nil {
			c.release()
			reply(&Result{Err: err})
			return
		}
	}
	if c != nil {
		ctx = charged(ctx, c)
	}
	if p.submitFor(ctx, op, reply) {
		return
	}
	end := func() {}
	if op.Submit != nil && op.Submit.Request.Key != "" {
		// In the order of the stream: a question about the id that follows waits.
		end = p.lookups.begin(op.Submit.Request.ID)
	}
	m.watches.Go(func() {
		defer end()
		defer c.release()
		reply(result(p.exec(ctx, op)))
	})
}

// submitFor takes the requests that need nothing but the core, without a
// goroutine: the order in which they came is kept, and they are the many.
func (p *partition) submitFor(ctx context.Context, op *Op, done func(*Result)) bool {
	if op.Submit == nil {
		return false
	}
	r := &op.Submit.Request
	if r.Key != "" || op.Submit.Vouched == nil && r.Session != "" {
		return false
	}
	w, id := &waiter{}, r.ID // what waits must not hold the body
	w.charge.Store(chargeOf(ctx))
	stop := context.AfterFunc(ctx, func() {
		p.leave(w)
		p.push(&runtime.Leave{ID: id, Waiter: w})
	})
	var stay atomic.Pointer[func() bool]
	w.then = func(rep reply) {
		stop()
		if s := stay.Load(); s != nil {
			(*s)()
		}
		if rep.err != nil {
			done(result(rep, rep.err))
		} else {
			done(result(rep, nil))
		}
	}
	s := context.AfterFunc(p.left.Load().ctx, func() {
		p.leave(w)
		w.give(reply{err: p.askOthers()})
	})
	stay.Store(&s)
	p.push(&runtime.Submit{Request: *r, Vouched: op.Submit.Vouched, Waiter: w})
	if w.left.Load() { // before it was in the queue
		p.leave(w)
	}
	return true
}

// Heard implements PeerHandler.
func (m *Mesh) Heard(from string, n *Note) {
	switch {
	case n.Owns != nil:
		m.heardOwns(from, n.Owns)
	case n.Input != nil:
		m.heardInput(n.Input)
	case n.Host != nil:
		m.heardHost(from, n.Host)
	case n.ToHost != nil:
		if l := m.attachedLink(n.ToHost.Boot, n.ToHost.Attachment); l != nil {
			if msg := n.ToHost.message(); msg != nil {
				l.Send(msg)
			}
		}
	case n.Taken != nil:
		m.taken(n.Taken)
	case n.Beats != nil:
		m.heardBeats(from, n.Beats)
	case n.Kept != nil:
		m.beats.kept(from, n.Kept)
	case n.Services:
		m.services.fire()
	}
}

func (m *Mesh) heardOwns(from string, n *OwnsNote) {
	o := m.owned
	o.mu.Lock()
	o.told[from] = true
	for p, by := range o.taking {
		if by == from {
			delete(o.taking, p)
		}
	}
	for _, p := range n.Claiming {
		o.taking[p] = from
	}
	for i := range o.members {
		if o.members[i].Node == from {
			if n.Self != nil && n.Self.Node == from {
				owns := o.members[i].Owns
				o.members[i] = *n.Self
				o.members[i].Owns = owns
			}
			o.members[i].Leaving = n.Leaving
		}
	}
	if a, known := o.heard[from]; known && n.Self != nil && n.Self.Node == from {
		a.Member = *n.Self
		o.heard[from] = a
	}
	news := o.vouchesLocked(from, n.Knows)
	o.compareLocked(from, n.Listed)
	me := o.meLocked()
	o.mu.Unlock()
	o.admit()
	if news {
		m.acquaint()
	}
	for i := range n.Knows {
		m.learnOf(&n.Knows[i])
	}
	if n.Self != nil && runtime.OtherLog(&me, n.Self) {
		n.Partitions = nil // of another log
	}
	has := map[uint16]bool{}
	for _, e := range n.Partitions {
		has[e.Partition] = true
	}
	for _, e := range m.dir.ofNode(from) {
		if !has[e.Partition] {
			m.dir.gone(e.Partition, from)
		}
	}
	m.learn(from, n.Partitions)
	o.nudge()
}

// from is the partition that sends the input; its own when it names none.
func (n *InputNote) from() uint16 {
	switch {
	case n.Deliver != nil:
		return n.Deliver.From
	case n.Acked != nil:
		return n.Acked.Partition
	case n.FenceAsk != nil:
		return n.FenceAsk.From
	case n.FenceAnswered != nil:
		return n.FenceAnswered.From
	case n.GroupAsk != nil:
		return n.GroupAsk.From
	case n.GroupOpen != nil:
		return n.GroupOpen.From
	case n.BesideAsk != nil:
		return n.BesideAsk.From
	case n.BesideAnswered != nil:
		return n.BesideAnswered.From
	}
	return n.Partition
}

func (m *Mesh) heardInput(n *InputNote) {
	p := m.part(n.Partition)
	if p == nil || m.part(n.from()) == nil {
		return
	}
	switch {
	case n.Deliver != nil:
		p.push(n.Deliver)
	case n.Acked != nil:
		p.push(n.Acked)
	case n.FenceAsk != nil:
		p.push(n.FenceAsk)
	case n.FenceAnswered != nil:
		p.push(n.FenceAnswered)
	case n.Release != nil:
		p.push(n.Release)
	case n.GroupAsk != nil:
		p.push(n.GroupAsk)
	case n.GroupOpen != nil:
		p.push(n.GroupOpen)
	case n.BesideAsk != nil:
		p.push(n.BesideAsk)
	case n.BesideAnswered != nil:
		p.push(n.BesideAnswered)
	}
}

// tell brings an input that needs no answer to the owner of a partition. When
// it is lost on the way it is told again later, or is not needed.
func (m *Mesh) tell(partition uint16, n *InputNote) {
	n.Partition = partition
	if own := m.dir.of(partition); m.cfg.Shared != nil && own.node != m.cfg.Node {
		if own.node != "" {
			m.peers.Tell(own.node, &Note{Input: n})
		}
		return
	}
	m.heardInput(n)
}

// PeerUp implements PeerHandler: what the other side must know of this one.
func (m *Mesh) PeerUp(node string) {
	o := m.owned
	o.mu.Lock()
	o.up[node], o.met = true, true
	delete(o.parted, node)
	delete(o.dead, node)
	maps.DeleteFunc(o.losses, func(_ uint16, l loss) bool { return l.to == node }) // it can be asked
	o.mu.Unlock()
	m.tellOwns(node)
	m.introduce(node)
	m.services.fire() // a word of a change may have been lost with the stream before
	o.nudge()
}

// PeerDown implements PeerHandler.
func (m *Mesh) PeerDown(node string, dead bool) {
	o := m.owned
	o.mu.Lock()
	if o.up[node] {
		o.parted[node] = time.Now()
	}
	delete(o.up, node)
	delete(o.told, node)
	delete(o.vouch, node)
	delete(o.apart, node)
	if a, known := o.heard[node]; known {
		a.at = time.Now() // it is looked for a while
		o.heard[node] = a
	}
	for p, by := range o.taking {
		if by == node {
			delete(o.taking, p)
		}
	}
	if _, known := o.dead[node]; dead && !known {
		o.dead[node] = time.Now()
	}
	o.mu.Unlock()
	m.unlinkVia(node)
	m.beats.gone(node)
	o.nudge()
}

// PeerKnocked takes the news that a gateway dials that is not in the list: it
// may be in a newer one, or one of the two cannot read it.
func (m *Mesh) PeerKnocked(node, address string) {
	m.meet(runtime.Member{Node: node, Address: address})
	select {
	case m.owned.relist <- struct{}{}:
	default:
	}
}
