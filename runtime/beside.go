package runtime

import "slices"

// An attempt counts towards the attempt limit when nobody else is to blame for
// its interruption, and whoever else ran on that boot may have been of another
// partition. So the owner of an attempt that was alone here asks the others. The
// answers are memory, and the next attempt does not wait for them: what has not
// been answered by then does not count, and the guilty one meets its limit later.
// Where no limit is set nobody is asked, and nothing counts.

// hearsay is how old an answer may be, in milliseconds, and so for how long after
// it has stopped on a host a thing is company there.
const hearsay = 10_000

// wholeTerm is a time in milliseconds that began before this term.
const wholeTerm = 1 << 60

// ranFor is how long ago the last attempt was started, in milliseconds.
func (c *Core) ranFor(e *entry) int64 {
	if e.epoch < c.epoch {
		return wholeTerm
	}
	return c.now.Mono - e.since
}

// inquires tells that other partitions have a say.
func (c *Core) inquires() bool { return c.cfg.Partitions > 1 && c.LogLevel() >= 2 }

// tries is how many interrupted attempts count towards the limit.
func (c *Core) tries(e *entry) uint32 {
	if e.alone && (e.blamed || !c.inquires()) {
		return e.tried + 1
	}
	return e.tried
}

// An inquiry asks all other partitions what they ran on a boot.
type inquiry struct {
	entries  []*entry // that wait for the answers
	answered map[uint16]bool
	began    int64 // monotonic ms: answers to earlier questions say nothing
	asked    int64 // monotonic ms of the last question
}

// waits tells that the answers about a boot still decide something for the entry.
func (e *entry) waits(boot string) bool {
	return e.phase == stopped && e.alone && !e.blamed && e.host == boot
}

// accompanied tells that another partition ran something that may be to blame.
func (e *entry) accompanied(n company) bool {
	others := n.flows
	if e.attempt > lastFreeAttempt {
		others = n.suspects
	}
	return others > 1 || others == 1 && n.sole != e.flow
}

func (c *Core) inquire(e *entry) {
	if !e.alone || c.cfg.MaxAttempts <= 0 || !c.inquires() {
		return
	}
	if x := c.lost[e.host]; x == nil && c.hosts[e.host] == nil || x != nil && c.now.Wall-x.at > c.cfg.IDWindow/2 {
		return // others may have forgotten it
	}
	q := c.inquiries[e.host]
	if q == nil {
		q = &inquiry{}
		c.inquiries[e.host] = q
	}
	q.entries, q.answered = append(q.entries, e), map[uint16]bool{}
	q.began = max(c.now.Mono, q.asked+1)
}

// askBeside asks what is new, and asks again each second.
func (c *Core) askBeside() {
	if len(c.inquiries) == 0 {
		return
	}
	for _, boot := range sortedKeys(c.inquiries) {
		q := c.inquiries[boot]
		if q.asked >= q.began && c.now.Mono-q.asked < 1000 {
			continue
		}
		if c.closeInquiry(boot, q) {
			continue
		}
		ran := int64(0)
		for _, e := range q.entries {
			ran = max(ran, c.ranFor(e))
		}
		q.asked = max(c.now.Mono, q.began)
		for p := range c.cfg.Partitions {
			if n := uint16(p); n != c.cfg.Partition && !q.answered[n] {
				c.effect(Effect{Kind: ToOwner, Partition: n, Value: &BesideAsk{From: c.cfg.Partition, Epoch: c.epoch, Boot: boot, Asked: q.asked, Ran: ran}})
			}
		}
	}
}

// closeInquiry drops the entries that wait no longer, and the inquiry with the last.
func (c *Core) closeInquiry(boot string, q *inquiry) bool {
	q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool { return !e.waits(boot) })
	if len(q.entries) > 0 {
		return false
	}
	delete(c.inquiries, boot)
	return true
}

// BesideAsk: an attempt of partition From was interrupted on a boot; what ran
// there beside it?
type BesideAsk struct {
	From  uint16
	Epoch uint64
	Boot  string
	Asked int64 // comes back with the answer
	Ran   int64 // ms since the attempt was started
}

func (in *BesideAsk) decide(c *Core) {
	if int(in.From) >= c.cfg.Partitions || in.From == c.cfg.Partition {
		return
	}
	var n company
	if x := c.lost[in.Boot]; x != nil {
		n = x.beside
	} else if h := c.hosts[in.Boot]; h != nil {
		n = h.company(h.stops.since(c.now.Mono-max(min(in.Ran, wholeTerm), 0)-hearsay, 0))
	}
	c.effect(Effect{Kind: ToOwner, Partition: in.From, Value: &BesideAnswered{
		From: c.cfg.Partition, Epoch: in.Epoch, Boot: in.Boot, Asked: in.Asked, Flows: n.flows, Suspects: n.suspects, Sole: n.sole,
	}})
}

// BesideAnswered is what partition From has run on the boot: how many flows, how
// many of them suspects, and which one, if it is one (see company).
type BesideAnswered struct {
	From            uint16
	Epoch           uint64
	Boot            string
	Asked           int64
	Flows, Suspects int
	Sole            ID
}

func (in *BesideAnswered) decide(c *Core) {
	q := c.inquiries[in.Boot]
	late := c.now.Mono-in.Asked > hearsay
	if q == nil || in.Epoch != c.epoch || in.Asked < q.began || late || int(in.From) >= c.cfg.Partitions || in.From == c.cfg.Partition {
		return
	}
	q.answered[in.From] = true
	n := company{flows: in.Flows, suspects: in.Suspects, sole: in.Sole}
	q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool {
		if !e.waits(in.Boot) || !e.accompanied(n) {
			return false
		}
		e.apart = e.suspect()
		return true
	})
	if c.closeInquiry(in.Boot, q) || len(q.answered) < c.cfg.Partitions-1 {
		return
	}
	for _, e := range q.entries {
		e.blamed, e.apart = true, false
		c.touchTarget(e)
	}
	delete(c.inquiries, in.Boot)
}

// mayBegin holds back a suspect beside which suspects of other partitions have
// run. By itself the jitter parts them; but those that are all due before a host
// comes would begin with it together, and never be alone. So each partition
// begins at a time of its own, another one on each host.
func (c *Core) mayBegin(h *hostEntry, e *entry) bool {
	if !e.apart {
		return true
	}
	window := uint64(1000) << min(e.attempt-lastFreeAttempt, 5)
	at := h.joined + int64(mix(hash64(h.boot)+uint64(c.cfg.Partition))%window)
	if c.now.Mono >= at {
		return true
	}
	c.timers.set(&e.timer, e, at)
	return false
}
