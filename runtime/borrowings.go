package runtime

import "slices"

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
	flow  ID // of those
}

func (b *borrowed) fields(c *codec) {
	c.id(1, &b.id)
	c.id(2, &b.lent)
	c.ids(3, &b.parents)
	c.u16(4, &b.part)
	c.u64(5, &b.epoch)
	c.u32(6, &b.step)
	c.id(7, &b.flow)
}

// waived records that calls wait no longer for the request which has used their key.
type waived struct{ calls []ID }

func (b *waived) fields(c *codec) { c.ids(1, &b.calls) }

// borrow lets a call wait for the first request of its key. A caller that is not
// current any more has no attempt that could wait. Nor does one wait for what its own
// flow has begun: that may be the caller itself, or wait for it.
func (c *Core) borrow(in *Submit, first *Request, flow ID, parents []ID, unfit *Error) *Error {
	r := &in.Request
	if r.Kind != Call || r.ID == first.ID || c.borrowings[r.ID] != nil || c.LogLevel() < 2 {
		return nil
	}
	b := &borrowed{id: r.ID, lent: first.ID, parents: parents, part: c.cfg.Partition, epoch: c.epoch, flow: flow}
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
		if e := c.entries[first.ID]; e != nil && flow == c.waitsForFlow(e) {
			return heldByCaller(e)
		}
		c.emit(b)
	}
	return nil
}

func heldByCaller(e *entry) *Error {
	return &Error{CodeActorBusy, "the request of this Idempotency-Key waits for " + describe(e.req.Target) + ", which the caller holds", e.req.ID}
}

// waitsForFlow is the flow that has to let go of its actor before a request can start.
func (c *Core) waitsForFlow(e *entry) ID {
	if a := c.actorOf(e); e.phase == queued && a != nil && a.locked() {
		return a.flow
	}
	return ID{}
}

// waive ends the waiting of calls for a request that has come to an actor which their own
// flow holds: it would not start before their callers have ended.
func (c *Core) waive(e *entry) {
	holds := c.waitsForFlow(e)
	if len(c.borrowers[e.req.ID]) == 0 || holds.IsZero() {
		return
	}
	calls := map[ID]bool{}
	var ids []ID
	for _, x := range c.borrowers[e.req.ID] {
		if x.flow == holds {
			calls[x.id] = true
			ids = append(ids, x.id)
		}
	}
	if len(ids) == 0 {
		return
	}
	_, waiters := c.open(e.req.ID)
	*waiters = slices.DeleteFunc(*waiters, func(w any) bool {
		if !calls[c.guests[w].call] {
			return false
		}
		c.refuse(w, heldByCaller(e))
		return true
	})
	for part := range slices.Chunk(ids, idsInRecord) {
		c.emit(&waived{part})
	}
}

func (c *Core) applyWaived(b *waived) {
	var lent []ID // one, as it is written
	for _, id := range b.calls {
		x := c.borrowings[id]
		if x == nil {
			continue // it stands in front of where the log was cut
		}
		if !slices.Contains(lent, x.lent) {
			lent = append(lent, x.lent)
		}
		c.dropBorrowing(x)
	}
	for _, id := range lent {
		c.borrowers[id] = slices.DeleteFunc(c.borrowers[id], func(x *borrowing) bool { return c.borrowings[x.id] != x })
		if len(c.borrowers[id]) == 0 {
			delete(c.borrowers, id)
		}
		c.lend(id)
	}
}

func (c *Core) dropBorrowing(x *borrowing) {
	delete(c.borrowings, x.id)
	c.keep.remove(&x.node)
	if x.abroad != nil {
		c.abroad[x.part].remove(x.abroad)
	}
	c.childEnded(x.parents, x.id)
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
		c.lend(b.lent)
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
		c.dropBorrowing(x)
	}
	delete(c.borrowers, lent)
	c.lend(lent)
}
