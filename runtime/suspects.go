package runtime

import "slices"

// A request whose third attempt was interrupted is a suspect: it, or something
// that ran beside it, ends its host. The suspects that a host runs are a group.
// Those that a loss has interrupted together may run together again in groups of
// half their number, so that the one that does the damage is soon alone, and the
// innocent have ended in groups without it. Only what was alone with the damage
// is blamed for it: that attempt counts towards the attempt limit.
//
// A group is counted in flows: a suspect goes with the suspects of its own flow
// and with those that wait for it. It is a group of one host in one partition;
// what others run there is asked when it matters (beside.go).

// suspect tells a request whose next attempt has to wait for its turn.
func (e *entry) suspect() bool { return e.among > 0 }

// A company is what one host runs at a time, counted in flows.
type company struct {
	flows    int
	doubted  int // with an attempt that makes a suspect when it is interrupted
	suspects int
	sole     ID // the flow of its suspects when that is one, else of everything when that is one
}

// A flowCount counts the running requests of one flow on one host.
type flowCount struct{ running, doubted, suspects int32 }

func (e *entry) counts() flowCount {
	n := flowCount{running: 1}
	if e.attempt >= lastFreeAttempt {
		n.doubted = 1
	}
	if e.suspect() {
		n.suspects = 1
	}
	return n
}

// count adds a running request (sign 1) to the company, or takes it out (-1).
func (h *hostEntry) count(e *entry, sign int32) {
	was, n := h.flows[e.flow], e.counts()
	is := flowCount{was.running + sign*n.running, was.doubted + sign*n.doubted, was.suspects + sign*n.suspects}
	if is == (flowCount{}) {
		delete(h.flows, e.flow)
	} else {
		h.flows[e.flow] = is
	}
	change := func(was, is int32) int { return int(min(is, 1) - min(was, 1)) }
	h.beside.flows += change(was.running, is.running)
	h.beside.doubted += change(was.doubted, is.doubted)
	h.beside.suspects += change(was.suspects, is.suspects)
}

// A stopList is what has stopped on a host without an outcome while the host
// lived. The ends of what one process ran are reported one after the other, so
// what has stopped already was beside what stops next.
type stopList struct {
	last    []hostStop
	dropped hostStop // whatever had stopped until then
}

type hostStop struct {
	at    int64  // monotonic ms
	seq   uint64 // the last record before
	flow  ID
	n     flowCount
	id    ID
	began uint64 // of the attempt
}

const maxStops = 256

// stopOn notes that an attempt has stopped on a host that lives.
func (c *Core) stopOn(h *hostEntry, e *entry, beside company) {
	l := &h.stops
	if len(l.last) == maxStops {
		drop := l.last[maxStops/2-1]
		l.dropped = hostStop{at: drop.at, seq: drop.seq, n: flowCount{1, 1, 1}}
		l.last = append(l.last[:0], l.last[maxStops/2:]...)
	}
	l.last = append(l.last, hostStop{c.now.Mono, c.seq, e.flow, e.counts(), e.req.ID, e.began})
	c.takeOff(e)
	c.stop(e, beside)
}

// since is what has stopped at or after a time and a record.
func (l *stopList) since(at int64, seq uint64) []hostStop {
	i := 0
	for i < len(l.last) && (l.last[i].at < at || l.last[i].seq < seq) {
		i++
	}
	if l.dropped.seq > 0 && l.dropped.at >= at && l.dropped.seq >= seq {
		return append(slices.Clone(l.last), l.dropped)
	}
	return l.last[i:]
}

// haltsOn are the attempts that have stopped on a host of which no record says so; more
// tells that there may be others.
func (c *Core) haltsOn(h *hostEntry) (list []halt, more bool) {
	for _, s := range h.stops.last {
		if e := c.entries[s.id]; e != nil && e.phase == stopped && e.host == h.boot && e.began == s.began {
			list = append(list, halt{s.id, e.among, e.alone})
		}
	}
	return list, h.stops.dropped.seq > 0
}

// company is what the host runs, with what has stopped there.
func (h *hostEntry) company(stops []hostStop) company {
	n, stopped := h.beside, map[ID]flowCount{}
	for _, s := range stops {
		x := stopped[s.flow]
		stopped[s.flow] = flowCount{x.running + s.n.running, x.doubted + s.n.doubted, x.suspects + s.n.suspects}
	}
	for flow, x := range stopped {
		runs := h.flows[flow]
		n.flows += int(min(x.running, 1-min(runs.running, 1)))
		n.doubted += int(min(x.doubted, 1-min(runs.doubted, 1)))
		n.suspects += int(min(x.suspects, 1-min(runs.suspects, 1)))
	}
	for _, flows := range []map[ID]flowCount{h.flows, stopped} {
		if n.suspects > 1 || n.suspects == 0 && n.flows > 1 {
			break
		}
		for flow, x := range flows {
			if n.suspects == 0 || x.suspects > 0 {
				n.sole = flow
			}
		}
	}
	return n
}

// lastFreeAttempt is the last attempt that follows the one before at once.
const lastFreeAttempt = 3

// suspicion is what the interruption of the running attempt says about the
// request. In its first attempts anything that ran beside it may be the cause,
// later only another suspect.
func (e *entry) suspicion(beside company) {
	others := beside.flows
	if e.suspect() {
		others = beside.suspects
	}
	e.alone = others <= 1
	if e.attempt < lastFreeAttempt {
		return
	}
	n := beside.doubted
	if e.suspect() {
		n = min(n, int(e.among))
	}
	e.among = uint32(max(n/2, 1))
}

// takes tells whether a host takes one more attempt of this request now.
func (c *Core) takes(h *hostEntry, e *entry, nested bool) bool {
	return (nested || c.room(h)) && c.mayJoin(h, e)
}

// mayJoin tells whether a suspect may run beside the suspects of this host.
func (c *Core) mayJoin(h *hostEntry, e *entry) bool {
	if !e.suspect() {
		return true
	}
	n := h.beside.suspects
	switch {
	case n == 0:
		return c.mayBegin(h, e)
	case n < int(min(h.among, e.among)):
		return true
	}
	return h.flows[e.flow].suspects > 0 || c.waitedFor(e) || c.holdsUp(e) || c.impatient(h, e)
}

// searchLimit bounds how many callers one search looks at. Beyond it the answer is
// that a suspect may wait: the most that it costs is one more beside others.
const searchLimit = 2000

// waitedFor tells that a suspect which runs may wait for one of these requests:
// one of their callers, of the callers of those and so on, or whatever suspect
// runs on the host that has sent one. Each is looked at once: what is called with
// the session of a request that has ended has many callers, and those have each
// other.
func (c *Core) waitedFor(es ...*entry) bool {
	seen := map[ID]bool{}
	for looks := 0; len(es) > 0; {
		e := es[len(es)-1]
		es = es[:len(es)-1]
		if h := c.hosts[e.req.Boot]; len(e.parents) == 0 && e.req.Kind == Call && h != nil && h.beside.suspects > 0 {
			return true
		}
		for _, p := range e.parents {
			if looks++; looks > searchLimit {
				return true
			}
			x := c.entries[p]
			if x == nil || seen[p] {
				continue
			}
			if x.phase == running && x.suspect() {
				return true
			}
			seen[p] = true
			es = append(es, x)
		}
	}
	return false
}

// holdsUp tells that a suspect which runs may wait for the lock that this one holds.
func (c *Core) holdsUp(e *entry) bool {
	a := c.actorOf(e)
	if a == nil || a.awaited == 0 {
		return false
	}
	var es []*entry
	for i, x := range a.queue.all() {
		if i == searchLimit {
			return true
		}
		if x.awaited() {
			es = append(es, x)
		}
	}
	return c.waitedFor(es...)
}

func (c *Core) actorOf(e *entry) *actorEntry {
	if !e.req.Target.IsActor() {
		return nil
	}
	return c.actors[e.req.Target.Actor()]
}

// patience is how long a suspect waits for its turn, in milliseconds, when
// callers wait for it of whom this partition does not know what they are: each
// of two partitions might wait for the suspects of the other.
//
// A suspect that runs may also wait for one in line in a way that nobody sees: for
// the outcome of a promise, or for what the other would write. So when no suspect
// has begun on a host for that long, one more may. The time doubles with each
// attempt: who ends its host again and again comes ever later beside others.
const patience = 30_000

func (c *Core) beginPatience(e *entry) {
	e.turnAt = c.now.Mono + patience
	c.timers.set(&e.timer, e, e.turnAt)
}

func (c *Core) impatient(h *hostEntry, e *entry) bool {
	if e.lined == nil || c.now.Mono < e.turnAt {
		return false
	}
	if a := c.actorOf(e); e.awaited() || a != nil && a.awaited > 0 {
		return true
	}
	return c.now.Mono-h.begun >= patience<<min(e.attempt-min(e.attempt, lastFreeAttempt), 7)
}

// suspectMisses bounds how many suspects one look finds still without a turn.
const suspectMisses = 64

// pumpSuspects gives suspects their turn, first whoever was due first: by age an
// old one that ends its host again and again would starve the young.
func (c *Core) pumpSuspects(p *parking) {
	for i := 0; i < p.suspects.len() && i < suspectMisses && c.budget > 0; {
		if e := p.suspects.all()[i]; !c.startSuspect(e) {
			i++
		}
	}
}

// startSuspect starts a suspect that is in line, unless its turn has not come.
func (c *Core) startSuspect(e *entry) bool {
	a := c.actorOf(e)
	switch {
	case a == nil:
		h := c.hostForService(componentOf(e.req.Target), e, e.awaited())
		if h != nil {
			c.start(e, h)
		}
		return h != nil
	case a.host != "" && c.placed(a) == nil:
		c.unplace(a) // its host was lost
	case a.asking > 0 || c.isStale(a) || c.isHaunted(a):
		return false
	}
	return c.startOnActor(e, a)
}
