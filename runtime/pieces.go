package runtime

import (
	"container/heap"
	"slices"
)

// What must be done to every actor of a host is done in pieces, so that no step
// takes long: a host may hold hundreds of thousands.

// pieceSize is how many actors one step goes through.
const pieceSize = 1000

// A review goes through what a host runs and holds after it has joined, or what it
// holds when it is to be emptied or goes on after it was frozen. What is given to it
// meanwhile needs none.
type review struct {
	h *hostEntry

	// Of the join: the last attempt at each request that the host says it knows, and what of it is left to be compared
	// with that, given up to upto. What was compared counts as given anew.
	runs  map[ID]Attempt
	given heapOf
	upto  uint64
	// What was given up to lost, and the haunted, was given over a stream that is gone.
	lost    uint64
	beside  company
	haunted []*actorEntry
	haunts  uint64 // who is haunted since then is not meant

	instances []Actor // that the host says are active there
	left      int     // of h.placed, from the front
	again     int     // of those, from the front: what they were asked before may be lost
	first     bool    // the first join in this term
}

// reviewJoin begins after a join, in place of one that has not ended: the host has
// said anew what it runs and holds. It was silent when its stream was gone before.
func (c *Core) reviewJoin(r *review, silent bool) {
	r.again, r.upto = len(r.h.placed), r.h.gave
	r.given = heapify(r.h.running, func(a, b *entry) bool { return compareIDs(a.req.ID, b.req.ID) < 0 })
	if silent {
		r.lost, r.haunted, r.haunts = r.upto, slices.Clone(c.hauntedOn[r.h.boot]), c.haunts
	}
	if x := r.h.review; x != nil {
		if !silent {
			r.lostAs(x)
		}
		r.first = r.first || x.first
	}
	c.review(r)
}

// reviewAll begins for another reason than a join. What is left of the review
// after its join is part of it.
func (c *Core) reviewAll(h *hostEntry) {
	r := &review{h: h}
	if x := h.review; x != nil {
		r.instances, r.first, r.again = x.instances, x.first, min(x.again, x.left)
		r.runs, r.given, r.upto, r.beside = x.runs, x.given, x.upto, x.beside
		r.lostAs(x)
	}
	c.review(r)
}

func (c *Core) review(r *review) {
	r.left = len(r.h.placed)
	if old := r.h.review; old != nil {
		c.reviews = slices.DeleteFunc(c.reviews, func(x *review) bool { return x == old })
	}
	r.h.review = r
	c.reviews = append(c.reviews, r)
	c.nextPiece()
}

// nextPiece goes on with hosts that were lost or have joined, for which others wait,
// with what purges have left and with withdrawals. None of them takes everything
// while there is something of the others.
func (c *Core) nextPiece() {
	n := c.pieces
	for _, work := range [...]func(n int) (left int){c.loseSome, c.reviewSome, c.purgeSome, c.keepHaunted} {
		half := (n + 1) / 2
		n -= half - work(half)
	}
	c.pieces = c.reviewSome(c.loseSome(c.withdrawSome(n)))
}

// turn lets the next one have the piece after this.
func turn[T any](list []T) []T { return append(list[1:], list[0]) }

func (c *Core) loseSome(n int) (left int) {
	for len(c.losing) > 0 && n > 0 {
		h := c.losing[0]
		for ; h.halted.Len() > 0 && n > 0; n-- {
			e := h.halted.next()
			if e.shaken = false; e.phase == stopped && e.host == h.boot && !c.isPurged(e) {
				c.interrupted(e)
			}
		}
		for ; len(c.hauntedOn[h.boot]) > 0 && n > 0; n-- {
			a := c.hauntedOn[h.boot][0]
			c.exorcise(a, func(zombie) bool { return true })
			if c.owned {
				c.touch(a)
			}
		}
		for ; len(h.placed) > 0 && n > 0; n-- {
			c.letGo(h)
		}
		if len(h.placed) == 0 && len(c.hauntedOn[h.boot]) == 0 && h.halted.Len() == 0 {
			c.losing = c.losing[1:]
		}
	}
	return n
}

func (c *Core) reviewSome(n int) (left int) {
	for len(c.reviews) > 0 && n > 0 {
		r := c.reviews[0]
		if c.hosts[r.h.boot] != r.h {
			r.given, r.haunted, r.instances, r.left = heapOf{}, nil, nil, 0 // lost meanwhile
		}
		for ; r.given.Len() > 0 && n > 0; n-- {
			if e := r.given.next(); r.pending(e) {
				c.compare(r, e)
			}
		}
		for ; len(r.haunted) > 0 && n > 0; n-- {
			if a := r.haunted[0]; len(a.zombies) > 0 && a.hauntTurn <= r.haunts {
				c.joinZombies(a, r.h.boot, r.runs)
				c.touch(a)
			}
			r.haunted = r.haunted[1:]
		}
		for ; len(r.instances) > 0 && n > 0; n-- {
			c.strayed(r.h, r.instances[0])
			r.instances = r.instances[1:]
		}
		r.left = min(r.left, len(r.h.placed))
		for ; r.left > 0 && n > 0; n-- {
			r.left--
			c.visit(r, r.h.placed[r.left])
		}
		if len(r.instances) == 0 && r.left == 0 && r.given.Len() == 0 && len(r.haunted) == 0 {
			c.reviews = c.reviews[1:]
			r.h.review = nil
		}
	}
	return n
}

// inPieces tells that there are pieces left.
func (c *Core) inPieces() bool {
	return len(c.purging) > 0 || len(c.unkept) > 0 || len(c.withdrawals) > 0 || len(c.losing) > 0 || len(c.reviews) > 0
}

// lostAs takes over what another review of the host has not come to.
func (r *review) lostAs(x *review) { r.lost, r.haunted, r.haunts = x.lost, x.haunted, x.haunts }

// pending tells an attempt that is still to be compared.
func (r *review) pending(e *entry) bool {
	return e.host == r.h.boot && e.given > 0 && e.given <= r.upto
}

// knows tells whether the host has said that it knows the attempt.
func (r *review) knows(at Attempt) bool {
	a, ok := r.runs[at.ID]
	return ok && a.Step == at.Step && a.Number == at.Number
}

// compare does to an attempt what follows from what its host has said.
func (c *Core) compare(r *review, e *entry) {
	lost := e.given <= r.lost
	r.h.give(e)
	at := c.attemptOf(e)
	switch a, ok := r.runs[e.req.ID]; {
	case c.isPurged(e):
		e.inside = e.inside || lost && !r.knows(at)
	case r.knows(at):
	case (!ok || a.before(at)) && r.first && e.epoch < c.epoch:
		// It never arrived, and since the host has answered for this term it
		// never will. An attempt of its own, so that a request which ends the
		// gateways that hand it over is held back, and reaches its limit.
		c.stopOn(r.h, e, r.beside)
		e.void = true
		c.interrupted(e)
	case lost: // never arrived, or only in part: the same attempt again
		c.invokeAnew(e)
	default: // it may be on its way, behind the question
		c.invoke(e)
	}
}

// absentThere tells that the host has said, in a join that is not gone through yet,
// that nothing of the attempt has arrived.
func (c *Core) absentThere(e *entry) bool {
	h := c.hosts[e.host]
	if h == nil || h.review == nil {
		return false
	}
	r := h.review
	return r.pending(e) && e.given <= r.lost && !r.knows(c.attemptOf(e))
}

// letGo takes the last actor off a host that was lost. Most are idle and just
// forgotten. An actor that is looked at before its turn is off it already.
func (c *Core) letGo(h *hostEntry) {
	n := len(h.placed) - 1
	a := h.placed[n]
	h.placed[n] = nil
	h.placed = h.placed[:n]
	if a.host == h.boot {
		c.unplace(a)
	}
	switch {
	case c.actors[a.actor] != a: // its last request has ended meanwhile
	case a.empty():
		c.dropActor(a)
	case c.owned:
		c.touch(a)
	}
}

// placed is where an actor is active, nil for nowhere: what a lost host held is
// active nowhere, whether it was gone through or not.
func (c *Core) placed(a *actorEntry) *hostEntry {
	if a.host == "" {
		return nil
	}
	return c.hosts[a.host]
}

// strayed: the host says that the actor is active there.
func (c *Core) strayed(h *hostEntry, actor Actor) {
	if a := c.actors[actor]; a == nil || a.host != h.boot {
		c.askEnd(h.boot, actor)
	}
}

func (c *Core) visit(r *review, a *actorEntry) {
	switch {
	case a.asking > 0 && r.left < r.again, a.idle && r.h.info.Draining:
		c.deactivate(a)
	case r.first:
		a.idle = false // counted from now, by this host's interval
	}
	c.touch(a)
}

// heapOf hands over entries in order, some at a time: to sort all of them would take
// long.
type heapOf struct {
	es   []*entry
	less func(a, b *entry) bool
}

func heapify(es map[ID]*entry, less func(a, b *entry) bool) heapOf {
	h := heapOf{make([]*entry, 0, len(es)), less}
	for _, e := range es {
		h.es = append(h.es, e)
	}
	heap.Init(&h)
	return h
}

func (h *heapOf) next() *entry { return heap.Pop(h).(*entry) }

func (h *heapOf) Len() int           { return len(h.es) }
func (h *heapOf) Less(i, j int) bool { return h.less(h.es[i], h.es[j]) }
func (h *heapOf) Swap(i, j int)      { h.es[i], h.es[j] = h.es[j], h.es[i] }
func (h *heapOf) Push(x any)         { h.es = append(h.es, x.(*entry)) }
func (h *heapOf) Pop() any {
	n := len(h.es) - 1
	e := h.es[n]
	h.es[n] = nil
	h.es = h.es[:n]
	return e
}

// place and displace keep the list of what a host holds.
func (h *hostEntry) place(a *actorEntry) {
	a.placeAt = len(h.placed)
	h.placed = append(h.placed, a)
}

func (h *hostEntry) displace(a *actorEntry) {
	last := h.placed[len(h.placed)-1]
	h.placed[a.placeAt], last.placeAt = last, a.placeAt
	h.placed[len(h.placed)-1] = nil
	h.placed = h.placed[:len(h.placed)-1]
}
