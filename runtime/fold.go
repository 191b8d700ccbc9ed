package runtime

import "sort"

// A record is valid or void for every reader alike: a claim is valid when its
// epoch is greater than all before it; any other record is valid when it
// belongs to the current claim and its sequence is the last one plus one. So
// two gateways that write to one log at once do no harm, and a batch that
// lands twice counts once.

// Fold applies one record of the log. It reports whether the record was valid.
// An error means that this partition must not be owned by this version.
func (c *Core) Fold(b []byte) (valid bool, err error) {
	r, err := decodeRecord(&c.tables, b)
	switch {
	case r == nil: // not a record at all; what it may have stood for is missed by its number
		c.Counts.Foreign++
		return false, nil
	case err != nil && !c.follows(r):
		c.missed(r)
		return false, nil // whatever it is, it does not count
	case err != nil:
		return false, err
	}
	switch body := r.Body.(type) {
	case *claimed:
		if r.Epoch <= c.epoch {
			return false, nil
		}
		if err := c.sameMesh(body.mesh, body.partitions); err != nil {
			return false, err
		}
		if !c.sawHead && r.Epoch > 1 {
			// What a trim has left in front of its header: where this claim
			// stands in the sequence is not known before the header says so.
			c.skipped = max(c.skipped, r.Epoch)
			return false, nil
		}
		if !c.sawHead {
			if err := c.readable(body.level); err != nil {
				return false, err
			}
			c.level = body.level
		}
		c.termEnds()
		c.epoch, c.owner, c.sawHead = r.Epoch, r.Owner, true
		c.claimNode, c.claimAddress = body.node, body.address
		c.window, c.youngest = body.window, body.youngest
		c.seq++
		c.owned = false
		return true, nil
	case *header:
		if c.sawHead && (r.Epoch > c.epoch || r.Epoch == c.epoch && (r.Owner != c.owner || r.Seq > c.seq+1 || c.otherTerms(body))) {
			// Only the one true owner of a term writes headers, and without gaps, so
			// the reader began at a void record: a header of a deposed owner whose
			// successor's claim is cut off, a first claim that did not count, or
			// something that landed a second time, long after its first. Whatever
			// is live is behind this one. The number alone does not tell: those of the
			// deposed owner go on while his successors write, and may be ahead or meet.
			n := c.anew + 1
			*c = *New(c.cfg)
			c.anew = n
		}
		if !c.sawHead { // the log has been trimmed up to here
			if r.Epoch < c.skipped {
				return false, nil // of an owner that was deposed before
			}
			if err := c.readable(body.level); err != nil {
				return false, err
			}
			if err := c.sameMesh(body.mesh, body.partitions); err != nil {
				return false, err
			}
			c.epoch, c.owner, c.seq, c.sawHead, c.head = r.Epoch, r.Owner, r.Seq, true, r.Seq
			body.restore(c, r.Seq)
			return true, nil
		}
	default:
		if !c.sawHead {
			return false, nil // the rest of a trimmed round, in front of the header
		}
	}
	if !c.follows(r) {
		c.missed(r)
		return false, nil
	}
	if up, ok := r.Body.(*raised); ok {
		if err := c.readable(up.level); err != nil {
			return false, err
		}
	}
	c.apply(r)
	return true, nil
}

// Anew is how often the fold has begun anew: all that it told before came from records
// that do not count.
func (c *Core) Anew() int { return c.anew }

// termEnds takes the term that ends here into the digest.
func (c *Core) termEnds() {
	if c.epoch > 0 {
		c.terms = max(mix(mix(mix(c.terms+c.epoch)+c.owner)+c.seq), 1)
	}
}

// otherTerms: the header's owner has read other terms in front of his own.
func (c *Core) otherTerms(h *header) bool { return h.terms != 0 && h.terms != c.terms }

// follows tells a record of the current claim that is the next one.
func (c *Core) follows(r *Record) bool {
	return r.Epoch == c.epoch && r.Owner == c.owner && r.Seq == c.seq+1
}

// missed notes that a record of the current claim stands behind a gap.
func (c *Core) missed(r *Record) {
	if c.gap == 0 && r.Epoch == c.epoch && r.Owner == c.owner && r.Seq > c.seq+1 {
		c.gap = c.seq + 1
	}
}

// readable refuses a log that may hold what this version does not understand.
func (c *Core) readable(level int) error {
	if level <= c.supports() {
		return nil
	}
	return Errorf(CodeNewerFormat, "the log is at level %d, this version reads up to level %d", level, c.supports())
}

func (c *Core) supports() int {
	if c.cfg.Level == 0 {
		return Level
	}
	return c.cfg.Level
}

func (c *Core) sameMesh(mesh string, partitions int) error {
	if mesh == c.cfg.Mesh && partitions == c.cfg.Partitions {
		return nil
	}
	return Errorf(CodeForeign, "the log belongs to mesh %q with %d partitions, not to %q with %d", mesh, partitions, c.cfg.Mesh, c.cfg.Partitions)
}

// apply changes the state by a valid record. It decides nothing; the only
// effects it may cause are answers to waiters, who exist in memory only.
func (c *Core) apply(r *Record) {
	c.seq = r.Seq
	if r.ViaN != 0 {
		c.in[r.ViaFrom] = r.ViaN
	}
	for i := range r.Out {
		c.applyOut(r.Seq, &r.Out[i])
	}
	switch b := r.Body.(type) {
	case *accepted:
		c.applyAccepted(r.Seq, b)
	case *started:
		c.applyStarted(r, b)
	case *completed:
		c.applyCompleted(r, b)
	case *continued:
		c.applyContinued(r.Seq, b)
	case *unplaced:
		if a := c.actors[b.actor]; a != nil {
			c.unplace(a)
			c.exorcise(a, func(zombie) bool { return true }) // a host deactivates what runs nothing
			c.dropActor(a)
		}
	case *hostLost:
		c.applyHostLost(r.Seq, b)
	case *stateChanged:
		c.applyState(r.Seq, b)
		c.applyDone(r.Seq, b.actor.App, &b.done)
	case *reminderSet:
		c.applyReminderSet(r.Seq, b.r)
		c.applyDone(r.Seq, b.r.Actor.App, &b.done)
	case *reminderGone:
		c.applyDone(r.Seq, b.actor.App, &b.done)
		for _, id := range b.ids {
			c.dropReminder(b.actor, id)
		}
	case *subscribed:
		c.applySubscribed(r.Seq, b.s)
		c.applyDone(r.Seq, b.s.Actor.App, &b.done)
	case *unsubscribed:
		c.applyDone(r.Seq, b.actor.App, &b.done)
		for _, id := range b.ids {
			c.dropSubscription(b.actor, id)
		}
	case *appChanged:
		c.applyApp(r.Seq, b)
		c.applyDone(r.Seq, b.app, &b.done)
	case *fenced:
		if b.below > c.fences[b.partition] {
			c.fences[b.partition] = b.below
		}
	case *cancelled:
		if e := c.entries[b.id]; e != nil {
			e.cancelled = true
		}
		if h := c.homes[b.id]; h != nil {
			h.cancelled = true
		}
	case *keptPast:
		c.setPast(r.Seq, pastKey{b.id, b.step}, b.attempt)
	case *purged:
		c.applyPurged(r.Seq, b)
	case *wished:
		c.applyWished(r.Seq, b.id)
	case *borrowed:
		c.applyBorrowed(r.Seq, b)
	case *waived:
		c.applyWaived(b)
	case *cleared:
		c.applyCleared(r.Seq, b)
	case *delivered:
		if g := c.groups[b.group]; g != nil {
			g.next = b.next
		}
		if !b.copy.IsZero() {
			c.ended.add(c, b.copy, r.Seq)
		}
	case *keptRequest:
		c.applyKeptRequest(r.Seq, b)
	case *keptActor:
		c.applyKeptActor(r.Seq, b)
	case *keptReminder:
		c.applyKeptReminder(r.Seq, b)
	case *keptGroup:
		c.applyKeptGroup(r.Seq, b)
	case *keptIDs:
		for _, id := range b.ids {
			c.ended.add(c, id, r.Seq)
		}
	case *keptOut:
		c.applyKeptOut(r.Seq, b)
	case *released:
		for _, id := range b.ids {
			c.dropEnding(id)
			c.dropClearing(id)
		}
	case *raised:
		before := c.LogLevel()
		c.level = b.level
		c.listFacts(r.Seq)
		if before < 2 {
			c.splitGroups()
		}
	case *keptApp:
		c.applyKeptApp(r.Seq, b)
	case *serviceSet:
		c.applyService(r.Seq, b.app, b.service, b.gone)
		c.applyDone(r.Seq, b.app, &b.done)
	case *header:
		c.floor, c.terms = max(c.floor, b.floorAt(r.Seq)), b.terms
	case *received, *alive, *claimed:
	}
}

func (c *Core) applyAccepted(seq uint64, b *accepted) {
	e := &entry{
		req: b.req, flow: b.flow, home: b.home, parents: b.parents, parentPart: b.parentPart,
		parentEpoch: b.parentEpoch, parentStep: b.parentStep, at: b.at, order: seq, came: seq, step: b.step,
		due: b.due, count: b.count, from: b.life(c.cfg.Partition),
	}
	e.phase = queued
	if b.req.NotBefore > b.at && b.step == 0 {
		e.phase = delayed
	}
	if b.reminder != "" {
		e.fired = &firing{actor: b.req.Target.Actor(), reminder: b.reminder, id: b.req.ID}
	}
	c.addEntry(seq, e)
	if b.reminder != "" {
		c.applyFired(b)
	}
	if b.group != "" && b.groupPart == 0 {
		if g := c.groups[b.group]; g != nil && b.offset+1 > g.next {
			g.next = b.offset + 1
		}
	}
}

// addEntry puts an entry into every index that it belongs to.
func (c *Core) addEntry(seq uint64, e *entry) {
	if old := c.entries[e.req.ID]; old != nil {
		c.dropEntry(old)
	}
	c.entries[e.req.ID] = e
	c.weigh(seq, e)
	c.want(e, 1)
	c.keep.place(&e.node, seq, e)
	e.flowAt = len(c.flows[e.flow])
	c.flows[e.flow] = append(c.flows[e.flow], e)
	c.app(e.req.Target.App).open++
	e.seat.e = e
	c.enrol(e.req.Target.App, &e.seat)
	if len(e.parents) > 0 && e.home == c.cfg.Partition && e.parentPart != c.cfg.Partition {
		e.abroad = c.callAbroad(e.parentPart, &seat{e: e})
	}
	c.use(e.req.Target.App)
	if boot := e.req.Boot; boot != "" && e.req.CancelWithCaller {
		r := c.cancels[boot]
		if r == nil {
			r = &roll{}
			c.cancels[boot] = r
		}
		c.enrolled++
		e.withBoot = &seat{e: e}
		r.add(e.withBoot, c.enrolled)
	}
	if e.req.Key != "" && e.home == c.cfg.Partition {
		c.keys[keyOf(&e.req)] = e.req.ID
	}
	for _, p := range e.parents {
		c.addChild(p, e.req.ID, e.parentStep)
	}
	c.tellBegun(e.from)
	e.lent = len(c.borrowers[e.req.ID])
	if e.phase != delayed {
		c.place(e)
	}
	c.addFiring(e.fired)
}

// want counts what is for a component.
func (c *Core) want(e *entry, more int) {
	comp := componentOf(e.req.Target)
	if c.wanted[comp] += more; c.wanted[comp] == 0 {
		delete(c.wanted, comp)
	}
}

// place puts the entry into the mailbox of its target, by its phase.
func (c *Core) place(e *entry) {
	t := e.req.Target
	if !t.IsActor() {
		if e.phase == queued {
			c.park(e)
		}
		return
	}
	a := c.actorEntry(t.Actor())
	switch {
	case e.lockHolder():
		a.flow = e.flow
		if e.phase == running {
			a.running++
		} else {
			a.resting.add(e)
		}
		if e.phase == running && e.host != "" && a.host == "" {
			c.placeActor(a, e.host, e.base)
		}
	default:
		a.enqueue(e)
	}
	c.workChanged(a, 1)
	a.idle = false
}

// leave takes the entry out of the mailbox and off its host.
func (c *Core) leave(e *entry) {
	if e.phase == running {
		c.takeOff(e)
		c.Counts.Running--
	}
	if e.lined != nil || !e.req.Target.IsActor() {
		c.unpark(e)
	}
	if !e.req.Target.IsActor() {
		return
	}
	a := c.actors[e.req.Target.Actor()]
	if a == nil {
		return
	}
	before := a.work()
	switch e.phase {
	case queued:
		a.dequeue(e)
	case running:
		a.running--
	case held, stopped:
		a.resting.remove(e)
		a.unready(e)
	}
	c.workChanged(a, a.work()-before)
}

// dropEntry removes the entry from every index; its waiters are the caller's business.
func (c *Core) dropEntry(e *entry) {
	c.dropFiring(e.fired)
	c.leave(e)
	c.unweigh(e)
	c.want(e, -1)
	e.phase = gone
	delete(c.entries, e.req.ID)
	c.keep.remove(&e.node)
	c.timers.remove(&e.timer)
	c.walls.remove(&e.wall)
	fl := c.flows[e.flow]
	last := fl[len(fl)-1]
	fl[e.flowAt], last.flowAt = last, e.flowAt
	fl[len(fl)-1] = nil
	if fl = fl[:len(fl)-1]; len(fl) == 0 {
		delete(c.flows, e.flow)
	} else {
		c.flows[e.flow] = fl
	}
	a := c.app(e.req.Target.App)
	a.open--
	c.leaveRoll(a, &e.seat)
	if e.abroad != nil {
		c.abroad[e.parentPart].remove(e.abroad)
	}
	a.links -= len(e.children)
	c.dropApp(e.req.Target.App)
	if e.withBoot != nil {
		r := c.cancels[e.req.Boot]
		if r.remove(e.withBoot); r.first == nil {
			delete(c.cancels, e.req.Boot)
		}
		e.withBoot = nil
	}
	c.tellEnded(e.from)
}

func (c *Core) applyStarted(r *Record, b *started) {
	if b.actor.Type != "" {
		c.placeActor(c.actorEntry(b.actor), b.host, r.Seq)
	}
	if b.reminder != "" {
		c.applyDueTimes(b)
	}
	e := c.entries[b.id]
	if e == nil || e.step != b.step {
		return
	}
	c.leave(e)
	e.attempt, e.host, e.grace, e.epoch, e.phase = b.attempt, b.host, b.grace, r.Epoch, running
	e.among, e.tried, e.alone, e.void, e.blamed, e.began = b.among, b.tried, false, false, false, r.Seq
	if b.count > 0 {
		e.due, e.count = b.due, b.count
	}
	c.timers.remove(&e.timer)
	h := c.host(b.host)
	h.take(e)
	h.grace = max(h.grace, b.grace)
	c.Counts.Running++
	if e.req.Target.IsActor() {
		a := c.actorEntry(e.req.Target.Actor())
		a.flow = e.flow
		a.running++
		c.workChanged(a, 1)
		a.idle = false
	}
}

func (c *Core) placeActor(a *actorEntry, boot string, seq uint64) {
	if a.host != boot {
		c.unplace(a)
		a.host = boot
		c.host(boot).place(a)
		c.holds(a.actor.App, 1)
		c.Counts.ActiveActors++
	}
	c.keep.place(&a.node, seq, a)
}

func (c *Core) unplace(a *actorEntry) {
	if a.host != "" {
		if h := c.hosts[a.host]; h != nil {
			h.displace(a)
		}
		c.holds(a.actor.App, -1)
		a.host = ""
		c.Counts.ActiveActors--
	}
	c.keep.remove(&a.node)
	a.asking, a.stale, a.idle = 0, false, false
}

func (c *Core) applyCompleted(r *Record, b *completed) {
	c.setPast(r.Seq, pastKey{b.id, b.step}, b.replaced)
	c.applyWithdrawn(r.Seq, b.change)
	e, h := c.entries[b.id], c.homes[b.id]
	var waiters []any
	var req *Request
	if e != nil {
		waiters, req = e.waiters, &e.req
		c.dropEntry(e)
		c.childEnded(e.parents, b.id)
	}
	if b.unplaced || b.removed {
		if a := c.actors[b.actor]; a != nil {
			c.unplace(a)
		}
		if b.removed {
			c.clearState(r.Seq, b.actor, c.generationOf(b.actor.App, b.gen))
		}
	}
	if e != nil && e.req.Target.IsActor() {
		c.dropActor(c.actorEntry(e.req.Target.Actor()))
	}
	if len(r.Out) > 0 { // the outcome goes home
		return
	}
	if h != nil {
		waiters, req = append(waiters, h.waiters...), &h.req
		c.dropHome(h)
	}
	c.firingEnded(b.id)
	c.returned(b.id)
	c.ended.add(c, b.id, r.Seq)
	c.Counts.Completed++
	if req != nil {
		c.dropKey(req)
	}
	if b.none {
		for _, w := range waiters {
			c.refuse(w, &Error{CodeOutcomeNotKept, "the request completed, its outcome was not kept", b.id})
		}
		return
	}
	if b.storeTTL == 0 {
		c.keepEnding(r.Seq, b.id, b.app, &b.outcome, b.at)
	} else if b.storesOf(req) {
		c.storeOutcome(r.Seq, b)
	}
	for _, w := range waiters {
		c.reply(w, &b.outcome, b.id)
	}
}

func (c *Core) applyContinued(seq uint64, b *continued) {
	c.setPast(seq, pastKey{b.id, b.step - 1}, b.replaced)
	e := c.entries[b.id]
	if e == nil {
		return
	}
	if e.req.Key != "" {
		e.req.sum, e.req.first, e.summed = e.req.bodySum(), e.req.keyTarget(), false
	}
	if b.away {
		t := e.req.Target
		waiters := e.waiters
		h := &homeEntry{req: e.req, flow: e.flow, parents: e.parents, parentPart: e.parentPart, parentEpoch: e.parentEpoch, parentStep: e.parentStep, at: e.at, came: e.came, from: e.from, fired: e.fired, cancelled: e.cancelled, waiters: waiters, answered: e.answered}
		isHome := e.home == c.cfg.Partition && c.homes[b.id] == nil
		if isHome {
			c.keep.replace(&e.node, &h.node, h) // the record of acceptance stays needed
			h.seat.h = h
			c.app(t.App).roll.replace(&e.seat, &h.seat)
			if h.abroad, e.abroad = e.abroad, nil; h.abroad != nil {
				h.abroad.e, h.abroad.h = nil, h
			}
			h.req.Body, h.req.Header = nil, nil
			c.tellBegun(h.from) // before the entry ends: the work goes on
		}
		c.dropEntry(e)
		if t.IsActor() {
			c.dropActor(c.actorEntry(t.Actor()))
		}
		if h := c.homes[b.id]; h != nil && !isHome { // it had come home and leaves again
			h.waiters = append(h.waiters, waiters...)
		}
		if isHome {
			c.addHome(h)
			c.tellEnded(h.from)
		}
		return
	}
	old := e.req.Target
	c.leave(e)
	c.unweigh(e)
	c.want(e, -1)
	c.app(old.App).links -= len(e.children)
	e.children = nil // of the step that has ended
	e.step, e.attempt, e.host = b.step, 0, ""
	e.among, e.tried, e.alone, e.blamed = 0, 0, false, false
	e.req.Target, e.req.Method, e.req.Path, e.req.Header, e.req.Body = b.target, b.method, b.path, b.header, b.body
	c.weigh(seq, e)
	c.want(e, 1)
	e.phase, e.order = queued, seq
	e.retryAt = 0
	if b.keepLock {
		e.phase = held
	}
	c.place(e)
	if old.IsActor() && old != b.target {
		c.dropActor(c.actorEntry(old.Actor()))
	}
}

func (c *Core) applyHostLost(seq uint64, b *hostLost) {
	c.noteLost(seq, b.boot, b.at, b.beside)
	h := c.hosts[b.boot]
	if h == nil {
		return
	}
	for _, x := range b.halts {
		if e := c.entries[x.id]; e != nil && e.phase == running && e.host == b.boot {
			c.takeOff(e)
			c.stop(e, company{})
			e.among, e.alone = x.among, x.alone
		}
	}
	for _, e := range h.running { // their lines put them in order
		c.stop(e, b.beside)
		e.alone = e.alone && (c.owned || !b.more)
		e.given = 0
	}
	c.removeOffers(h)
	delete(c.hosts, b.boot)
	c.losing = append(c.losing, h)
	for !c.owned && len(c.losing) > 0 {
		c.loseSome(pieceSize)
	}
}

// takeOff takes a running entry off its host, which may have room again.
func (c *Core) takeOff(e *entry) {
	h := c.hosts[e.host]
	if h != nil && h.release(e) && (h.full || e.suspect()) {
		h.full = false
		c.touchOffers(h)
	}
}

func (c *Core) host(boot string) *hostEntry {
	h := c.hosts[boot]
	if h == nil {
		h = &hostEntry{boot: boot, running: map[ID]*entry{}, flows: map[ID]flowCount{}, contact: c.now.Mono}
		c.hosts[boot] = h
	}
	return h
}

// actorsOf are those of one app, sorted: the others cost a look, no more.
func actorsOf[V any](m map[Actor]V, app string) []Actor {
	var as []Actor
	for a := range m {
		if a.App == app {
			as = append(as, a)
		}
	}
	sort.Slice(as, func(i, j int) bool { return lessActor(as[i], as[j]) })
	return as
}

func sortedActors[V any](m map[Actor]V) []Actor {
	as := make([]Actor, 0, len(m))
	for a := range m {
		as = append(as, a)
	}
	sort.Slice(as, func(i, j int) bool { return lessActor(as[i], as[j]) })
	return as
}

func lessActor(a, b Actor) bool {
	if a.App != b.App {
		return a.App < b.App
	}
	if a.Type != b.Type {
		return a.Type < b.Type
	}
	return a.ID < b.ID
}
