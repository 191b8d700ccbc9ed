package runtime

import (
	"cmp"
	"slices"
)

// Trim by keeping: there are no checkpoints. Every live thing knows the oldest
// record that is needed to rebuild it (its base); the list is in that order.
// To free the oldest part of the log, what is live there is appended again in
// full, and the part in front of a header is deleted. Trimming is
// housekeeping: nothing depends on it, and applying a Kept record to a state
// that has the thing already changes nothing but its base.

// A node is a place in the keep list.
type node struct {
	base       uint64
	prev, next *node
	list       *nodeList
	owner      any
}

func (n *node) listed() bool { return n.list != nil }

type nodeList struct{ first, last *node }

func (l *nodeList) add(n *node) {
	n.list, n.prev, n.next = l, l.last, nil
	if l.last != nil {
		l.last.next = n
	} else {
		l.first = n
	}
	l.last = n
}

func (l *nodeList) remove(n *node) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.first = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.last = n.prev
	}
	n.list, n.prev, n.next = nil, nil, nil
}

// A moving is the place from which on all of something stands that is kept in
// several records, and over several steps. Until the last of them what stood in the
// old place is needed.
type moving struct{ node }

func (m *moving) begin(k *keepList, seq uint64) { k.place(&m.node, seq, m) }

// end puts n into the new place. In a trimmed log the first records may have made
// something that is gone again: then n, made behind them, stays where it is.
func (m *moving) end(k *keepList, n *node, owner any) {
	if m.listed() {
		k.remove(n)
		k.replace(&m.node, n, owner)
	}
}

// keepList has a list of its own for endings, whose oldest go first under pressure.
type keepList struct {
	live    nodeList
	endings nodeList
	sweep   *node // the next one that a sweep looks at
	fade    *node // the next ending that forget looks at
	stuck   bool  // what comes next is larger than the log takes
}

// place moves a node to the end with a new base; seq never falls.
func (k *keepList) place(n *node, seq uint64, owner any) {
	k.remove(n)
	n.base, n.owner = seq, owner
	k.live.add(n)
}

func (k *keepList) placeEnding(n *node, seq uint64, owner any) {
	k.remove(n)
	n.base, n.owner = seq, owner
	k.endings.add(n)
}

// replace puts n into old's place, base included.
func (k *keepList) replace(old, n *node, owner any) {
	if k.sweep == old {
		k.sweep = n
	}
	l := old.list
	n.base, n.owner, n.list, n.prev, n.next = old.base, owner, l, old.prev, old.next
	if n.prev != nil {
		n.prev.next = n
	} else {
		l.first = n
	}
	if n.next != nil {
		n.next.prev = n
	} else {
		l.last = n
	}
	old.list, old.prev, old.next = nil, nil, nil
}

// beside puts n behind other, with the same base.
func (k *keepList) beside(other, n *node, owner any) {
	n.base, n.owner, n.list, n.prev, n.next = other.base, owner, other.list, other, other.next
	if n.next != nil {
		n.next.prev = n
	} else {
		n.list.last = n
	}
	other.next = n
}

func (k *keepList) remove(n *node) {
	if k.sweep == n {
		k.sweep = n.next
	}
	if k.fade == n {
		k.fade = n.next
	}
	if n.list != nil {
		n.list.remove(n)
	}
}

func (k *keepList) oldestEnding() *ending { return k.endings.first.owner.(*ending) }

// nextEnding is the next one to be looked at, beginning with the oldest.
func (k *keepList) nextEnding() *ending {
	if k.fade == nil {
		k.fade = k.endings.first
	}
	if k.fade == nil {
		return nil
	}
	x := k.fade.owner.(*ending)
	k.fade = k.fade.next
	return x
}

// OldestLive is the first record that is still needed.
func (c *Core) OldestLive() uint64 {
	oldest := c.seq + 1
	if len(c.unkept) > 0 {
		oldest = c.head
	}
	for _, n := range []*node{c.keep.live.first, c.keep.endings.first} {
		if n != nil && n.base < oldest {
			oldest = n.base
		}
	}
	return oldest
}

// Keep appends again, in full, up to limit live things whose base is before
// seq. It reports whether nothing is left there.
type Keep struct {
	Before uint64
	Limit  int
}

// keepBytes is about how much one step appends again.
const keepBytes = 2 << 20

func (in *Keep) decide(c *Core) {
	c.keep.stuck = false
	c.keepHaunted(c.purgeSome(in.Limit))
	if len(c.purging) > 0 {
		return // what it ends is not kept
	}
	live, counted, size := c.keep.live.first, len(c.records), 0
	for range in.Limit {
		for live != nil && live.base < in.Before && absent(live) {
			if c.keep.stuck = c.outgrown(live); c.keep.stuck {
				return
			}
			if !c.keepWhenRead(live.owner.(*entry)) {
				return
			}
			live = live.next
		}
		n := live
		if e := c.keep.endings.first; e != nil && (n == nil || e.base < n.base) {
			n = e
		}
		if n == nil || n.base >= in.Before {
			return
		}
		if n == live {
			live = live.next
		}
		if c.keep.stuck = c.outgrown(n); c.keep.stuck {
			return
		}
		if c.keepOne(n); c.pieces <= 0 {
			return
		}
		for ; counted < len(c.records); counted++ {
			size += len(c.records[counted])
		}
		if size > keepBytes {
			return
		}
	}
}

// outgrown tells what the log takes no more. It is written to see, where it is large
// enough to doubt.
func (c *Core) outgrown(n *node) bool {
	size := 0
	switch o := n.owner.(type) {
	case *entry:
		size = o.req.bytes() - len(o.req.Body) + o.size
	case *homeEntry:
		size = o.req.bytes()
	case *ending:
		size = o.outcome.bytes()
	case *reminderEntry:
		size = o.Reminder.bytes()
	case *outEntry:
		size = len(o.payload)
	}
	if c.fits(size) || absent(n) {
		return !c.fits(size)
	}
	return len(EncodeRecord(&Record{Epoch: c.epoch, Owner: c.me, Seq: c.seq + 1, Body: c.keptIn(n)})) > c.cfg.RecordLimit
}

// Stuck tells that the log takes no more what would have to be kept next: somebody has
// lowered its limit. It stays where it is, and so does all behind it.
func (c *Core) Stuck() bool { return c.keep.stuck }

// absent tells a request whose body has to be read before it can be kept.
func absent(n *node) bool {
	e, ok := n.owner.(*entry)
	return ok && e.absent()
}

func (c *Core) keepOne(n *node) {
	switch o := n.owner.(type) {
	case *entry, *homeEntry:
		c.emit(c.keptIn(n))
	case *ending:
		if c.dead(n, o.app) {
			c.dropEnding(o.id)
			return
		}
		c.emit(c.keptIn(n))
	case *appEntry:
		c.emit(&keptApp{app: o.name, generation: o.generation, used: o.used, at: o.purgedAt, gone: c.outlived(o)})
	case *serviceEntry:
		c.emit(&serviceSet{app: o.app, service: o.serviceFact})
	case *lostEntry:
		if c.ageOf(o.at, o.noted) > factMemory {
			c.dropLost(o)
		} else {
			c.emit(&hostLost{boot: o.boot, at: o.at, beside: o.beside})
		}
	case *actorEntry:
		if !c.isHaunted(o) && c.placed(o) == nil {
			c.unplace(o) // on a host that was lost: nothing is left to keep
			return
		}
		c.keepActor(o)
	case *reminderEntry:
		if c.dead(n, o.Actor.App) {
			c.dropReminder(o.Actor, o.ID)
			return
		}
		c.emit(c.keptIn(n))
	case *groupEntry:
		if c.deadGroup(o) {
			c.pieces = c.dropDead(o, max(c.pieces, 1))
			return
		}
		c.keepGroup(o)
	case *idBucket:
		c.keepIDs(o)
	case *past:
		c.keepPast(o)
	case *wish:
		c.emit(&wished{o.id})
	case *borrowing:
		c.emit(&o.borrowed)
	case *clearing:
		c.emit(&o.cleared)
	case *outEntry:
		c.emit(c.keptIn(n))
	}
}

// keptIn is the body of the record that keeps what can be large.
func (c *Core) keptIn(n *node) message {
	switch o := n.owner.(type) {
	case *entry:
		return c.keptOf(o)
	case *homeEntry:
		return &keptRequest{accepted: accepted{req: o.req, flow: o.flow, home: c.cfg.Partition, parents: o.parents, parentPart: o.parentPart, parentEpoch: o.parentEpoch, parentStep: o.parentStep, at: o.at, reminder: o.fired.name()}.of(o.from, c.cfg.Partition), came: o.came, phase: uint64(gone), away: true, cancelled: o.cancelled, firedBy: o.fired.of()}
	case *ending:
		return &keptRequest{accepted: accepted{req: Request{ID: o.id, Target: Target{App: o.app}}, at: o.at}, phase: uint64(gone), ended: true, outcome: *o.outcome}
	case *reminderEntry:
		return &keptReminder{o.Reminder, o.firing}
	case *outEntry:
		return &keptOut{o.to, o.n, o.payload}
	}
	return nil
}

// keptRequest is an open request, a chain that is away, or a plain outcome, in full.
type keptRequest struct {
	accepted
	order     uint64
	came      uint64 // 0 in logs of before this field
	attempt   uint32
	host      string
	grace     int64
	epoch     uint64
	phase     uint64
	cancelled bool
	among     uint32
	tried     uint32
	alone     bool
	away      bool
	ended     bool
	outcome   Outcome
	firedBy   Actor // of accepted.reminder, behind the first step
}

func (c *Core) keptOf(e *entry) *keptRequest {
	k := &keptRequest{
		accepted: accepted{
			req: e.req, flow: e.flow, home: e.home, step: e.step, parents: e.parents, parentPart: e.parentPart,
			parentEpoch: e.parentEpoch, parentStep: e.parentStep, at: e.at, reminder: e.fired.name(), due: e.due, count: e.count,
		}.of(e.from, c.cfg.Partition),
		order: e.order, came: e.came, attempt: e.attempt, host: e.host, grace: e.grace, epoch: e.epoch,
		phase: uint64(e.phase), cancelled: e.cancelled, among: e.among, tried: e.tried, alone: e.alone,
	}
	if e.step > 0 {
		k.firedBy = e.fired.of()
	}
	return k
}

// firing is that of the request; of which actor's reminder it is, records of before
// the field do not tell behind the first step.
func (k *keptRequest) firing() *firing {
	if k.reminder == "" {
		return nil
	}
	f := &firing{actor: k.firedBy, reminder: k.reminder, id: k.req.ID}
	if k.step == 0 && !k.away {
		f.actor = k.req.Target.Actor()
	}
	return f
}

func (k *keptRequest) fields(c *codec) {
	k.accepted.fields(c)
	c.u64(20, &k.order)
	c.u32(21, &k.attempt)
	c.str(22, &k.host)
	c.i64(23, &k.grace)
	c.u64(24, &k.epoch)
	c.u64(25, &k.phase)
	c.bool(26, &k.cancelled)
	c.bool(27, &k.away)
	c.bool(28, &k.ended)
	has := k.ended
	c.msg(29, &has, &k.outcome)
	c.u32(30, &k.among)
	c.u32(31, &k.tried)
	c.bool(32, &k.alone)
	has = k.firedBy.Type != ""
	c.msg(33, &has, &k.firedBy)
	c.u64(34, &k.came)
}

func (c *Core) applyKeptRequest(seq uint64, k *keptRequest) {
	id := k.req.ID
	switch {
	case k.ended:
		if x := c.endings[id]; x != nil {
			c.keep.placeEnding(&x.node, seq, x)
			return
		}
		c.keepEnding(seq, id, k.req.Target.App, &k.outcome, k.at)
		c.ended.add(c, id, seq)
	case k.away:
		h := c.homes[id]
		if h == nil {
			h = &homeEntry{}
		}
		h.came = cmp.Or(k.came, h.came, seq)
		// In a trimmed log a step that came home and left again looks like the
		// first one, and has neither key nor parents.
		before := h.from
		c.dropFiring(h.fired)
		h.fired = k.firing()
		h.req, h.flow, h.parents, h.at, h.from = k.req, k.flow, k.parents, k.at, k.life(c.cfg.Partition)
		h.cancelled, h.parentPart, h.parentEpoch, h.parentStep = k.cancelled, k.parentPart, k.parentEpoch, k.parentStep
		c.addHome(h)
		c.tellEnded(before)
		c.keep.place(&h.node, seq, h)
	default:
		if e := c.entries[id]; e != nil {
			c.keep.place(&e.node, seq, e)
			e.bodyAt = seq
			c.catchUp(e, k)
			return
		}
		e := &entry{
			req: k.req, flow: k.flow, home: k.home, parents: k.parents, parentPart: k.parentPart,
			parentEpoch: k.parentEpoch, parentStep: k.parentStep, at: k.at, order: k.order, came: cmp.Or(k.came, k.order), step: k.step, fired: k.firing(),
			due: k.due, count: k.count, from: k.life(c.cfg.Partition), attempt: k.attempt, host: k.host, grace: k.grace,
			epoch: k.epoch, phase: phase(k.phase), cancelled: k.cancelled, among: k.among, tried: k.tried, alone: k.alone,
		}
		c.addEntry(seq, e)
		if e.phase == running {
			h := c.host(e.host)
			h.take(e)
			h.grace = max(h.grace, e.grace)
			c.Counts.Running++
		} else if e.phase == stopped && !e.req.Target.IsActor() {
			c.parking(componentOf(e.req.Target)).resting++
		}
	}
}

// catchUp brings a fold to what the owner knew without a record: that an
// attempt has stopped, or that the time of a delayed request has come.
func (c *Core) catchUp(e *entry, k *keptRequest) {
	switch p := phase(k.phase); {
	case e.phase == running && p == stopped:
		c.takeOff(e)
		c.stop(e, company{})
		e.among, e.tried, e.alone = k.among, k.tried, k.alone
	case e.phase == stopped && p == stopped: // a loss has come between
		e.among, e.tried, e.alone = k.among, k.tried, k.alone
	case e.phase == delayed && p == queued:
		e.phase = queued
		c.place(e)
	}
}

// keptActor: where an actor is placed; many zombies come in several records.
type keptActor struct {
	actor   Actor
	host    string
	zombies []zombie
	stale   bool
	more    bool // another record before it has the first zombies
	rest    bool // another record behind it has the last zombies: it counts with that one
}

func (k *keptActor) fields(c *codec) {
	has := true
	c.msg(1, &has, &k.actor)
	c.str(2, &k.host)
	list(c, 3, &k.zombies)
	c.bool(4, &k.stale)
	c.bool(5, &k.more)
	c.bool(6, &k.rest)
}

func (z *zombie) bytes() int { return len(z.id) + len(z.host) + 16 }

func (c *Core) keepActor(a *actorEntry) {
	stale := c.isStale(a)
	parts := pieces(slices.Clone(a.zombies), func(z zombie) int { return z.bytes() })
	for i, part := range parts {
		c.emit(&keptActor{actor: a.actor, host: a.host, zombies: part, stale: stale, more: i > 0, rest: i < len(parts)-1})
	}
	if len(parts) == 0 {
		c.emit(&keptActor{actor: a.actor, host: a.host, stale: stale})
	}
}

func (c *Core) applyKeptActor(seq uint64, k *keptActor) {
	if !k.more {
		c.keptFrom, c.keptZombies = seq, nil
	}
	c.keptZombies = append(c.keptZombies, k.zombies...)
	if k.rest {
		return // a crash may have cut off what is behind
	}
	a := c.actorEntry(k.actor)
	// The owner may have known without a record that some have ended.
	c.exorcise(a, func(zombie) bool { return true })
	for _, z := range c.keptZombies {
		c.haunt(a, z)
	}
	c.keptZombies = nil
	if k.host != "" {
		asking, idle := a.asking, a.idle
		c.placeActor(a, k.host, c.keptFrom) // all its records are needed
		a.asking, a.idle = asking, idle
	}
	a.stale = k.stale
}

type keptReminder struct {
	r      Reminder
	firing ID
}

func (k *keptReminder) fields(c *codec) {
	has := true
	c.msg(1, &has, &k.r)
	c.id(2, &k.firing)
}

func (c *Core) applyKeptReminder(seq uint64, k *keptReminder) {
	if x := c.reminder(k.r.Actor, k.r.ID); x != nil {
		c.keep.place(&x.node, seq, x)
		return
	}
	c.applyReminderSet(seq, k.r)
	if !k.firing.IsZero() {
		x := c.reminders[k.r.Actor].find(k.r.ID)
		x.firing = k.firing
		c.firings[k.firing] = x
	}
}

// keptGroup: a group with its members; many come in several records.
type keptGroup struct {
	members []Subscription
	next    int64
	life    uint64
	more    bool // another record before it has the first members
	rest    bool // another record behind it has the last members; unknown before this field
}

func (k *keptGroup) fields(c *codec) {
	list(c, 1, &k.members)
	c.i64(2, &k.next)
	c.u64(3, &k.life)
	c.bool(4, &k.more)
	c.bool(5, &k.rest)
}

// keepGroup keeps a piece of a group. The next Keep goes on behind it: what becomes
// of members meanwhile stands in the log behind the first record.
func (c *Core) keepGroup(g *groupEntry) {
	from := 0
	if g.keptTo != nil {
		i, found := slices.BinarySearchFunc(g.members, g.keptTo, compareMembers)
		if from = i; found {
			from++
		}
	}
	more := g.keptTo != nil
	from = min(from, len(g.members)-1) // all that was left has gone: the last one says so
	upto := min(from+max(c.pieces, 1), len(g.members))
	c.pieces -= upto - from
	g.keptTo = nil
	if upto < len(g.members) {
		g.keptTo = g.members[upto-1]
	}
	parts := pieces(slices.Clone(g.members[from:upto]), func(m *subEntry) int { return m.bytes() })
	for i, part := range parts {
		k := &keptGroup{next: g.next, life: g.life, more: more || i > 0, rest: g.keptTo != nil || i < len(parts)-1}
		for _, m := range part {
			k.members = append(k.members, m.Subscription)
		}
		c.emit(k)
	}
}

func (c *Core) applyKeptGroup(seq uint64, k *keptGroup) {
	if len(k.members) == 0 {
		return
	}
	// In a trimmed log some members may stand behind the cut and some before it.
	for _, s := range k.members {
		if !c.isMember(&s) {
			c.applySubscribed(seq, s)
		}
	}
	g := c.groups[c.groupKey(&k.members[0])]
	g.next, g.life = k.next, k.life
	if !k.more {
		g.moving.begin(&c.keep, seq)
	}
	if !k.rest { // all records of the group are needed from the first one on
		g.moving.end(&c.keep, &g.node, g)
	}
}

// isMember tells a subscription that is known as it is.
func (c *Core) isMember(s *Subscription) bool {
	g := c.memberOf[memberKey{s.Actor, s.ID}]
	if g == nil || g.key != c.groupKey(s) || c.deadGroup(g) {
		return false
	}
	i, found := slices.BinarySearchFunc(g.members, &subEntry{*s}, compareMembers)
	return found && g.members[i].Subscription == *s
}

// idsInRecord bounds a record of ids: 16 bytes each.
const idsInRecord = 4096

// idsInPiece is how many ids are kept as soon as a member of a group.
const idsInPiece = 16

// keepIDs keeps some of the ids of a bucket; the next Keep goes on. Those that come
// meanwhile stand in the log behind the first record.
func (c *Core) keepIDs(b *idBucket) {
	if b.left == nil {
		b.left = b.all()
		b.moving.begin(&c.keep, c.seq+1)
	}
	for len(b.left) > 0 && c.pieces > 0 {
		part := b.left[:min(idsInRecord, len(b.left))]
		c.emit(&keptIDs{part})
		b.left = b.left[len(part):]
		c.pieces -= len(part) / idsInPiece
	}
	if len(b.left) == 0 {
		b.left = nil
		b.moving.end(&c.keep, &b.node, b)
	}
}

type keptIDs struct{ ids []ID }

func (k *keptIDs) fields(c *codec) { c.ids(1, &k.ids) }

type keptOut struct {
	to      uint16
	n       uint64
	payload []byte
}

func (k *keptOut) fields(c *codec) {
	c.u16(1, &k.to)
	c.u64(2, &k.n)
	c.bytes(3, &k.payload)
}

func (c *Core) applyKeptOut(seq uint64, k *keptOut) {
	o := c.outboxTo(k.to)
	e := o.pending[k.n]
	if e == nil {
		e = &outEntry{to: k.to, n: k.n, payload: k.payload}
		o.add(e)
	}
	c.keep.place(&e.node, seq, e)
}
