package runtime

import "slices"

// stop notes that the last attempt has provably ended without an outcome, in
// the company of what else its host was given.
func (c *Core) stop(e *entry, beside company) {
	e.phase = stopped
	c.Counts.Running--
	e.suspicion(beside)
	if !e.req.Target.IsActor() {
		c.parking(componentOf(e.req.Target)).resting++
	} else if a := c.actors[e.req.Target.Actor()]; a != nil {
		a.running--
		a.resting.add(e)
	}
}

// pumpActor starts what may run on an actor now (P5): interrupted and held
// work of the flow that owns the lock first, re-entrant calls of that flow,
// then the next in the mailbox.
func (c *Core) pumpActor(a *actorEntry) {
	if x := c.purgingOf(a.actor.App); x != nil {
		a.dirty = true
		x.heldActors = append(x.heldActors, a)
		return
	}
	if a.host != "" && c.placed(a) == nil {
		c.unplace(a) // its host was lost
	}
	if a.asking > 0 || c.isHaunted(a) {
		return
	}
	if c.isStale(a) {
		c.deactivate(a)
		return
	}
	for {
		if c.budget <= 0 {
			c.touch(a)
			return
		}
		// Ready ones only: a retried caller waits for its children, so nested
		// work comes first by itself.
		for i, misses := 0, 0; i < a.ready.len() && misses < suspectMisses && c.budget > 0; {
			e := a.ready.all()[i]
			switch {
			case c.giveUp(e):
				c.budget--
			case e.phase == stopped && !c.mayRetry(e):
				a.unready(e) // until something changes
			case c.startOnActor(e, a):
			case !e.suspect() || a.asking > 0:
				return
			default: // it is in line
				i++
				misses++
			}
		}
		if c.budget <= 0 {
			continue
		}
		if !a.locked() {
			e := a.queue.first()
			if e == nil {
				break
			}
			if c.callerGone(e) {
				continue
			}
			if e.req.Kind == Remove {
				if a.host != "" {
					c.deactivate(a)
					return
				}
				c.budget--
				c.endRemoval(e)
				a = c.actorEntry(a.actor)
				continue
			}
			if !c.startOnActor(e, a) {
				return
			}
		}
		entered := false
		if a.locked() && a.queue.len() > 0 {
			for _, e := range c.flowWaiting(a) {
				if c.budget <= 0 {
					c.touch(a)
					return
				}
				if !c.callerGone(e) && !c.startOnActor(e, a) {
					return
				}
				entered = true
			}
		}
		if !entered && a.locked() {
			break
		}
	}
	if a.parked && !a.locked() && a.queue.len() == 0 {
		c.unparkActor(Target{App: a.actor.App, Type: a.actor.Type, ID: a.actor.ID})
	}
	if !a.locked() && a.queue.len() == 0 && a.host != "" && !a.idle {
		c.becomeIdle(a)
	}
	if c.actors[a.actor] == a {
		c.dropActor(a)
	}
}

// flowWaiting lists the waiting requests of the flow that holds the lock: its
// nested calls, and its root when that comes back to an actor where calls of it
// still run.
func (c *Core) flowWaiting(a *actorEntry) []*entry {
	var es []*entry
	if l := a.nested[a.flow]; l != nil {
		es = slices.Clone(l.all())
	}
	if root := c.entries[a.flow]; root != nil && root.phase == queued && root.req.Target.IsActor() && root.req.Target.Actor() == a.actor {
		es = append(es, root)
		sortEntries(es)
	}
	return slices.DeleteFunc(es, func(e *entry) bool { return e.req.Kind == Remove })
}

// mayRetry is P3 and P4 for an interrupted request: its calls have ended, no
// call of an earlier term can still arrive, and its back-off is over.
func (c *Core) mayRetry(e *entry) bool {
	if len(e.children) > 0 || e.shaken {
		return false
	}
	if c.fencing(e) {
		return false
	}
	return c.now.Mono >= e.retryAt
}

// fencing tells that calls of its last attempt may still arrive somewhere.
func (c *Core) fencing(e *entry) bool {
	return e.epoch < c.epoch && len(c.fenceWait) > 0 && !e.void
}

// startOnActor starts an entry on its actor's host, or parks the actor. False
// means that nothing more can start on the actor now.
func (c *Core) startOnActor(e *entry, a *actorEntry) bool {
	comp := componentOf(e.req.Target)
	nested := e.phase != queued || a.awaited > 0
	h := c.hosts[a.host]
	switch {
	case a.host == "":
		h = c.hostForActor(comp, e, nested)
	case h.still():
		return false // joins again, goes on, or is counted lost
	case h.info.Draining && a.running == 0:
		c.deactivate(a)
		return false
	case !c.takes(h, e, nested):
		h = nil
	}
	switch {
	case h != nil:
		c.start(e, h)
		return true
	case e.suspect():
		c.park(e)
	default:
		c.parkActor(comp, a)
	}
	return false
}

// still tells that nothing which waits for a host can be done there now.
func (h *hostEntry) still() bool { return h == nil || !h.linked || h.info.Frozen }

// standsStill tells that the host where the actor of a request is placed is still.
func (c *Core) standsStill(e *entry) bool {
	a := c.actorOf(e)
	return a != nil && a.host != "" && c.hosts[a.host].still()
}

// start records attempt n+1 and hands it to the host.
func (c *Core) start(e *entry, h *hostEntry) {
	if e.attempt > 0 {
		c.Counts.Retried++
	}
	c.budget--
	c.unparkActor(e.req.Target)
	b := &started{
		id: e.req.ID, step: e.step, attempt: e.attempt + 1, host: h.boot, grace: h.info.Grace, actor: placeOf(e.req.Target),
		among: e.among, tried: c.tries(e),
	}
	c.takeDueTimes(e, b)
	c.overtaken(e)
	c.emit(b)
	e.since = c.now.Mono
	if e.suspect() {
		h.begun = c.now.Mono
	}
	c.invokeAnew(e)
	c.arm(e)
}

// placeOf is the actor of a target, or none.
func placeOf(t Target) Actor {
	if !t.IsActor() {
		return Actor{}
	}
	return t.Actor()
}

// invokeAnew is invoke of an attempt of which the host has nothing.
func (c *Core) invokeAnew(e *entry) {
	c.invoke(e)
	e.inside, e.leaves = e.unsent, c.rounds+1
}

// invoke sends the current attempt to its host; the host runs it once however
// often it is sent.
func (c *Core) invoke(e *entry) {
	if e.unsent = e.absent(); e.unsent {
		c.need(e)
		return
	}
	c.sendAttempt(e, e.req.Body)
}

// sendAttempt is invoke with the body, which may have been read from the log.
func (c *Core) sendAttempt(e *entry, body []byte) {
	h := c.hosts[e.host]
	if h == nil || !h.linked {
		return
	}
	hd := make(Header, 5+len(e.req.Header))
	for k, v := range e.req.Header {
		hd[k] = v
	}
	values := make([]string, 0, 5) // of all fields: each has one
	set := func(name, value string) {
		values = append(values, value)
		hd[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("Kar-Request-Id", e.req.ID.String())
	set("Kar-Attempt", utoa(uint64(e.attempt)))
	m := &Invoke{
		Attempt: c.attemptOf(e), Epoch: c.epoch, Target: e.req.Target,
		Method: e.req.Method, Path: e.req.Path, Header: hd, Body: body,
	}
	if e.req.Target.IsActor() {
		set("Content-Type", "application/kar+json")
		m.Session = c.sessionOf(e)
	}
	if e.fired != nil {
		set("Kar-Reminder-Due", formatMillis(e.due))
		set("Kar-Reminder-Count", utoa(uint64(e.count)))
	}
	if h.info.URL != "" {
		m.Limit = h.info.Grace
	}
	c.effect(Effect{Kind: ToHost, Boot: e.host, Msg: m})
}

func (c *Core) attemptOf(e *entry) Attempt {
	return Attempt{ID: e.req.ID, Step: e.step, Number: e.attempt, Partition: c.cfg.Partition}
}

// deactivate asks the host to let go of the actor; nothing starts on it until
// the host has confirmed or is lost.
func (c *Core) deactivate(a *actorEntry) {
	a.asking = c.askEnd(a.host, a.actor)
	a.idle = false
}

// askEnd asks a host to deactivate an actor, and returns the number of the asking.
func (c *Core) askEnd(boot string, a Actor) uint64 {
	c.askings++
	c.effect(Effect{Kind: ToHost, Boot: boot, Msg: &Deactivate{Actor: a, Partition: c.cfg.Partition, Epoch: c.epoch, Asking: c.askings}})
	return c.askings
}

func (c *Core) becomeIdle(a *actorEntry) {
	h := c.hosts[a.host]
	if h == nil {
		return
	}
	if h.info.Draining && h.linked {
		c.deactivate(a)
		return
	}
	a.idle, a.idleSince = true, c.now.Mono
	a.idleTurn++
	if h.info.Idle > 0 {
		if len(h.idle) > 2*len(h.placed)+64 {
			h.idle = slices.DeleteFunc(h.idle, func(i idleActor) bool { return !i.still(c, h) })
		}
		h.idle = append(h.idle, idleActor{a, a.idleTurn})
	}
}

// still tells that the actor has been idle on h ever since.
func (i idleActor) still(c *Core, h *hostEntry) bool {
	return i.a.idle && i.a.idleTurn == i.turn && i.a.host == h.boot && c.actors[i.a.actor] == i.a
}

// idleBatch bounds how many actors of a host one look (each 200 ms) deactivates:
// a hundred thousand that fall idle together are no reason to slow down the rest.
const idleBatch = 200

// idleMost is the same when many more fall idle than that: the batch grows with each
// second by which the first is late.
const idleMost = 4000

// collectIdle deactivates what has been idle for the host's interval.
func (c *Core) collectIdle(h *hostEntry) {
	most := idleBatch
	for n := 0; len(h.idle) > 0 && n < most; {
		a := h.idle[0].a
		if h.idle[0].still(c, h) {
			late := c.now.Mono - (a.idleSince + h.info.Idle)
			if !h.linked || late < 0 {
				return
			}
			if n == 0 {
				most = int(min(idleBatch*(1+late/1000), idleMost))
			}
			c.deactivate(a)
			n++
		}
		h.idle[0].a = nil
		h.idle = h.idle[1:]
	}
}
