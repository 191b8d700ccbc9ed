package runtime

// A borrowing is a call that waits for the open request which has used its
// Idempotency-Key before it: somebody else's, mostly. It is no request, but to those
// who make it it is a call like others: their retries wait for it.
type borrowing struct {
	node
	borrowed
	abroad *seat // memory: among those with callers in the same other partition
}

// borrowed records one. It ends when the request does that it waits for.
type borrowed struct {
	id      ID // of the call
	lent    ID // the request
	parents []ID
	// Where those run, and of which term and step; see [Vouched].
	part  uint16
	epoch uint64
	step  uint32
}

func (b *borrowed) fields(c *codec) {
	c.id(1, &b.id)
	c.id(2, &b.lent)
	c.ids(3, &b.parents)
	c.u16(4, &b.part)
	c.u64(5, &b.epoch)
	c.u32(6, &b.step)
}

// borrow lets a call wait for the first request of its key. A caller that is not
// current any more has no attempt that could wait. Nor does one wait for what its own
// flow has begun: that may be the caller itself, or wait for it.
func (c *Core) borrow(in *Submit, first *Request, flow ID, parents []ID, unfit *Error) *Error {
	r := &in.Request
	if r.Kind != Call || r.ID == first.ID || c.borrowings[r.ID] != nil || c.LogLevel() < 2 {
		return nil
	}
	b := &borrowed{id: r.ID, lent: first.ID, parents: parents, part: c.cfg.Partition, epoch: c.epoch}
	switch v := in.Vouched; {
	case v != nil && v.Epoch < c.fences[v.Partition]:
		return Errorf(CodeAskAgain, "the caller's partition has a new owner")
	case v != nil:
		b.part, b.epoch, b.step = v.Partition, v.Epoch, v.Step
	case unfit != nil:
		return unfit
	default:
		if err := c.spareLinks(parents); err != nil {
			return err
		}
		b.step = c.callerStep(parents)
	}
	if len(b.parents) > 0 && flow != c.flowOf(first.ID) {
		if c.waitsFor(first.ID, flow) {
			return &Error{CodeActorBusy, "the request of this Idempotency-Key waits for " + describe(first.Target) + ", which the caller holds", first.ID}
		}
		c.emit(b)
	}
	return nil
}

// waitsFor tells a request that cannot start before a flow has let go of its actor.
func (c *Core) waitsFor(id, flow ID) bool {
	e := c.entries[id]
	if e == nil || e.phase != queued || !e.req.Target.IsActor() {
		return false
	}
	a := c.actors[e.req.Target.Actor()]
	return a != nil && a.locked() && a.flow == flow
}

// flowOf is that of a request that is open here.
func (c *Core) flowOf(id ID) ID {
	if h := c.homes[id]; h != nil {
		return h.flow
	}
	return c.entries[id].flow
}

func (c *Core) applyBorrowed(seq uint64, b *borrowed) {
	x := c.borrowings[b.id]
	if x == nil {
		x = &borrowing{borrowed: *b}
		c.borrowings[b.id] = x
		c.borrowers[b.lent] = append(c.borrowers[b.lent], x)
		if b.part != c.cfg.Partition {
			x.abroad = c.callAbroad(b.part, &seat{b: x})
		}
		for _, p := range b.parents {
			c.addChild(p, b.id, b.step)
		}
	}
	c.keep.place(&x.node, seq, x)
}

// returned: a request has ended, and with it all calls that have waited for it.
func (c *Core) returned(lent ID) {
	for _, x := range c.borrowers[lent] {
		delete(c.borrowings, x.id)
		c.keep.remove(&x.node)
		if x.abroad != nil {
			c.abroad[x.part].remove(x.abroad)
		}
		c.childEnded(x.parents, x.id)
	}
	delete(c.borrowers, lent)
}
