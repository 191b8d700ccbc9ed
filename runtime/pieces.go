package runtime

import "slices"

// What must be done to every actor of a host is done in pieces, so that no step
// takes long: a host may hold hundreds of thousands.

// pieceSize is how many actors one step goes through.
const pieceSize = 1000

// A review goes through what a host holds after it has joined, or when it is to
// be emptied. Actors that are placed meanwhile need none.
type review struct {
	h         *hostEntry
	instances []Actor // that the host says are active there
	left      int     // of h.placed, from the front
	again     int     // of those, from the front: what they were asked before may be lost
	first     bool    // the first join in this term
}

// reviewJoin begins after a join, in place of one that has not ended: the host has
// said anew what it holds.
func (c *Core) reviewJoin(r *review) {
	r.again = len(r.h.placed)
	c.review(r)
}

// reviewAll begins when the host is to be emptied. What is left of the review
// after its join is part of it.
func (c *Core) reviewAll(h *hostEntry) {
	r := &review{h: h}
	for _, x := range c.reviews {
		if x.h == h {
			r.instances, r.first, r.again = x.instances, x.first, min(x.again, x.left)
		}
	}
	c.review(r)
}

func (c *Core) review(r *review) {
	r.left = len(r.h.placed)
	c.reviews = slices.DeleteFunc(c.reviews, func(x *review) bool { return x.h == r.h })
	c.reviews = append(c.reviews, r)
	c.nextPiece()
}

// nextPiece goes on with hosts that were lost or have joined, for which others wait,
// with what purges have left and with withdrawals. None of them takes everything
// while there is something of the others.
func (c *Core) nextPiece() {
	n := pieceSize
	for _, work := range [...]func(n int) (left int){c.loseSome, c.reviewSome, c.purgeSome, c.keepHaunted} {
		half := (n + 1) / 2
		n -= half - work(half)
	}
	c.reviewSome(c.loseSome(c.withdrawSome(n)))
}

// turn lets the next one have the piece after this.
func turn[T any](list []T) []T { return append(list[1:], list[0]) }

func (c *Core) loseSome(n int) (left int) {
	for len(c.losing) > 0 && n > 0 {
		h := c.losing[0]
		for ; len(h.placed) > 0 && n > 0; n-- {
			c.letGo(h)
		}
		if len(h.placed) == 0 {
			c.losing = c.losing[1:]
		}
	}
	return n
}

func (c *Core) reviewSome(n int) (left int) {
	for len(c.reviews) > 0 && n > 0 {
		r := c.reviews[0]
		if c.hosts[r.h.boot] != r.h {
			r.instances, r.left = nil, 0 // lost meanwhile
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
		if len(r.instances) == 0 && r.left == 0 {
			c.reviews = c.reviews[1:]
		}
	}
	return n
}

// inPieces tells that there are pieces left.
func (c *Core) inPieces() bool {
	return len(c.purging) > 0 || len(c.unkept) > 0 || len(c.withdrawals) > 0 || len(c.losing) > 0 || len(c.reviews) > 0
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
