package runtime

// A homeEntry is a request whose chain has gone to another partition; here,
// where it was accepted, its waiters wait.
type homeEntry struct {
	node
	req     Request // without body
	flow    ID
	parents []ID
	// Where those run, and of which term; of level 1 nobody knows.
	parentPart  uint16
	parentEpoch uint64
	parentStep  uint32
	at          int64
	came        uint64    // see entry.came
	from        groupLife // of the event that began it
	fired       *firing   // of the reminder that has fired
	// Wherever the chain is, it is to end.
	cancelled bool

	// memory
	seat     seat  // in the roll of its app
	abroad   *seat // among those with callers in the same other partition
	waiters  []any
	timer    timer
	answered bool // waiters were told a limit; later askers wait for the outcome
}

func (c *Core) addHome(h *homeEntry) {
	c.homes[h.req.ID] = h
	if h.seat.n == 0 {
		h.seat.h = h
		c.enrol(h.req.Target.App, &h.seat)
	}
	switch {
	case h.abroad != nil || len(h.parents) == 0:
	case h.parentEpoch == 0:
		c.orphans[h.req.ID] = h
	case h.parentPart != c.cfg.Partition:
		h.abroad = c.callAbroad(h.parentPart, &seat{h: h})
	}
	for _, p := range h.parents {
		c.addChild(p, h.req.ID, h.parentStep)
	}
	if h.req.Key != "" {
		c.keys[keyOf(&h.req)] = h.req.ID
	}
	c.addFiring(h.fired)
	c.tellBegun(h.from)
	if c.owned {
		c.armAway(h)
	}
}

// dropHome forgets that a chain is away; its waiters are the caller's business.
func (c *Core) dropHome(h *homeEntry) {
	id := h.req.ID
	delete(c.homes, id)
	c.keep.remove(&h.node)
	delete(c.orphans, id)
	c.dropFiring(h.fired)
	if h.abroad != nil {
		c.abroad[h.parentPart].remove(h.abroad)
	}
	c.leaveRoll(c.app(h.req.Target.App), &h.seat)
	c.dropApp(h.req.Target.App)
	c.walls.remove(&h.timer)
	c.dropKey(&h.req)
	c.childEnded(h.parents, id)
	c.tellEnded(h.from)
}

// armAway sets the timer for the deadline. Of the limits it is the only one that
// a request which has started knows.
func (c *Core) armAway(h *homeEntry) {
	if d := h.req.Deadline; !h.answered && (d > c.now.Wall || d != 0 && len(h.waiters) > 0) {
		h.timer.home = h
		c.walls.start(&h.timer, d)
	}
}

// rungAway: the deadline has passed.
func (c *Core) rungAway(h *homeEntry) {
	if c.isPurgedHome(h) {
		return
	}
	h.answered = len(h.waiters) > 0 // of a new owner nobody may have asked yet
	c.tellWaiters(h.req.ID, &h.waiters, &Error{CodeDeadline, "the deadline of the request has passed", h.req.ID})
}

// withdrawAway asks all other partitions to end a chain: which one it is in, or
// will be by then, nobody knows.
func (c *Core) withdrawAway(h *homeEntry) {
	var out []OutMessage
	if c.LogLevel() >= 2 {
		m := encode(nil, &parcel{kind: msgCancel, id: h.req.ID, gen: c.generation(h.req.Target.App), req: Request{Target: Target{App: h.req.Target.App}}})
		for p := range c.cfg.Partitions {
			if uint16(p) != c.cfg.Partition {
				out = append(out, OutMessage{To: uint16(p), Payload: m})
			}
		}
	}
	c.emit(&cancelled{h.req.ID}, out...)
}

// A wish is that of a home elsewhere to end a chain that may still come here.
type wish struct {
	node
	id ID
	at int64 // memory: monotonic ms
}

// wished records a wish.
type wished struct{ id ID }

func (m *wished) fields(c *codec) { c.id(1, &m.id) }

func (c *Core) applyWished(seq uint64, id ID) {
	w := c.wishes[id]
	if w == nil {
		w = &wish{id: id}
		c.wishes[id] = w
		c.ageWish(w)
	}
	c.keep.place(&w.node, seq, w)
}

// cancelStep takes the wish of a home, for the step that is here or for one
// that is on its way.
func (c *Core) cancelStep(id ID) {
	if e := c.entries[id]; e != nil {
		c.withdraw(e, &Error{CodeCancelled, "the request was cancelled", id}, ID{})
	} else if c.LogLevel() >= 2 { // older gateways have no word for it
		c.emit(&wished{id})
	}
}

// cancelArrived ends a step that its home has cancelled while it was on its way. Its
// arrival is a record of its own, which a crash may leave alone.
func (c *Core) cancelArrived(e *entry) {
	h := c.homes[e.req.ID]
	if c.wishes[e.req.ID] != nil || h != nil && h.cancelled {
		c.withdraw(e, &Error{CodeCancelled, "the request was cancelled", e.req.ID}, ID{})
	}
}

// forgetWishes drops those that are older than any message should be: a wish is
// no promise.
func (c *Core) forgetWishes() {
	c.oldWishes.forget(c.now.Mono-c.cfg.IDWindow, func(w *wish, at int64) {
		if w.at == at && c.wishes[w.id] == w {
			c.keep.remove(&w.node)
			delete(c.wishes, w.id)
		}
	})
}

func (c *Core) ageWish(w *wish) {
	w.at = c.now.Mono
	if c.owned {
		c.oldWishes.add(w, w.at)
	}
}
