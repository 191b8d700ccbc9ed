package runtime

import "sort"

// header carries everything that is not tied to one live thing; the log may be
// cut in front of it.
type header struct {
	mesh       string
	partitions int
	out        []counter
	in         []counter
	fences     []counter
	apps       []appChanged
	lost       []hostLost
	at         int64 // wall clock, ms; 0 in logs of before this field
	level      int   // 0 means 1
	changed    uint64
	floor      uint64 // the log may be cut in front of this record; 0 in logs of before this field
	node       string // of the claim, which may have been cut
	address    string
	window     int64
	youngest   int64
	terms      uint64 // of the terms before, see Core.terms; 0 in the first one and in headers of before this field
}

type counter struct {
	partition uint16
	n         uint64
}

func (m *counter) fields(c *codec) {
	c.u16(1, &m.partition)
	c.u64(2, &m.n)
}

func (m *header) fields(c *codec) {
	c.str(1, &m.mesh)
	c.int(2, &m.partitions)
	list(c, 3, &m.out)
	list(c, 4, &m.in)
	list(c, 5, &m.fences)
	list(c, 6, &m.apps)
	list(c, 7, &m.lost)
	c.i64(8, &m.at)
	c.int(9, &m.level)
	c.u64(10, &m.changed)
	c.u64(11, &m.floor)
	c.str(12, &m.node)
	c.str(13, &m.address)
	c.i64(14, &m.window)
	c.i64(15, &m.youngest)
	c.u64(16, &m.terms)
}

// Mark appends a header. It says that the log may be cut in front of the record
// Floor, which must be true: see [Core.OldestLive].
type Mark struct{ Floor uint64 }

func (in *Mark) decide(c *Core) {
	h := &header{
		mesh: c.cfg.Mesh, partitions: c.cfg.Partitions, at: c.now.Wall, level: c.level, changed: c.changed,
		floor: max(in.Floor, c.floor, c.head, 1), node: c.claimNode, address: c.claimAddress,
		window: c.window, youngest: c.youngest, terms: c.terms,
	}
	for p := range c.cfg.Partitions {
		q := uint16(p)
		if o := c.out[q]; o != nil {
			h.out = append(h.out, counter{q, o.next})
		}
		if n := c.in[q]; n != 0 {
			h.in = append(h.in, counter{q, n})
		}
		if n := c.fences[q]; n != 0 {
			h.fences = append(h.fences, counter{q, n})
		}
	}
	if c.LogLevel() < 2 {
		c.addFacts(h)
	}
	c.emit(h)
	c.markSeq, c.markAt = c.seq, len(c.records)-1
}

// LastMark is the header that was decided last: its record, and its place among those
// that Take returns. More may come behind it in the same step.
func (c *Core) LastMark() (seq uint64, place int) { return c.markSeq, c.markAt }

// floorAt is up to where the log may be cut, as far as the header at seq says.
// Versions that do not say it cut in front of any header up to their last one,
// at any time after it.
func (m *header) floorAt(seq uint64) uint64 {
	if m.floor == 0 {
		return seq
	}
	return m.floor
}

func (m *header) restore(c *Core, seq uint64) {
	c.level, c.changed, c.floor = m.level, m.changed, m.floorAt(seq)
	c.claimNode, c.claimAddress, c.headAt = m.node, m.address, m.at
	c.window, c.youngest, c.terms = m.window, m.youngest, m.terms
	c.view.forgotten = max(c.view.forgotten, m.changed) // the log no longer has it: a store that lacks it is too old
	for _, x := range m.out {
		c.outboxTo(x.partition).next = x.n
	}
	for _, x := range m.in {
		c.in[x.partition] = x.n
	}
	for _, x := range m.fences {
		c.fences[x.partition] = x.n
	}
	for i := range m.apps {
		x := &m.apps[i]
		a := c.app(x.app)
		a.generation, a.used = x.generation, x.generation != 0
		for _, s := range x.services {
			c.applyService(0, x.app, s, false)
		}
	}
	for _, x := range m.lost {
		c.noteLost(0, x.boot, x.at, x.beside)
	}
	c.listFacts(seq)
}

// Claim is the record with which this node asks to own the partition. It must
// be appended to the log that has been folded to its end, read back and folded;
// then Own tells whether it counted.
func (c *Core) Claim(now Now) []byte {
	c.now = now
	body := &claimed{node: c.cfg.Node, mesh: c.cfg.Mesh, partitions: c.cfg.Partitions, at: now.Wall, address: c.cfg.Address, window: c.cfg.IDWindow, youngest: c.forgotten(now)}
	if c.epoch == 0 && c.supports() > 1 {
		body.level = c.supports() // nobody has written anything that an older version must read
	}
	return EncodeRecord(&Record{Epoch: c.epoch + 1, Owner: c.me, Body: body})
}

// Own starts the term when the last valid claim is this node's. StoreSeq is the
// position up to which the store holds the log.
func (c *Core) Own(now Now, storeSeq uint64) bool {
	if c.owner != c.me {
		return false
	}
	c.now, c.owned, c.lastTick, c.budget, c.looks, c.pieces = now, true, now.Mono, stepBudget, stepLooks, pieceSize
	c.ownedAt = now.Mono
	c.rounds++ // what earlier terms have decided may have left
	c.view.agedAt = now.Mono
	c.view.reach(storeSeq)
	for _, h := range c.hosts {
		h.contact, h.begun = now.Mono, now.Mono
	}
	c.ended.own(c)
	c.sortLost()
	c.sortRolls()
	c.beginSweep() // the owner before may not have come to the end
	for _, a := range sortedActors(c.haunted) {
		if x := c.haunted[a]; c.dead(&x.node, a.App) {
			c.unkeep(x)
		}
	}
	c.linkChildren()
	for _, name := range sortedKeys(c.apps) {
		c.beginPurge(c.apps[name]) // the owner before has not come to the end
	}
	open := c.openEntries()
	for _, e := range open {
		if c.isPurged(e) {
			continue
		}
		e.since = now.Mono
		if e.phase == stopped {
			c.backOff(e) // anew: what kills its gateway is no hot loop either
			c.inquire(e) // so are the answers
		}
		c.arm(e)
		c.touchTarget(e)
		if e.attempt > 0 && e.epoch < c.epoch {
			c.fenceHeld = append(c.fenceHeld, e)
		}
	}
	for _, boot := range sortedKeys(c.cancels) {
		if c.isLost(boot) { // the owner before did not come to it
			c.withdrawCallsOf(boot)
		}
	}
	c.beginFences()
	for _, e := range open {
		if e.phase != gone && !e.cancelled && !c.isPurged(e) {
			c.cancelArrived(e) // the owner before did not come to it
		}
	}
	for _, id := range sortedIDs(c.homes) {
		c.armAway(c.homes[id])
	}
	for n := c.keep.live.first; n != nil; n = n.next {
		switch o := n.owner.(type) {
		case *wish:
			c.ageWish(o)
		case *clearing:
			c.ageClearing(o)
		case *past:
			c.agePast(o)
		}
	}
	// Actors without work wait for their hosts, which join or are counted lost.
	c.effect(Effect{Kind: GroupsChanged})
	c.effect(Effect{Kind: ServicesChanged})
	sort.Slice(c.dirty, func(i, j int) bool { return lessActor(c.dirty[i].actor, c.dirty[j].actor) })
	c.settle()
	c.easeEndings()
	return true
}

// StepDown ends the term: waiters are told to ask the new owner. The core must
// not be used afterwards.
func (c *Core) StepDown() {
	again := Errorf(CodeAskAgain, "the partition has a new owner")
	for _, e := range c.openEntries() {
		for _, w := range e.waiters {
			c.refuse(w, again)
		}
	}
	for _, id := range sortedIDs(c.homes) {
		for _, w := range c.homes[id].waiters {
			c.refuse(w, again)
		}
	}
	for _, w := range c.withdrawals {
		for _, w := range append(w.then, w) {
			if w.clearing != nil {
				c.refuseClearing(w.clearing, again)
			}
		}
	}
	for _, name := range sortedKeys(c.apps) {
		for _, x := range c.apps[name].drains {
			c.refuseClearing(x, again)
		}
	}
	for _, p := range c.purges {
		if !p.done {
			c.refuse(p.waiter, again)
		}
	}
	for _, id := range sortedIDs(c.publishings) {
		for _, w := range c.publishings[id].waiters {
			c.refuse(w, again)
		}
	}
	for _, l := range c.leaving {
		c.refuse(l.waiter, again)
	}
	for _, x := range c.forgettings {
		c.refuse(x.in.Waiter, again)
	}
	for _, key := range sortedKeys(c.blocked) {
		for _, w := range c.blocked[key] {
			c.refuse(w, again)
		}
	}
	c.owned = false
}
