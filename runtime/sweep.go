package runtime

// A purge marks nothing that it ends: what stands in the log in front of its
// record belongs to the generation before, and is treated so wherever it is met.
// Memory is given back, and hosts are told to let go, in pieces: a sweep goes
// through all that is live, which stands in the order of the log.

// sweepBatch is how many live things one tick looks at.
const sweepBatch = 1000

// dead tells that a purge has ended what a record in front of it has made.
func (c *Core) dead(n *node, app string) bool {
	a := c.apps[app]
	return a != nil && n.listed() && n.base < a.purged
}

// isStale tells an actor that must be deactivated before new work: it was placed
// in an earlier generation of its app.
func (c *Core) isStale(a *actorEntry) bool {
	return a.host != "" && (a.stale || c.dead(&a.node, a.actor.App))
}

// reminder finds a reminder that no purge has ended.
func (c *Core) reminder(a Actor, id string) *reminderEntry {
	x := c.reminders[a].find(id)
	if x != nil && c.dead(&x.node, a.App) {
		c.dropReminder(a, id)
		return nil
	}
	return x
}

// beginSweep starts a sweep; one that is under way is followed by another.
func (c *Core) beginSweep() {
	if c.keep.sweep != nil {
		c.sweepNext = true
		return
	}
	c.keep.sweep, c.sweepTo = c.keep.live.first, c.seq
}

func (c *Core) sweepSome(limit int) {
	if len(c.purging) > 0 {
		return // nothing of theirs is let go of before
	}
	for left := limit; left > 0; left-- {
		n := c.keep.sweep
		if n == nil || n.base > c.sweepTo {
			c.keep.sweep = nil
			if c.sweepNext {
				c.sweepNext = false
				c.beginSweep()
			}
			return
		}
		c.keep.sweep = n.next
		switch o := n.owner.(type) {
		case *reminderEntry:
			if c.dead(n, o.Actor.App) {
				c.dropReminder(o.Actor, o.ID)
			}
		case *groupEntry:
			if c.deadGroup(o) {
				if left = c.dropDead(o, left); len(o.members) > 0 {
					c.keep.sweep = n
				}
			}
		case *actorEntry:
			if c.isStale(o) {
				c.touch(o)
			}
		}
	}
}
