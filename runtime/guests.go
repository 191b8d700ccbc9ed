package runtime

// A guest waits for a request of another id than its own: it has repeated the key, or
// has asked for a call that was borrowed. How long it waits for a host, or for a busy
// actor, it has said itself. That limit answers it, and the request goes on.
type guest struct {
	of, call     ID    // the request, and the call under whose id it is waited for
	since        int64 // monotonic ms
	noHost, busy int64 // ms, 0 for none
}

// guestLooks is how far apart the looks at the guests of one request are, in
// milliseconds: there may be many, each with a time of its own.
const guestLooks = 200

// beGuest notes a waiter that is, or will be, in the list of the request. One that has
// limits is to be followed by armOpen.
func (c *Core) beGuest(waiter any, g guest) {
	c.guests[waiter] = g
	if e := c.entries[g.of]; e != nil {
		e.expect(g.passes(e, c.now.Mono))
	}
}

// expect makes the next look at the guests no later than a time, 0 for never.
func (e *entry) expect(at int64) {
	if at > 0 && (e.guestAt == 0 || at < e.guestAt) {
		e.guestAt = at
	}
}

// from is when the limits begin to count.
func (g *guest) from(e *entry) int64 { return max(g.since, e.since) }

// passes is the first time behind now at which a limit may have passed, 0 for never.
func (g *guest) passes(e *entry, now int64) (at int64) {
	for _, limit := range [...]int64{g.noHost, g.busy} {
		if limit <= 0 {
			continue
		}
		t := g.from(e) + limit
		if t <= now {
			t = now + 1000 // it has passed and does not apply now
		}
		if at == 0 || t < at {
			at = t
		}
	}
	return at
}

// checkGuests answers the guests of a request whose own limit has passed.
func (c *Core) checkGuests(e *entry) {
	if e.guestAt == 0 || e.guestAt > c.now.Mono || e.phase != queued || e.hasStarted() {
		return
	}
	e.guestAt = 0
	stay := e.waiters[:0]
	for _, w := range e.waiters {
		g, is := c.guests[w]
		if is {
			if err := c.limitOf(e, c.now.Mono-g.from(e), g.noHost, g.busy); err != nil {
				c.answerOpen(w, e.req.ID, err)
				continue
			}
			if at := g.passes(e, c.now.Mono); at > 0 {
				e.expect(max(at, c.now.Mono+guestLooks))
			}
		}
		stay = append(stay, w)
	}
	clear(e.waiters[len(stay):])
	e.waiters = stay
}
