package runtime

import (
	"slices"
	"sort"
)

// What is open of an app when it is purged is ended in pieces: there may be
// hundreds of thousands. The record that raises the generation draws the line, and
// each purged record ends some of what stands in front of it. Until the last one
// nothing of the app starts, what is old is treated as ended wherever it is met,
// and what is new waits behind it. A new owner, and an owner that trims, go on from
// the log. In logs of level 1 the first record ends everything.

// purged ends requests, and chains that are away, that a purge has found open.
type purged struct{ ids []ID }

func (p *purged) fields(c *codec) { c.ids(1, &p.ids) }

func (c *Core) applyPurged(seq uint64, b *purged) {
	for _, id := range b.ids {
		if e := c.entries[id]; e != nil {
			c.endPurged(seq, e)
		}
		if h := c.homes[id]; h != nil {
			c.endPurgedHome(seq, h)
		}
		c.returned(id)
		c.ended.add(c, id, seq) // also what stood in front of a cut
	}
}

func (c *Core) endPurged(seq uint64, e *entry) {
	t, run, z := e.req.Target, e.phase == running, zombie{e.req.ID, e.attempt, e.host}
	c.tellPurged(e.req.ID, e.waiters)
	c.dropKey(&e.req)
	c.dropEntry(e)
	c.childEnded(e.parents, e.req.ID)
	c.ended.add(c, e.req.ID, seq)
	if !t.IsActor() {
		return
	}
	if run {
		x := c.actorEntry(t.Actor())
		c.haunt(x, z)
		c.unkeep(x)
	}
	if x := c.actors[t.Actor()]; x != nil {
		x.idle = false
		c.dropActor(x)
	}
}

func (c *Core) endPurgedHome(seq uint64, h *homeEntry) {
	c.tellPurged(h.req.ID, h.waiters)
	c.dropHome(h)
	c.ended.add(c, h.req.ID, seq)
}

func (c *Core) tellPurged(id ID, waiters []any) {
	for _, w := range waiters {
		c.reply(w, (&Error{CodePurged, "the app was purged", id}).Outcome(), id)
	}
}

// isPurged tells a request that stands in front of a purge and has not been ended yet.
func (c *Core) isPurged(e *entry) bool {
	return len(c.purging) > 0 && c.dead(&e.node, e.req.Target.App)
}

func (c *Core) isPurgedHome(h *homeEntry) bool {
	return len(c.purging) > 0 && c.dead(&h.node, h.req.Target.App)
}

// purgingOf is the app while requests of its last generation are left, else nil.
func (c *Core) purgingOf(app string) *appEntry {
	if len(c.purging) == 0 {
		return nil
	}
	if a := c.apps[app]; a != nil && a.purging {
		return a
	}
	return nil
}

// beginPurge follows the record that draws the line. Rounds is how many rounds had
// left before: what this one had given to hosts does not leave.
func (c *Core) beginPurge(a *appEntry) {
	if s := a.roll.first; !a.purging && s != nil && a.hasPurged(s) {
		a.purging, a.left = true, c.rounds // of the first purge: nothing starts until the last has ended
		c.purging = append(c.purging, a)
	}
}

func (a *appEntry) hasPurged(s *seat) bool {
	if s.e != nil {
		return s.e.base < a.purged
	}
	return s.h.base < a.purged
}

// purgePiece is how many requests one step ends.
const purgePiece = 500

// purgeSome ends up to n requests, of one purge after the other; it returns what is
// left of n.
func (c *Core) purgeSome(n int) (left int) {
	spare := max(0, n-purgePiece)
	for n -= spare; len(c.purging) > 0 && n > 0; {
		a := c.purging[0]
		var ids []ID
		for s := a.roll.first; s != nil && n > 0 && a.hasPurged(s); s = s.next {
			n--
			if s.e != nil {
				ids = append(ids, s.e.req.ID)
			} else {
				ids = append(ids, s.h.req.ID)
			}
		}
		c.endNow(a, ids)
		if s := a.roll.first; s == nil || !a.hasPurged(s) {
			c.purging = c.purging[1:]
			c.release(a)
		} else {
			c.purging = turn(c.purging)
		}
	}
	return n + spare
}

// endNow ends requests of an app that stand in front of its purge.
func (c *Core) endNow(a *appEntry, ids []ID) {
	if len(ids) == 0 {
		return
	}
	var unsent []*entry
	for _, id := range ids {
		e := c.entries[id]
		if e == nil {
			continue
		}
		if c.absentThere(e) || e.phase == running && (e.inside || e.leaves > a.left) {
			unsent = append(unsent, e)
		}
		if n := e.replacedOf(); n > 0 { // may still live, and call what the app does anew
			c.emit(&keptPast{id, e.step, n})
		}
	}
	c.emit(&purged{ids})
	for _, e := range unsent {
		c.zombieEnded(e.host, c.attemptOf(e))
	}
}

// endIfPurged ends the request with that id when a purge has.
func (c *Core) endIfPurged(id ID) {
	e, h := c.entries[id], c.homes[id]
	if e != nil && c.isPurged(e) {
		c.endNow(c.apps[e.req.Target.App], []ID{id})
	} else if h != nil && c.isPurgedHome(h) {
		c.endNow(c.apps[h.req.Target.App], []ID{id})
	}
}

// release lets start what has waited for the end of a purge.
func (c *Core) release(a *appEntry) {
	a.purging = false
	c.dirty = append(c.dirty, a.heldActors...)
	c.dirtyParks = append(c.dirtyParks, a.heldParks...)
	a.heldActors, a.heldParks = nil, nil
}

// alive is how many in a line came after the last purge of their app.
func (c *Core) alive(l *line, app string) int {
	a := c.purgingOf(app)
	if a == nil {
		return l.len()
	}
	es := l.all()
	return len(es) - sort.Search(len(es), func(i int) bool { return es[i].order >= a.purged })
}

// endAll ends everything that is open of an app: what the record of a purge does in
// logs of level 1.
func (c *Core) endAll(seq uint64, a *appEntry) {
	for s := a.roll.first; s != nil; s = a.roll.first {
		if s.e != nil {
			c.endPurged(seq, s.e)
		} else {
			c.endPurgedHome(seq, s.h)
		}
	}
}

// raiseAtOnce writes, in a log of level 1, the record of a purge, and before it the
// ids of what it ends: a trimmed log may not know all of those any more.
func (c *Core) raiseAtOnce(b *appChanged, out []OutMessage) {
	v := c.via // rides on the record that counts
	c.via = via{}
	var ids []ID
	var unsent []*entry
	for s := c.app(b.app).roll.first; s != nil; s = s.next {
		if e := s.e; e != nil {
			ids = append(ids, e.req.ID)
			if c.absentThere(e) || e.phase == running && (e.inside || e.leaves > c.rounds) {
				unsent = append(unsent, e)
			}
		} else if id := s.h.req.ID; c.entries[id] == nil {
			ids = append(ids, id)
		}
	}
	sortIDs(ids)
	for part := range slices.Chunk(ids, idsInRecord) {
		c.emit(&keptIDs{part})
	}
	c.via = v
	c.emit(b, out...)
	for _, e := range unsent {
		c.zombieEnded(e.host, c.attemptOf(e))
	}
}
