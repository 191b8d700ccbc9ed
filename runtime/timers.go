package runtime

import "container/heap"

// A timer wakes an entry, or a chain that is away; each has at most one by each clock. A time that a
// caller has named is compared with the wall clock itself, so that it comes when
// that clock shows it, whatever was set meanwhile.
type timer struct {
	e     *entry
	home  *homeEntry
	at    int64
	index int // position in the heap plus 1; 0 when not set
}

type timerHeap struct{ items []*timer }

func (h *timerHeap) Len() int           { return len(h.items) }
func (h *timerHeap) Less(i, j int) bool { return h.items[i].at < h.items[j].at }
func (h *timerHeap) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].index, h.items[j].index = i+1, j+1
}
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	h.items = append(h.items, t)
	t.index = len(h.items)
}
func (h *timerHeap) Pop() any {
	n := len(h.items) - 1
	t := h.items[n]
	h.items[n] = nil
	h.items = h.items[:n]
	t.index = 0
	return t
}

func (h *timerHeap) set(t *timer, e *entry, at int64) {
	t.e = e
	h.start(t, at)
}

func (h *timerHeap) start(t *timer, at int64) {
	if t.index != 0 {
		if at >= t.at {
			return // the earlier one re-arms
		}
		t.at = at
		heap.Fix(h, t.index-1)
		return
	}
	t.at = at
	heap.Push(h, t)
}

func (h *timerHeap) remove(t *timer) {
	if t.index != 0 {
		heap.Remove(h, t.index-1)
	}
}

func (h *timerHeap) next(now int64) *timer {
	if len(h.items) == 0 || h.items[0].at > now {
		return nil
	}
	return heap.Pop(h).(*timer)
}

// arm sets the entry's timers for the first things that time can do to it.
func (c *Core) arm(e *entry) {
	mono, wall := int64(-1), int64(-1)
	first := func(at *int64, t int64) {
		if *at < 0 || t < *at {
			*at = t
		}
	}
	again := func(t int64) int64 { // a limit that has passed but does not apply now
		if t <= c.now.Mono {
			return c.now.Mono + 1000
		}
		return t
	}
	switch {
	case e.phase == gone:
		return
	case e.phase == delayed:
		first(&wall, e.req.NotBefore)
	case e.phase == stopped && e.retryAt > c.now.Mono:
		first(&mono, e.retryAt)
	case e.phase == stopped && e.lined != nil && e.turnAt > c.now.Mono:
		first(&mono, e.turnAt)
	case e.phase == stopped && e.lined != nil:
		first(&mono, c.now.Mono+patience/3)
	}
	if !e.answered {
		if d := e.req.Deadline; d > c.now.Wall || d != 0 && (!e.hasStarted() || len(e.waiters) > 0) {
			first(&wall, e.req.Deadline)
		}
		if !e.hasStarted() && e.phase == queued {
			if e.req.NoHost > 0 {
				first(&mono, again(e.since+e.req.NoHost))
			}
			if e.req.Busy > 0 {
				first(&mono, again(e.since+e.req.Busy))
			}
		}
	}
	if e.guestAt > 0 && !e.hasStarted() && e.phase == queued {
		first(&mono, max(e.guestAt, c.now.Mono))
	}
	if mono >= 0 {
		c.timers.set(&e.timer, e, mono)
	}
	if wall >= 0 {
		c.walls.set(&e.wall, e, wall)
	}
}

// rung does what the time has come for.
func (c *Core) rung(e *entry) {
	if c.isPurged(e) {
		return
	}
	if e.phase == delayed && e.req.NotBefore <= c.now.Wall {
		e.phase = queued
		e.since = c.now.Mono
		c.place(e)
		c.touchTarget(e)
	}
	if e.phase == stopped {
		c.touchTarget(e)
	}
	if !e.answered {
		c.checkLimits(e)
	}
	c.checkGuests(e)
	if e.phase != gone {
		c.arm(e)
	}
}

// checkLimits: a limit before the first start is the outcome; on running or
// interrupted work it is an answer to those who wait now, and the work goes on.
func (c *Core) checkLimits(e *entry) {
	if d := e.req.Deadline; d != 0 && d <= c.now.Wall {
		err := &Error{CodeDeadline, "the deadline of the request has passed", e.req.ID}
		if !e.hasStarted() {
			c.end(e, err.Outcome())
		} else {
			// Of a new owner nobody may have asked yet.
			e.answered = len(e.waiters) > 0
			c.tellWaiters(e.req.ID, &e.waiters, err)
		}
		return
	}
	if e.hasStarted() || e.phase != queued {
		return
	}
	if err := c.limitOf(e, c.now.Mono-e.since, e.req.NoHost, e.req.Busy); err != nil {
		c.end(e, err.Outcome())
	}
}

// limitOf is which limit before the first start has passed, nil for none.
func (c *Core) limitOf(e *entry, waited, noHost, busy int64) *Error {
	locked := false
	if t := e.req.Target; t.IsActor() {
		a := c.actors[t.Actor()]
		locked = a != nil && (a.locked() || c.placed(a) != nil)
	}
	switch {
	case locked && busy > 0 && waited >= busy:
		return &Error{CodeActorBusy, describe(e.req.Target) + " was busy for the whole limit", e.req.ID}
	case !locked && noHost > 0 && waited >= noHost:
		return &Error{CodeMissingComponent, "no component offered " + describe(e.req.Target) + " within the limit", e.req.ID}
	}
	return nil
}

// Tick lets time pass. The engine sends one when Core.Due says so, and at
// least five in a second while there are hosts.
type Tick struct{}

// fireBatch bounds how many reminders one Tick fires, so that other inputs get their turn.
const fireBatch = 500

// timerBatch bounds how many timers one Tick takes; the next one follows at once.
const timerBatch = 1000

// tickGap is the longest time between two ticks in which silence is a host's.
const tickGap = 1000

func (in *Tick) decide(c *Core) {
	hearing := int64(0)
	if away := c.now.Mono - c.lastTick - tickGap; away > 0 {
		hearing = tickGap
		// This owner itself was away: it cannot say who was silent meanwhile. The
		// rest of the time counts, so a log that is slow at each append delays the
		// loss of a host and does not prevent it.
		for _, h := range c.hosts {
			h.contact = min(h.contact+away, c.now.Mono)
		}
	}
	slow := c.now.Mono/200 != c.lastTick/200
	c.lastTick = c.now.Mono
	c.ring()
	c.fireReminders(fireBatch)
	c.fireLate(fireBatch)
	c.unsubscribeSome()
	c.forgetSome()
	c.sweepSome(sweepBatch)
	c.nextPiece()
	if slow {
		c.checkHosts(hearing)
		c.resend()
		c.askBlocked()
		if len(c.fenceWait) > 0 && c.now.Mono-c.fenceAsked >= 1000 {
			c.askFences()
		}
		c.forget()
	}
}

// ring takes the timers that are due in one go.
func (c *Core) ring() {
	for range timerBatch {
		t := c.timers.next(c.now.Mono)
		if t == nil {
			t = c.walls.next(c.now.Wall)
		}
		if t == nil {
			break
		}
		if t.home != nil {
			c.rungAway(t.home)
		} else {
			c.rung(t.e)
		}
	}
	c.settle()
}

// forget drops what is older than the id window, and lost boots when nothing
// of them can be alive any more; it needs no record.
func (c *Core) forget() {
	c.forgetWishes()
	c.forgetClearings()
	c.forgetPasts()
	c.ended.prune(c, c.now.Wall-c.cfg.IDWindow)
	for range min(fadeBatch, len(c.endings)) {
		n := c.keep.nextEnding()
		if c.ageOf(n.at, n.noted) <= c.cfg.IDWindow {
			c.keep.fade = nil
			break
		}
		c.dropEnding(n.id)
	}
	c.forgetLost()
	c.view.age(c.now.Mono)
}

// Due is when the next Tick is useful: at the latest in 200 ms while there are
// hosts or unconfirmed messages.
func (c *Core) Due(now Now) (inMillis int64) {
	if len(c.leaving) > 0 || len(c.forgettings) > 0 || c.keep.sweep != nil || c.inPieces() || c.unsettled() || c.lateReady() {
		return 0
	}
	due := int64(1000)
	if len(c.hosts) > 0 || len(c.fenceWait) > 0 || len(c.inquiries) > 0 {
		due = 200
	}
	for _, o := range c.out {
		if len(o.pending) > 0 {
			due = 200
		}
	}
	if len(c.timers.items) > 0 {
		due = min(due, max(c.timers.items[0].at-now.Mono, 0))
	}
	if len(c.walls.items) > 0 {
		due = min(due, max(c.walls.items[0].at-now.Wall, 0))
	}
	if r := c.due.first(); r != nil {
		due = min(due, max(r.Due-now.Wall, 0))
	}
	return due
}
