package runtime

// Work that waits for other work keeps its place on a host meanwhile. If that other work
// had to wait for a place too, a few that wait could fill a host and lock it for ever. So
// what running work is known to wait for is never held back by a full host. Of calls the
// records tell it: of nested ones their callers, of the calls of services, which have no
// session to prove it, the boot, and of a request that has lent itself to calls those. Of all
// else it is found out when work on a host asks for the outcome (seek).

// awaited tells work that something which may hold a place on a host waits for, and what
// became of nested calls.
func (e *entry) awaited() bool {
	return len(e.parents) > 0 || e.step > 0 || e.req.Kind == Call && e.req.Boot != "" || e.lent > 0 || e.sought
}

// seek notes that work on a host waits for a request that is open here. Whoever leaves
// may have waited with a limit, and ask again: what was sought stays so. No record says it:
// who waits asks a new owner anew.
func (c *Core) seek(id ID, boot string) {
	e := c.entries[id]
	if e == nil || e.sought || boot == "" || c.isLost(boot) {
		return
	}
	c.press(e, func() { e.sought = true })
}

// lend sets how many calls have borrowed a request.
func (c *Core) lend(id ID) {
	if e := c.entries[id]; e != nil && e.lent != len(c.borrowers[id]) {
		c.press(e, func() { e.lent = len(c.borrowers[id]) })
	}
}

// press makes a change after which a request may be awaited, or may not be any more, and
// puts it where it is to wait then.
func (c *Core) press(e *entry, change func()) {
	was := e.awaited()
	change()
	if e.awaited() == was {
		return
	}
	comp := componentOf(e.req.Target)
	if a := c.actorOf(e); a != nil {
		if e.phase != queued {
			return // it holds the lock, and is held back by no full host
		}
		if was {
			a.awaited--
		} else {
			a.awaited++
		}
		if c.owned {
			c.touch(a)
		}
	} else if e.lined != nil {
		e.lined.remove(e)
		e.lined = c.parked[comp].lineOf(e)
		e.lined.add(e)
		if c.owned {
			c.touchParked(comp)
		}
	}
}
