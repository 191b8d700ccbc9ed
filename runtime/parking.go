package runtime

import "slices"

// parking holds what waits for a host of one component. An actor waits as a
// whole; a service request waits by itself. Entries, not goroutines.
type parking struct {
	requests line                  // of a service: not started, or due for their next attempt
	awaited  line                  // the same, by running work: they go first
	suspects line                  // due for their next attempt, which waits for its turn among suspects
	resting  int                   // interrupted requests of a service that are not due
	actors   map[Actor]*actorEntry // that have work and no host that takes it
	work     int                   // how many requests those have
	urgent   []parkedActor         // of those the ones that running work waits for, in order: no host is too full for them
	order    []parkedActor         // of the others those without a place; the line of those whose host is full is that host's
	dirty    bool
	since    int64 // monotonic ms
}

// A parkedActor is void once the actor has been woken, or became urgent.
type parkedActor struct {
	a    *actorEntry
	turn uint64
}

func (p *parking) waits(x parkedActor) bool {
	return p.actors[x.a.actor] == x.a && x.a.parked && x.a.parkTurn == x.turn
}

func (c *Core) parking(comp component) *parking {
	p := c.parked[comp]
	if p == nil {
		p = &parking{suspects: line{byTurn: true}, actors: map[Actor]*actorEntry{}, since: c.now.Mono}
		c.parked[comp] = p
	}
	return p
}

// park lets a request of a service, or a suspect of any kind, wait in its line.
func (c *Core) park(e *entry) {
	if e.lined != nil {
		return
	}
	p := c.parking(componentOf(e.req.Target))
	if e.suspect() {
		c.turns++
		e.turn = c.turns
		c.beginPatience(e)
	}
	e.lined = p.lineOf(e)
	e.lined.add(e)
	if e.phase == stopped && !e.req.Target.IsActor() {
		p.resting--
	}
}

// lineOf is the line in which a request is to wait.
func (p *parking) lineOf(e *entry) *line {
	switch {
	case e.suspect():
		return &p.suspects
	case e.awaited():
		return &p.awaited
	}
	return &p.requests
}

// unpark takes a request out of its line, or out of those that are not due.
func (c *Core) unpark(e *entry) {
	comp := componentOf(e.req.Target)
	p := c.parked[comp]
	if p == nil {
		return
	}
	if e.lined != nil {
		e.lined.remove(e)
		e.lined = nil
	} else if e.phase == stopped && !e.req.Target.IsActor() {
		p.resting--
	}
	c.dropParking(comp, p)
}

func (p *parking) empty() bool {
	return p.requests.len() == 0 && p.awaited.len() == 0 && p.suspects.len() == 0 && p.resting == 0 && len(p.actors) == 0
}

func (c *Core) dropParking(comp component, p *parking) {
	if p.empty() && !p.dirty && c.parked[comp] == p {
		delete(c.parked, comp)
		for _, h := range c.offers[comp] {
			delete(h.lines, comp) // nobody in them waits any more
		}
	}
}

func (c *Core) touchParked(comp component) {
	p := c.parking(comp)
	if !p.dirty {
		p.dirty = true
		c.dirtyParks = append(c.dirtyParks, comp)
	}
}

// wake looks at an interrupted request of a service for which something has
// changed: it ends, or it gets in line when it waits for nothing but a host.
func (c *Core) wake(e *entry) {
	if c.purgingOf(e.req.Target.App) != nil {
		return // what has started stands in front of the purge, which ends it
	}
	if e.phase != stopped || c.giveUp(e) || !c.mayRetry(e) {
		return
	}
	c.park(e)
	c.touchParked(componentOf(e.req.Target))
}

// pumpParked starts parked service requests and suspects, and wakes parked actors.
func (c *Core) pumpParked(comp component) {
	p := c.parked[comp]
	if p == nil {
		return
	}
	if x := c.purgingOf(comp.app); x != nil {
		x.heldParks = append(x.heldParks, comp)
		return
	}
	p.dirty = false
	if len(c.takers(comp)) > 0 {
		for e := p.awaited.first(); e != nil && c.budget > 0; e = p.awaited.first() {
			if !c.callerGone(e) {
				c.start(e, c.hostForService(comp, e, true)) // takes it out of p.awaited
			}
		}
		for e := p.requests.first(); e != nil && c.budget > 0; e = p.requests.first() {
			if c.callerGone(e) {
				continue
			}
			h := c.hostForService(comp, e, false)
			if h == nil {
				break
			}
			c.start(e, h) // takes it out of p.requests
		}
		c.pumpSuspects(p)
		c.wakeParked(comp, p)
		if c.budget <= 0 && !p.empty() {
			c.touchParked(comp)
		}
	}
	c.dropParking(comp, p)
}

// wakeParked lets parked actors try again, the urgent ones first, then the longest
// waiting. Of the others one that has to park again ends it for those of its host,
// or for all without a place: there is no room.
func (c *Core) wakeParked(comp component, p *parking) {
	p.urgent = c.wakeSome(p, p.urgent, false)
	for _, h := range c.takers(comp) {
		if list, ok := h.lines[comp]; !ok {
			continue
		} else if list = c.wakeSome(p, list, true); len(list) > 0 {
			h.lines[comp] = list
		} else {
			delete(h.lines, comp)
		}
	}
	p.order = c.wakeSome(p, p.order, true)
}

// wakeSome returns who is left. Nobody joins the list meanwhile: who has to park
// again keeps its place.
func (c *Core) wakeSome(p *parking, list []parkedActor, room bool) []parkedActor {
	for n := len(list); n > 0 && c.budget > 0; n-- {
		x := list[0]
		if p.waits(x) {
			p.release(x.a)
			c.waking = x
			c.pumpActor(x.a)
			c.waking = parkedActor{}
		}
		again := p.waits(x)
		if again && room {
			return list
		}
		list[0] = parkedActor{}
		list = list[1:]
		if again {
			list = append(list, x)
		}
	}
	return list
}

// room tells whether a host takes one more attempt of work from outside.
// Nested calls are never held back: what waits for them holds a place already.
func (c *Core) room(h *hostEntry) bool {
	ok := (c.cfg.HostLimit <= 0 || len(h.running) < c.cfg.HostLimit) &&
		(c.cfg.HostBytes <= 0 || h.bytes < c.cfg.HostBytes)
	if !ok {
		h.full = true
	}
	return ok
}

// parkActor lets an actor wait for a host that takes its work.
func (c *Core) parkActor(comp component, a *actorEntry) {
	urgent := a.awaited > 0 || a.locked()
	if a.parked && (a.urgent || !urgent) && a.parkHost == a.host {
		return
	}
	p := c.parking(comp)
	if p.actors[a.actor] == nil {
		p.actors[a.actor] = a
		p.work += a.work()
	}
	if c.waking.a == a && a.urgent == urgent && a.parkHost == a.host {
		a.parked = true // in its old place
		return
	}
	c.turns++
	a.parked, a.urgent, a.parkHost, a.parkTurn = true, urgent, a.host, c.turns
	x := parkedActor{a, c.turns}
	switch {
	case urgent:
		p.urgent = p.enqueue(p.urgent, x)
	case a.host != "":
		h := c.hosts[a.host]
		if h.lines == nil {
			h.lines = map[component][]parkedActor{}
		}
		h.lines[comp] = p.enqueue(h.lines[comp], x)
	default:
		p.order = p.enqueue(p.order, x)
	}
}

// release takes an actor out of those that wait.
func (p *parking) release(a *actorEntry) {
	a.parked = false
	delete(p.actors, a.actor)
	p.work -= a.work()
}

// workChanged counts requests that a parked actor gets, or loses.
func (c *Core) workChanged(a *actorEntry, more int) {
	if a.parked {
		c.parked[component{a.actor.App, a.actor.Type, true}].work += more
	}
}

func (p *parking) enqueue(list []parkedActor, x parkedActor) []parkedActor {
	if len(list) > 2*len(p.actors)+64 {
		list = slices.DeleteFunc(list, func(x parkedActor) bool { return !p.waits(x) })
	}
	return append(list, x)
}

func (c *Core) unparkActor(t Target) {
	if !t.IsActor() {
		return
	}
	if a := c.actors[t.Actor()]; a != nil && a.parked {
		comp := componentOf(t)
		if p := c.parked[comp]; p != nil {
			p.release(a)
			c.dropParking(comp, p)
		}
	}
}
