package runtime

import (
	"cmp"
	"slices"
)

// Facts about apps and lost boots are live entries of the log like requests:
// they are kept anew when the log is trimmed, and have an end. Records that
// need the generation of an app name it, for in a trimmed log they may stand in
// front of the one that says it. (At level 1 every header lists all of them.)

// factMemory is how long what has ended is known, in milliseconds. It outlasts
// processes that were stopped overnight and wall clocks that were set by hours:
// a boot that is forgotten could come back and write.
const factMemory = 7 * 86_400_000

// ageOf is how long ago something was, in milliseconds: by the wall clock, when it has
// been known for the id window by the clock that does not jump. Until then nothing is
// older than that clock says, for the wall clock may just have been set; nor is it
// younger, once the wall clock was set back behind it.
func (c *Core) ageOf(at, noted int64) int64 {
	known := c.now.Mono - max(noted, c.ownedAt) // what was folded, since the term began
	wall := c.now.Wall - at
	if known <= c.cfg.IDWindow || wall < 0 {
		return known
	}
	return wall
}

// maxLost bounds the lost boots that are known beyond the id window.
const maxLost = 50_000

// maxStrangers bounds the boots that have ended without having had to do with
// this partition; nothing but a late join of theirs is refused.
const maxStrangers = 10_000

func (c *Core) app(name string) *appEntry {
	a := c.apps[name]
	if a == nil {
		a = &appEntry{name: name}
		c.apps[name] = a
	}
	return a
}

// dropApp forgets an app of which there is nothing to know.
func (c *Core) dropApp(name string) {
	if a := c.apps[name]; a != nil && a.open == 0 && a.roll.first == nil && a.holds == 0 && a.members == 0 && a.lasting == 0 && a.generation == 0 && len(a.services) == 0 {
		c.keep.remove(&a.node)
		delete(c.apps, name)
	}
}

// holds counts what of the app is there without being work.
func (c *Core) holds(app string, more int) {
	c.app(app).holds += more
	c.dropApp(app)
}

func (c *Core) generation(app string) uint64 {
	if a := c.apps[app]; a != nil {
		return a.generation
	}
	return 0
}

// generationOf is the generation that a record names plus one, or, in logs of
// before it was named, the one that is known.
func (c *Core) generationOf(app string, named uint64) uint64 {
	if named > 0 {
		return named - 1
	}
	return c.generation(app)
}

// use notes that there is something of the app in its generation.
func (c *Core) use(app string) {
	if a := c.apps[app]; a != nil && a.generation != 0 {
		a.used = true
	}
}

// outlived tells a generation that nothing needs: the app has been purged long
// ago and not been used since. Other partitions would have to forget it in the
// same instant, so that only a partition that is alone forgets.
func (c *Core) outlived(a *appEntry) bool {
	return c.cfg.Partitions == 1 && !a.used && a.open == 0 && c.ageOf(a.purgedAt, a.noted) > factMemory
}

func (c *Core) applyKeptApp(seq uint64, b *keptApp) {
	a := c.app(b.app)
	a.generation, a.purgedAt, a.used = b.generation, b.at, b.used
	if b.gone {
		a.generation, a.purgedAt, a.used = 0, 0, false
		c.keep.remove(&a.node)
		c.dropApp(b.app)
		return
	}
	c.keep.place(&a.node, seq, a)
}

// applyService sets or removes a url component. The record is what keeps it in
// the log; seq 0: a header does.
func (c *Core) applyService(seq uint64, app string, f serviceFact, gone bool) {
	a := c.app(app)
	i, found := slices.BinarySearchFunc(a.services, f.name, func(s *serviceEntry, name string) int { return cmp.Compare(s.name, name) })
	switch {
	case gone:
		if found {
			c.keep.remove(&a.services[i].node)
			a.services = slices.Delete(a.services, i, i+1)
		}
		c.dropApp(app)
		return
	case found:
		a.services[i].serviceFact = f
	default:
		a.services = slices.Insert(a.services, i, &serviceEntry{app: app, serviceFact: f})
	}
	if s := a.services[i]; seq != 0 && c.LogLevel() >= 2 {
		c.keep.place(&s.node, seq, s)
	}
}

// noteLost remembers a boot; the record that says so keeps it in the log.
func (c *Core) noteLost(seq uint64, boot string, at int64, beside company) {
	x := c.lost[boot]
	if x == nil {
		x = &lostEntry{boot: boot, noted: c.now.Mono}
		c.lost[boot] = x
		c.lostOrder = append(c.lostOrder, x)
	}
	x.at, x.beside = at, beside
	if seq != 0 && c.LogLevel() >= 2 {
		c.keep.place(&x.node, seq, x)
	}
}

func (c *Core) dropLost(x *lostEntry) {
	c.keep.remove(&x.node)
	delete(c.lost, x.boot)
}

// isLost tells a boot that has ended and must not come back.
func (c *Core) isLost(boot string) bool { return c.lost[boot] != nil || c.strangers[boot] }

// noteStranger remembers a boot that never had anything from here: in memory,
// the last ones only.
func (c *Core) noteStranger(boot string) {
	if c.strangers[boot] {
		return
	}
	c.strangers[boot] = true
	c.strange = append(c.strange, boot)
	if len(c.strange) > maxStrangers {
		delete(c.strangers, c.strange[0])
		c.strange = c.strange[1:]
	}
}

// sortLost puts what the log told into the order in which it is forgotten.
func (c *Core) sortLost() {
	slices.SortStableFunc(c.lostOrder, func(a, b *lostEntry) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.boot, b.boot))
	})
}

// forgetLost drops lost boots when nothing of them can be alive any more.
func (c *Core) forgetLost() {
	for len(c.lostOrder) > 0 {
		x := c.lostOrder[0]
		age := c.ageOf(x.at, x.noted)
		if c.lost[x.boot] == x && age <= factMemory && (len(c.lost) <= maxLost || age <= c.cfg.IDWindow) {
			return
		}
		if c.lost[x.boot] == x {
			c.dropLost(x)
		}
		c.lostOrder = c.lostOrder[1:]
	}
}

// addFacts writes all facts into a header, for logs of level 1.
func (c *Core) addFacts(h *header) {
	for _, name := range sortedKeys(c.apps) {
		if a := c.apps[name]; a.generation != 0 || len(a.services) > 0 {
			b := appChanged{app: name, generation: a.generation, listed: true}
			for _, s := range a.services {
				b.services = append(b.services, s.serviceFact)
			}
			h.apps = append(h.apps, b)
		}
	}
	for _, boot := range sortedKeys(c.lost) {
		h.lost = append(h.lost, hostLost{boot: boot, at: c.lost[boot].at, beside: c.lost[boot].beside})
	}
}

// listFacts makes the facts live that a header or a log of level 1 has told: the
// next header will not list them.
func (c *Core) listFacts(seq uint64) {
	if c.LogLevel() < 2 {
		return
	}
	for _, name := range sortedKeys(c.apps) {
		a := c.apps[name]
		if a.generation != 0 {
			c.keep.place(&a.node, seq, a)
		}
		for _, s := range a.services {
			c.keep.place(&s.node, seq, s)
		}
	}
	for _, boot := range sortedKeys(c.lost) {
		c.keep.place(&c.lost[boot].node, seq, c.lost[boot])
	}
}
