package runtime

import (
	"slices"
	"sort"
)

// parking holds what waits for a host of one component. An actor waits as a
// whole; a service request waits by itself. Entries, not goroutines.
type parking struct {
	requests    []*entry              // of a service, by order
	awaited     []*entry              // the same, by running work: they go first
	interrupted map[ID]*entry         // of a service: stopped attempts whose retry is due or waits
	actors      map[Actor]*actorEntry // that have work and no host that takes it
	order       []*actorEntry         // the same in order of parking; those that left are not in actors
	dirty       bool
	since       int64 // monotonic ms
}

func (c *Core) parking(comp component) *parking {
	p := c.parked[comp]
	if p == nil {
		p = &parking{actors: map[Actor]*actorEntry{}, interrupted: map[ID]*entry{}, since: c.now.Mono}
		c.parked[comp] = p
	}
	return p
}

// list is where a service request waits.
func (p *parking) list(e *entry) *[]*entry {
	if e.awaited() {
		return &p.awaited
	}
	return &p.requests
}

func (c *Core) park(e *entry) {
	list := c.parking(componentOf(e.req.Target)).list(e)
	*list = append(*list, e)
	for i, es := len(*list)-1, *list; i > 0 && es[i-1].order > e.order; i-- {
		es[i], es[i-1] = es[i-1], es[i]
	}
}

func (c *Core) unpark(e *entry) {
	comp := componentOf(e.req.Target)
	p := c.parked[comp]
	if p == nil {
		return
	}
	delete(p.interrupted, e.req.ID)
	list := p.list(e)
	i := sort.Search(len(*list), func(i int) bool { return (*list)[i].order >= e.order })
	switch {
	case i == len(*list) || (*list)[i] != e:
	case i == 0: // the usual case when a host comes: the others must not move each time
		(*list)[0] = nil
		*list = (*list)[1:]
	default:
		*list = slices.Delete(*list, i, i+1)
	}
	c.dropParking(comp, p)
}

func (c *Core) dropParking(comp component, p *parking) {
	if len(p.requests) == 0 && len(p.awaited) == 0 && len(p.actors) == 0 && len(p.interrupted) == 0 && !p.dirty {
		delete(c.parked, comp)
	}
}

func (c *Core) touchParked(comp component) {
	p := c.parking(comp)
	if !p.dirty {
		p.dirty = true
		c.dirtyParks = append(c.dirtyParks, comp)
	}
}

// pumpParked starts parked service requests and wakes parked actors.
func (c *Core) pumpParked(comp component) {
	p := c.parked[comp]
	if p == nil {
		return
	}
	p.dirty = false
	for _, e := range p.ready(c) {
		if c.giveUp(e) {
			continue
		}
		if h := c.hostForService(comp, e.req.ID, e.awaited()); h != nil && c.mayRetry(e) {
			c.start(e, h)
		}
	}
	if len(c.takers(comp)) > 0 {
		for len(p.awaited) > 0 {
			e := p.awaited[0]
			c.start(e, c.hostForService(comp, e.req.ID, true)) // takes it out of p.awaited
		}
		for len(p.requests) > 0 {
			e := p.requests[0]
			h := c.hostForService(comp, e.req.ID, false)
			if h == nil {
				break
			}
			c.start(e, h) // takes it out of p.requests
		}
		c.wakeParked(p)
	}
	c.dropParking(comp, p)
}

// wakeMisses bounds how many parked actors one wake-up finds still without a host.
const wakeMisses = 64

// wakeParked lets parked actors try again, the longest waiting first. One that
// has no place and has to park again ends it: all hosts are full. One whose own
// host is full does not hold up the others.
func (c *Core) wakeParked(p *parking) {
	misses := 0
	for n := len(p.order); n > 0 && len(p.order) > 0 && misses < wakeMisses; n-- {
		a := p.order[0]
		p.order[0] = nil
		p.order = p.order[1:]
		if p.actors[a.actor] != a || !a.parked {
			continue
		}
		a.parked = false
		delete(p.actors, a.actor)
		c.pumpActor(a)
		if a.parked {
			misses++
			if a.host == "" {
				return
			}
		}
	}
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
	if a.parked {
		return
	}
	a.parked = true
	p := c.parking(comp)
	p.actors[a.actor] = a
	if len(p.order) > 2*len(p.actors)+64 {
		p.order = slices.DeleteFunc(p.order, func(a *actorEntry) bool { return p.actors[a.actor] != a })
	}
	p.order = append(p.order, a)
}

// ready lists the interrupted requests that wait for nothing but a host, in order.
func (p *parking) ready(c *Core) []*entry {
	var es []*entry
	for _, e := range p.interrupted {
		if c.mayRetry(e) || e.cancelled || c.exhausted(e) {
			es = append(es, e)
		}
	}
	sortEntries(es)
	return es
}

// stop notes that the last attempt has provably ended without an outcome.
func (c *Core) stop(e *entry) {
	e.phase = stopped
	c.Counts.Running--
	if !e.req.Target.IsActor() {
		c.parking(componentOf(e.req.Target)).interrupted[e.req.ID] = e
	} else if a := c.actors[e.req.Target.Actor()]; a != nil {
		a.running--
		a.resting.add(e)
	}
}

// pumpActor starts what may run on an actor now (P5): interrupted and held
// work of the flow that owns the lock first, re-entrant calls of that flow,
// then the next in the mailbox.
func (c *Core) pumpActor(a *actorEntry) {
	if a.deactivating || len(a.zombies) > 0 {
		return
	}
	if a.stale && a.host != "" {
		c.deactivate(a)
		return
	}
	for {
		// Ready ones only: a retried caller waits for its children, so nested
		// work comes first by itself.
		for _, e := range slices.Clone(a.resting.es) {
			if c.giveUp(e) {
				continue
			}
			if e.phase == held || e.phase == stopped && c.mayRetry(e) {
				if !c.startOnActor(e, a) {
					return
				}
			}
		}
		if !a.locked() {
			e := a.queue.first()
			if e == nil {
				break
			}
			if e.req.CancelWithCaller && c.callerLost(e) {
				c.end(e, Errorf(CodeCallerGone, "the caller has ended").Outcome())
				continue
			}
			if e.req.Kind == Remove {
				if a.host != "" {
					c.deactivate(a)
					return
				}
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
				if !c.startOnActor(e, a) {
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
		es = slices.Clone(l.es)
	}
	if root := c.entries[a.flow]; root != nil && root.phase == queued && root.req.Target.IsActor() && root.req.Target.Actor() == a.actor {
		es = append(es, root)
		sortEntries(es)
	}
	return slices.DeleteFunc(es, func(e *entry) bool { return e.req.Kind == Remove })
}

func (c *Core) callerLost(e *entry) bool {
	if e.req.Boot == "" {
		return false
	}
	_, lost := c.lost[e.req.Boot]
	return lost
}

// mayRetry is P3 and P4 for an interrupted request: its calls have ended, no
// call of an earlier term can still arrive, and its back-off is over.
func (c *Core) mayRetry(e *entry) bool {
	if len(e.children) > 0 {
		return false
	}
	if e.epoch < c.epoch && len(c.fenceWait) > 0 {
		return false
	}
	return c.now.Mono >= e.retryAt
}

// startOnActor starts an entry on its actor's host, or parks the actor. False
// means that nothing more can start on the actor now.
func (c *Core) startOnActor(e *entry, a *actorEntry) bool {
	if a.host != "" {
		h := c.hosts[a.host]
		if h == nil || !h.linked {
			return false // joins again, or is counted lost
		}
		if h.info.Draining && a.running == 0 {
			c.deactivate(a)
			return false
		}
		if e.phase == queued && a.awaited == 0 && !c.room(h) {
			c.parkActor(componentOf(e.req.Target), a)
			return false
		}
		c.start(e, h)
		return true
	}
	comp := componentOf(e.req.Target)
	h := c.hostForActor(comp, a.actor, e.phase != queued || a.awaited > 0)
	if h == nil {
		c.parkActor(comp, a)
		return false
	}
	c.start(e, h)
	return true
}

// start records attempt n+1 and hands it to the host.
func (c *Core) start(e *entry, h *hostEntry) {
	if e.attempt > 0 {
		c.Counts.Retried++
	}
	c.unparkActor(e.req.Target)
	c.emit(&started{id: e.req.ID, step: e.step, attempt: e.attempt + 1, host: h.boot, grace: h.info.Grace, actor: placeOf(e.req.Target)})
	c.invoke(e)
	c.arm(e)
}

// placeOf is the actor of a target, or none.
func placeOf(t Target) Actor {
	if !t.IsActor() {
		return Actor{}
	}
	return t.Actor()
}

func (c *Core) unparkActor(t Target) {
	if !t.IsActor() {
		return
	}
	if a := c.actors[t.Actor()]; a != nil && a.parked {
		a.parked = false
		comp := componentOf(t)
		if p := c.parked[comp]; p != nil {
			delete(p.actors, a.actor)
			c.dropParking(comp, p)
		}
	}
}

// invoke sends the current attempt to its host; the host runs it once however
// often it is sent.
func (c *Core) invoke(e *entry) {
	h := c.hosts[e.host]
	if h == nil || !h.linked {
		return
	}
	hd := make(Header, 4+len(e.req.Header))
	for k, v := range e.req.Header {
		hd[k] = v
	}
	hd["Kar-Request-Id"] = []string{e.req.ID.String()}
	hd["Kar-Attempt"] = []string{utoa(uint64(e.attempt))}
	m := &Invoke{
		Attempt: c.attemptOf(e), Epoch: c.epoch, Target: e.req.Target,
		Method: e.req.Method, Path: e.req.Path, Header: hd, Body: e.req.Body,
	}
	if e.req.Target.IsActor() {
		hd["Content-Type"] = []string{"application/kar+json"}
		m.Session = c.sessionOf(e)
	}
	if e.reminder != "" {
		hd["Kar-Reminder-Due"] = []string{formatMillis(e.due)}
		hd["Kar-Reminder-Count"] = []string{utoa(uint64(e.count))}
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
	a.deactivating = true
	a.idle = false
	c.effect(Effect{Kind: ToHost, Boot: a.host, Msg: &Deactivate{Actor: a.actor, Partition: c.cfg.Partition, Epoch: c.epoch}})
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
		if len(h.idle) > 2*len(h.actors)+64 {
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

// collectIdle deactivates what has been idle for the host's interval.
func (c *Core) collectIdle(h *hostEntry) {
	for n := 0; len(h.idle) > 0 && n < idleBatch; {
		a := h.idle[0].a
		if h.idle[0].still(c, h) {
			if !h.linked || a.idleSince+h.info.Idle > c.now.Mono {
				return
			}
			c.deactivate(a)
			n++
		}
		h.idle[0].a = nil
		h.idle = h.idle[1:]
	}
}
