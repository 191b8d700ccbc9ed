package runtime

import (
	"slices"
	"sort"
)

// lostMargin is added to a host's grace before it is counted lost.
const lostMargin = 1000

// HostJoined: a boot has attached (again) and says what it runs and holds.
// The join of this partition only; the reply's Err is CodeHostLost when the
// boot has been counted lost.
type HostJoined struct {
	Info   HostInfo
	Join   JoinAnswer
	Term   uint64 // of the owner that the host was asked by; 0 for whichever decides
	Waiter any
}

func (in *HostJoined) decide(c *Core) {
	boot := in.Info.Boot
	if in.Term != 0 && in.Term != c.epoch {
		// The answers that came in front of it may have gone down with the term, and
		// what it does not name would be taken for what has never arrived.
		c.refuse(in.Waiter, Errorf(CodeNotOwner, "the join of host %s is for another term", boot))
		return
	}
	if c.isLost(boot) {
		c.refuse(in.Waiter, Errorf(CodeHostLost, "host %s was counted as lost", boot))
		return
	}
	h := c.host(boot)
	if in.Info.Before(&h.info) {
		c.refuse(in.Waiter, Errorf(CodeUnavailable, "the host has attached again since"))
		return
	}
	first, silent := !h.known, !h.linked
	if first {
		h.joined = c.now.Mono
	}
	c.removeOffers(h)
	h.info, h.known, h.linked, h.contact = in.Info, true, true, c.now.Mono
	if in.Info.Grace > h.grace {
		h.grace = in.Info.Grace
	}
	c.addOffers(h)
	c.replyValue(in.Waiter, true)

	for i := range in.Join.Finished {
		c.answered(boot, &in.Join.Finished[i])
	}
	r := &review{h: h, runs: make(map[ID]Attempt, len(in.Join.Running)), beside: h.company(h.stops.last), instances: in.Join.Instances, first: first}
	for _, a := range in.Join.Running {
		if last, ok := r.runs[a.ID]; !ok || last.before(a) {
			r.runs[a.ID] = a
		}
	}
	c.reviewJoin(r, silent)
	c.touchOffers(h)
}

func sortedIDs[V any](m map[ID]V) []ID {
	ids := make([]ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	sortIDs(ids)
	return ids
}

func sortIDs(ids []ID) {
	slices.SortFunc(ids, compareIDs)
}

func (c *Core) componentsOf(i HostInfo) []component {
	var cs []component
	if i.Service != "" {
		cs = append(cs, component{i.App, i.Service, false})
	}
	for _, t := range i.Actors {
		cs = append(cs, component{i.App, t, true})
	}
	return cs
}

// willing tells a host that may be given new work.
func (h *hostEntry) willing() bool { return !h.info.Draining && !h.info.Frozen }

// takers are the hosts that offer a component and may be given new work.
func (c *Core) takers(comp component) []*hostEntry {
	hs := c.offers[comp]
	for i, h := range hs {
		if h.willing() {
			continue
		}
		free := slices.Clone(hs[:i])
		for _, h := range hs[i+1:] {
			if h.willing() {
				free = append(free, h)
			}
		}
		return free
	}
	return hs
}

func (c *Core) addOffers(h *hostEntry) {
	if !h.linked {
		return
	}
	for _, comp := range c.componentsOf(h.info) {
		hs := c.offers[comp]
		i := sort.Search(len(hs), func(i int) bool { return hs[i].boot >= h.boot })
		c.offers[comp] = slices.Insert(hs, i, h)
	}
}

func (c *Core) removeOffers(h *hostEntry) {
	for _, comp := range c.componentsOf(h.info) {
		hs := c.offers[comp]
		for i := range hs {
			if hs[i] == h {
				hs = append(append([]*hostEntry(nil), hs[:i]...), hs[i+1:]...)
				break
			}
		}
		if len(hs) == 0 {
			delete(c.offers, comp)
		} else {
			c.offers[comp] = hs
		}
	}
}

func (c *Core) touchOffers(h *hostEntry) {
	for _, comp := range c.componentsOf(h.info) {
		if c.parked[comp] != nil {
			c.touchParked(comp)
		}
	}
}

// HostChanged replaces what is known of a joined boot.
type HostChanged struct{ Info HostInfo }

func (in *HostChanged) decide(c *Core) {
	h := c.hosts[in.Info.Boot]
	if h == nil || !h.known || in.Info.Before(&h.info) {
		return
	}
	h.contact = c.now.Mono
	drained, frozen, free := h.info.Draining, h.info.Frozen, h.willing()
	switch same := in.Info.sameOffer(h.info); {
	case !same:
		c.removeOffers(h)
		h.info = in.Info
		c.addOffers(h)
		c.touchOffers(h)
	case in.Info.Draining == drained && in.Info.Frozen == frozen:
		return
	default:
		h.info = in.Info
		if h.willing() && !free {
			c.touchOffers(h)
		}
	}
	if h.info.Draining && !drained || frozen && !h.info.Frozen {
		c.reviewAll(h)
	}
}

// HostUnlinked: the stream of an attachment (0 for whichever) is broken. This proves
// nothing; nothing new is sent there.
type HostUnlinked struct {
	Boot       string
	Attachment uint64
}

func (in *HostUnlinked) decide(c *Core) {
	over := HostInfo{Attachment: in.Attachment}
	if h := c.hosts[in.Boot]; h != nil && !over.Before(&h.info) {
		c.removeOffers(h)
		h.linked = false
	}
}

// HostDown is proof that the boot has stopped.
type HostDown struct{ Boot, Reason string }

func (in *HostDown) decide(c *Core) {
	if !c.isLost(in.Boot) {
		c.loseHost(in.Boot, clip(in.Reason, 200), true) // it stands in the log of every partition
	}
}

// loseHost records the loss and lets the host's work be retried.
func (c *Core) loseHost(boot, reason string, proven bool) {
	h := c.hosts[boot]
	if h == nil {
		// Nothing here was ever given to it: remembering it in the log is not
		// needed for safety, but a late join must be refused all the same.
		if c.cancels[boot] == nil {
			c.noteStranger(boot)
			return
		}
		c.emit(&hostLost{boot: boot, reason: reason, at: c.now.Wall}) // it is why they end
		c.withdrawCallsOf(boot)
		return
	}
	for _, e := range h.running {
		e.shaken = true
	}
	h.halted = heapify(h.running, func(a, b *entry) bool { return a.order < b.order })
	halts, more := c.haltsOn(h)
	c.emit(&hostLost{boot, reason, c.now.Wall, h.company(h.stops.since(c.now.Mono-hearsay, 0)), halts, more})
	c.effect(Effect{Kind: LostHost, Boot: boot, Value: HostEnd{h.info.App, h.info.Name, reason, proven}})
	c.nextPiece()
	c.withdrawCallsOf(boot)
}

// withdrawCallsOf ends what the lost boot asked to be withdrawn with it. What would
// start before its turn ends then: see callerGone.
func (c *Core) withdrawCallsOf(boot string) {
	if c.cancels[boot] != nil {
		c.withdrawAll(&withdrawal{boot: boot, upto: c.enrolled, code: CodeCallerGone, why: callerHasEnded})
	}
}

const callerHasEnded = "the caller has ended"

// callerGone ends a request that is to be withdrawn with its caller, which was lost.
func (c *Core) callerGone(e *entry) bool {
	if !e.req.CancelWithCaller || e.hasStarted() || e.req.Boot == "" || !c.isLost(e.req.Boot) {
		return false
	}
	c.budget--
	c.end(e, Errorf(CodeCallerGone, callerHasEnded).Outcome())
	return true
}

// interrupted sets the back-off: attempts 1 to 3 follow at once, later ones
// after 1 s doubling to 60 s, so that a method which kills its process is no
// hot loop, whatever asked for it. A jitter of half of it either way, made from
// id and attempt, keeps requests that were interrupted together apart.
func (c *Core) interrupted(e *entry) {
	c.backOff(e)
	c.inquire(e)
	c.touchTarget(e)
}

func (c *Core) backOff(e *entry) {
	if e.attempt >= lastFreeAttempt && !c.exhausted(e) {
		back := min(int64(1000)<<min(e.attempt-lastFreeAttempt, 6), 60_000)
		e.retryAt = c.now.Mono + back/2 + int64(hash64(string(e.req.ID[:]), utoa(uint64(e.attempt)))%uint64(back))
		c.timers.set(&e.timer, e, e.retryAt)
	}
}

// exhausted: the attempts that count are counted in the log, so work that kills
// its gateway reaches the limit too.
func (c *Core) exhausted(e *entry) bool {
	return c.cfg.MaxAttempts > 0 && int(c.tries(e)) >= c.cfg.MaxAttempts
}

// giveUp ends an interrupted request that gets no further attempt, once the
// calls of its last one have ended.
func (c *Core) giveUp(e *entry) bool { return c.giveUpBy(e, ID{}) }

func (c *Core) giveUpBy(e *entry, change ID) bool {
	if e.phase != stopped || len(e.children) > 0 || c.fencing(e) {
		return false
	}
	switch {
	case e.cancelled:
		c.endBy(e, (&Error{CodeCancelled, "the request was cancelled", e.req.ID}).Outcome(), change)
	case c.exhausted(e):
		c.end(e, (&Error{CodeBadAnswer, "the request was attempted " + utoa(uint64(e.attempt)) + " times without a complete answer", e.req.ID}).Outcome())
	default:
		return false
	}
	return true
}

// checkHosts counts hosts lost whose last contact is too long ago. Hearing is
// the part of that time in which signs of life may still wait to be heard.
func (c *Core) checkHosts(hearing int64) {
	var due []string // of thousands few
	for boot, h := range c.hosts {
		if h.void() || len(h.idle) > 0 || c.isSilent(h, hearing) {
			due = append(due, boot)
		}
	}
	slices.Sort(due)
	for _, boot := range due {
		switch h := c.hosts[boot]; {
		case h.void():
			delete(c.hosts, boot)
		case !c.isSilent(h, hearing):
			c.collectIdle(h)
		case c.pieces > 0: // else the next look counts it lost
			c.loseHost(boot, "no sign of life", false)
		}
	}
}

// void tells that only records named the host, and nothing of it is left.
func (h *hostEntry) void() bool { return len(h.running) == 0 && len(h.placed) == 0 && !h.known }

// isSilent tells a host that is to be counted lost.
func (c *Core) isSilent(h *hostEntry, hearing int64) bool {
	grace := max(h.grace, c.cfg.Lease)
	if !h.known {
		grace += lostMargin // counted from the claim of this owner
	}
	return c.now.Mono-h.contact > grace+lostMargin+hearing
}

// Answered is the end of an attempt, as its host reports it.
type Answered struct {
	Boot   string
	Answer Answer
}

func (in *Answered) decide(c *Core) {
	if h := c.hosts[in.Boot]; h != nil {
		h.contact = c.now.Mono
	}
	c.answered(in.Boot, &in.Answer)
}

func (c *Core) answered(boot string, a *Answer) {
	taken := func() {
		c.effect(Effect{Kind: ToHost, Boot: boot, Msg: &Taken{Attempts: []Attempt{a.Attempt}}})
	}
	e := c.entries[a.Attempt.ID]
	current := e != nil && e.host == boot && e.step == a.Attempt.Step && e.attempt == a.Attempt.Number
	if current && c.isPurged(e) {
		e.inside = true
		taken()
		return
	}
	if current && e.phase == stopped {
		return // no record says yet that it has ended: the host has to go on saying it
	}
	if !current || e.phase != running {
		c.zombieEnded(boot, a.Attempt)
		taken()
		return
	}
	a.Outcome = a.Outcome.ofHost()
	if a.Outcome == nil {
		// Stopped without an answer. No record: the next Started says it, and
		// until then the host keeps saying it.
		h := c.hosts[boot]
		c.stopOn(h, e, h.company(h.stops.since(0, e.began)))
		if e.epoch < c.epoch {
			e.alone = false // it may have stopped in that term, beside others
		}
		c.interrupted(e)
		return
	}
	c.finish(e, a)
	taken()
}

// overtaken lets the host forget an attempt that it had to go on reporting: the
// record that is being decided says that it has ended.
func (c *Core) overtaken(e *entry) {
	if h := c.hosts[e.host]; e.phase == stopped && h != nil && h.linked {
		c.effect(Effect{Kind: ToHost, Boot: e.host, Msg: &Taken{Attempts: []Attempt{c.attemptOf(e)}}})
	}
}

// Deactivated confirms that the actor is no longer active on the boot. It repeats
// what the host was asked (see [Deactivate]).
type Deactivated struct {
	Boot   string
	Actor  Actor
	Epoch  uint64
	Asking uint64
}

func (in *Deactivated) decide(c *Core) {
	a := c.actors[in.Actor]
	if a == nil || a.host != in.Boot {
		return
	}
	if a.asking == 0 || in.Asking != 0 && (in.Asking != a.asking || in.Epoch != c.epoch) {
		// An old confirmation: the actor may be active there again by now. One
		// that is not keeps its place, and the host activates it when needed.
		return
	}
	c.emit(&unplaced{in.Actor})
	if a := c.actors[in.Actor]; a != nil {
		c.touch(a)
	}
}

// hostForActor chooses by rendezvous hashing with bounded load: the host that
// ranks first for this actor unless it holds a quarter more than its share. When
// all others are full, the one with the fewest actors of those that hold more.
func (c *Core) hostForActor(comp component, e *entry, nested bool) *hostEntry {
	hs := c.takers(comp)
	if len(hs) <= 1 {
		if len(hs) == 0 || !c.takes(hs[0], e, nested) {
			return nil
		}
		return hs[0]
	}
	total := 0
	for _, h := range hs {
		total += len(h.placed)
	}
	limit := (total+1)*5/(4*len(hs)) + 1
	t := e.req.Target
	var best, over *hostEntry
	var score uint64
	for _, h := range hs {
		if !c.takes(h, e, nested) {
			continue
		}
		if len(h.placed) >= limit && !e.suspect() {
			if over == nil || len(h.placed) < len(over.placed) {
				over = h
			}
		} else if s := hash64(h.boot, t.Type, t.ID); best == nil || s > score {
			best, score = h, s
		}
	}
	if best == nil {
		return over
	}
	return best
}

// hostForService chooses, of the hosts that take it, the one with the least running work.
func (c *Core) hostForService(comp component, e *entry, nested bool) *hostEntry {
	var best *hostEntry
	hs := c.takers(comp)
	for i := range hs {
		h := hs[(i+int(e.req.ID[15]))%len(hs)]
		if best != nil && len(h.running) >= len(best.running) || !c.takes(h, e, nested) {
			continue
		}
		best = h
	}
	return best
}
