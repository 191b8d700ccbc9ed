package runtime

import (
	"cmp"
	"slices"
)

// The members of a group and the work that it has under way. A group hands out
// events while less than groupLimit of its tells are unfinished, wherever they
// are. Those that run here are counted as they come and go. Other partitions
// are asked, in messages that may be lost: an owner that knows nothing yet
// takes it that nothing is open.

// groupLimit is how much of a group's work may be unfinished before the pump waits.
const groupLimit = 1000

// A groupLife is one life of a group: the position of the record that made it
// tells it from an earlier one of the same name.
type groupLife struct {
	key  string
	life uint64
	part uint16 // where the group is
}

// groupTells are the unfinished tells of one life of a group in this partition.
type groupTells struct {
	n     int
	asked bool // the group waits to hear that there are fewer
}

// awayTells is what a group knows of its tells in another partition.
type awayTells struct {
	sent []uint64 // numbers of messages that the last answer did not count
	open int
	upto uint64
}

// A memberKey names a subscription; it is in one group at most.
type memberKey struct {
	actor Actor
	id    string
}

func compareMembers(a, b *subEntry) int {
	if c := compareActors(a.Actor, b.Actor); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}

func compareActors(a, b Actor) int {
	return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
}

// deadGroup tells a group that a purge has ended, with all its members. It is let go of
// in pieces, and nobody finds it meanwhile.
func (c *Core) deadGroup(g *groupEntry) bool {
	if len(g.members) == 0 || c.LogLevel() < 2 {
		return false
	}
	a := c.apps[g.members[0].Actor.App]
	return a != nil && a.purged > g.split && c.dead(&g.node, a.name)
}

// liveGroup is the group of that key, nil for none.
func (c *Core) liveGroup(key string) *groupEntry {
	if g := c.groups[key]; g != nil && !c.deadGroup(g) {
		return g
	}
	return nil
}

// dropDead lets go of up to n members of a group that a purge has ended, and of the
// group with the last; it returns what is left of n. Some may be members anew.
func (c *Core) dropDead(g *groupEntry, n int) (left int) {
	app := g.members[0].Actor.App
	for ; len(g.members) > 0 && n > 0; n-- {
		last := len(g.members) - 1
		m := g.members[last]
		g.members[last] = nil
		g.members = g.members[:last]
		if key := (memberKey{m.Actor, m.ID}); c.memberOf[key] == g {
			delete(c.memberOf, key)
		}
		if byID := c.subs[m.Actor]; byID[m.ID] == m {
			c.dropSub(m.Actor, m.ID)
		}
		c.app(app).members--
	}
	if len(g.members) == 0 {
		c.dropGroup(g)
		c.dropApp(app)
	}
	return n
}

// addMember puts a subscription into its group, in place of what it was before.
func (c *Core) addMember(g *groupEntry, x *subEntry) {
	key := memberKey{x.Actor, x.ID}
	if old := c.memberOf[key]; old != nil && old != g {
		c.dropMember(key)
	}
	c.memberOf[key] = g
	i, found := slices.BinarySearchFunc(g.members, x, compareMembers)
	if found {
		g.members[i] = x
	} else {
		c.app(x.Actor.App).members++
		g.members = slices.Insert(g.members, i, x)
	}
}

func (c *Core) dropMember(key memberKey) {
	g := c.memberOf[key]
	if g == nil {
		return
	}
	delete(c.memberOf, key)
	x := &subEntry{Subscription: Subscription{Actor: key.actor, ID: key.id}}
	if i, found := slices.BinarySearchFunc(g.members, x, compareMembers); found {
		c.app(x.Actor.App).members--
		c.dropApp(x.Actor.App)
		g.members = slices.Delete(g.members, i, i+1)
	}
	if len(g.members) == 0 {
		c.dropGroup(g)
	}
}

// group finds the group of a subscription, or makes it at a position.
func (c *Core) group(seq uint64, key string, s *Subscription) *groupEntry {
	g := c.liveGroup(key)
	if g == nil {
		g = &groupEntry{key: key, topic: s.Topic, next: s.Next, life: seq}
		c.groups[key] = g
		c.keep.place(&g.node, seq, g)             // an older base stays: it holds the other members
		if i, found := c.groupIndex(key); found { // in place of a dead one
			c.groupOrder[i] = g
		} else {
			c.groupOrder = slices.Insert(c.groupOrder, i, g)
		}
	}
	return g
}

func (c *Core) groupIndex(key string) (int, bool) {
	return slices.BinarySearchFunc(c.groupOrder, key, func(g *groupEntry, key string) int { return cmp.Compare(g.key, key) })
}

// dropGroup ends a life of a group.
func (c *Core) dropGroup(g *groupEntry) {
	if i, found := c.groupIndex(g.key); found && c.groupOrder[i] == g {
		c.groupOrder = slices.Delete(c.groupOrder, i, i+1)
	}
	c.forgetGroup(g)
}

// forgetGroup is dropGroup but for the sorted list. Pumps that wait for the
// group hear that it is gone when they ask again.
func (c *Core) forgetGroup(g *groupEntry) {
	c.keep.remove(&g.node)
	c.keep.remove(&g.moving.node)
	if c.groups[g.key] == g {
		delete(c.groups, g.key)
	}
	c.unblock(g.key)
}

// splitGroups gives each app a group of its own in place of those that apps had
// together at level 1. Each goes on from where they were.
func (c *Core) splitGroups() {
	shared := c.groupOrder
	c.groupOrder = nil
	for _, g := range shared {
		members, old := g.members, g.key
		c.keep.remove(&g.moving.node) // it is kept anew, as what it becomes
		g.keptTo = nil
		delete(c.groups, old)
		for x := g; ; {
			n := ofOneApp(members)
			x.key, x.members = c.groupKey(&members[0].Subscription), slices.Clip(members[:n])
			x.split = c.app(members[0].Actor.App).purged
			for _, m := range x.members {
				c.memberOf[memberKey{m.Actor, m.ID}] = x
			}
			c.groups[x.key] = x
			c.groupOrder = append(c.groupOrder, x)
			if members = members[n:]; len(members) == 0 {
				break
			}
			x = &groupEntry{topic: g.topic, next: g.next, life: g.life}
			c.keep.beside(&g.node, &x.node, x)
		}
		if c.groups[old] == nil {
			c.unblock(old)
		}
	}
	slices.SortFunc(c.groupOrder, func(a, b *groupEntry) int { return cmp.Compare(a.key, b.key) })
}

// ofOneApp is how many of the first members belong to the same app.
func ofOneApp(members []*subEntry) int {
	for i, m := range members {
		if m.Actor.App != members[0].Actor.App {
			return i
		}
	}
	return len(members)
}

// tellBegun and tellEnded count the work of a group that is here, as requests
// or as chains that are away from their home; nothing else changes the number.
func (c *Core) tellBegun(l groupLife) {
	if l.key == "" {
		return
	}
	t := c.tells[l]
	if t == nil {
		t = &groupTells{}
		c.tells[l] = t
	}
	t.n++
}

func (c *Core) tellEnded(l groupLife) {
	t := c.tells[l]
	if t == nil {
		return
	}
	if t.n--; t.n == 0 {
		delete(c.tells, l)
	}
	switch {
	case l.part == c.cfg.Partition:
		c.unblock(l.key)
	case t.asked && t.n < groupLimit/2:
		t.asked = false
		c.tellOpen(l, t.n)
	}
}

// unfinished is how much of a group's work is under way.
func (c *Core) unfinished(g *groupEntry) int {
	n := 0
	if t := c.tells[groupLife{g.key, g.life, c.cfg.Partition}]; t != nil {
		n = t.n
	}
	for _, w := range g.away { // a sum: in any order
		n += w.open + len(w.sent)
	}
	return n
}

// block lets a pump wait until the group has room again.
func (c *Core) block(g *groupEntry, waiter any) {
	c.blocked[g.key] = append(c.blocked[g.key], waiter)
	c.askAway(g)
}

// unblock lets waiting pumps ask again, when there is room or the group is gone.
func (c *Core) unblock(key string) {
	ws := c.blocked[key]
	if len(ws) == 0 {
		return
	}
	if g := c.liveGroup(key); g != nil && (c.unfinished(g) >= groupLimit/2 || g.heavy(c.cfg.WorkBytes/2) || c.busy(g.members[0].Actor.App)) {
		return
	}
	delete(c.blocked, key)
	for _, w := range ws {
		c.refuse(w, Errorf(CodeAskAgain, "the group has room again"))
	}
}

// sentAway notes a tell that left for another partition. In a mesh with older
// gateways nobody could answer for it.
func (c *Core) sentAway(g *groupEntry, to uint16, bytes int) {
	if c.LogLevel() < 2 {
		return
	}
	w := g.away[to]
	if w == nil {
		w = &awayTells{}
		if g.away == nil {
			g.away = map[uint16]*awayTells{}
		}
		g.away[to] = w
	}
	w.sent = append(w.sent, c.outboxTo(to).next-1)
	if size := int64(workBytes + bytes); g.size == 0 {
		g.size = size
	} else {
		g.size += (size - g.size) / 8
	}
}

// heavy tells that what the group has in other partitions takes its app's part of the
// limit there, by how large its last events were.
func (g *groupEntry) heavy(limit int64) bool {
	n := 0
	for _, w := range g.away { // a sum: in any order
		n += w.open + len(w.sent)
	}
	return limit > 0 && int64(n)*g.size > limit/eventShare
}

// askAway asks the partitions that hold work of a full group how much is left.
func (c *Core) askAway(g *groupEntry) {
	for p := range c.cfg.Partitions {
		if w := g.away[uint16(p)]; w != nil && w.open+len(w.sent) > 0 {
			c.effect(Effect{Kind: ToOwner, Partition: uint16(p), Value: &GroupAsk{From: c.cfg.Partition, Group: g.key, Life: g.life}})
		}
	}
}

// askBlocked repeats the questions of groups that are full, and lets those go on whose
// app has less to do.
func (c *Core) askBlocked() {
	if len(c.blocked) == 0 {
		return
	}
	for _, key := range sortedKeys(c.blocked) {
		if g := c.liveGroup(key); g != nil {
			c.askAway(g)
			c.unblock(key)
		}
	}
}

// GroupAsk: a full group of partition From wants to know how many of its tells
// are unfinished here, now and once they are fewer.
type GroupAsk struct {
	From  uint16
	Group string
	Life  uint64
}

func (in *GroupAsk) decide(c *Core) {
	l, n := groupLife{in.Group, in.Life, in.From}, 0
	if t := c.tells[l]; t != nil {
		n = t.n
		t.asked = n >= groupLimit/2
	}
	c.tellOpen(l, n)
}

func (c *Core) tellOpen(l groupLife, n int) {
	c.effect(Effect{Kind: ToOwner, Partition: l.part, Value: &GroupOpen{
		From: c.cfg.Partition, Group: l.key, Life: l.life, Open: n, Upto: c.in[l.part],
	}})
}

// GroupOpen answers GroupAsk: of the tells in messages up to Upto that many are
// unfinished in partition From.
type GroupOpen struct {
	From  uint16
	Group string
	Life  uint64
	Open  int
	Upto  uint64
}

func (in *GroupOpen) decide(c *Core) {
	g := c.groups[in.Group]
	if g == nil || g.life != in.Life || g.away[in.From] == nil || in.Open < 0 {
		return
	}
	w := g.away[in.From]
	if in.Upto < w.upto {
		return // older than what is known
	}
	w.open, w.upto = in.Open, in.Upto
	i, _ := slices.BinarySearch(w.sent, in.Upto+1)
	w.sent = slices.Delete(w.sent, 0, i)
	c.unblock(g.key)
}
