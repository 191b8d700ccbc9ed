package runtime

import "container/heap"

// A firing is the request that a reminder has become, with the chain that it goes on
// as, until that has ended: here, where the reminder is, or away. The reminder may have
// been set anew meanwhile, or be gone.
type firing struct {
	actor    Actor // of the reminder; zero when nobody knows (see keptRequest.firing)
	reminder string
	id       ID  // of the request
	at       int // memory: its place among those of the actor
}

func (f *firing) name() string {
	if f == nil {
		return ""
	}
	return f.reminder
}

func (f *firing) of() Actor {
	if f == nil {
		return Actor{}
	}
	return f.actor
}

func (f *firing) bytes() int {
	if f == nil {
		return 0
	}
	return f.actor.bytes() + len(f.reminder)
}

func (c *Core) addFiring(f *firing) {
	if f == nil || f.actor == (Actor{}) {
		return
	}
	f.at = len(c.fired[f.actor])
	c.fired[f.actor] = append(c.fired[f.actor], f)
}

func (c *Core) dropFiring(f *firing) {
	if f == nil {
		return
	}
	list := c.fired[f.actor]
	if f.at >= len(list) || list[f.at] != f {
		return
	}
	last := len(list) - 1
	list[f.at], list[last].at = list[last], f.at
	list[last] = nil
	if list = list[:last]; len(list) == 0 {
		delete(c.fired, f.actor)
	} else {
		c.fired[f.actor] = list
	}
}

// firingOf is what is known of a request that is open here, nil when it is no firing.
func (c *Core) firingOf(id ID) *firing {
	if h := c.homes[id]; h != nil {
		return h.fired
	}
	if e := c.entries[id]; e != nil {
		return e.fired
	}
	return nil
}

// orderOf is the place of a request that is here, 0 for a chain that is away.
func (c *Core) orderOf(id ID) uint64 {
	if e := c.entries[id]; e != nil {
		return e.order
	}
	return 0
}

// withdrawn tells a request that is to end already, or that a purge has ended.
func (c *Core) withdrawn(id ID) bool {
	if h := c.homes[id]; h != nil {
		return h.cancelled || c.isPurgedHome(h)
	}
	e := c.entries[id]
	return e == nil || e.cancelled || c.isPurged(e)
}

// CancelReminders removes one reminder (or all, ID ""), and withdraws what has become
// of it; the reply's Value is the number of reminders.
type CancelReminders struct {
	Actor Actor
	ID    string
	// Session is that of the request that asks, "" for none. What its own flow is
	// part of goes on. Who shows none, as the SDKs of KAR 1.x, may be any firing that
	// runs on its boot.
	Session string
	Boot    string
	Request ID // under which it is repeated; zero for none
	Waiter  any
}

// forgetPiece is how many reminders, or firings of them, one step ends.
const forgetPiece = 500

// forgetting are reminders of an actor that are deleted in pieces, after their
// unfinished firings: who hears that they are gone hears it of both.
type forgetting struct {
	in      *CancelReminders
	flow    ID // of who asks, zero when it does not say
	rs      []*reminderEntry
	firings firingHeap // some have ended by now
	n       int
}

// A firingHeap hands over firings as they came, first those that are away.
type firingHeap []orderedFiring

type orderedFiring struct {
	order uint64
	id    ID
}

func (h firingHeap) Len() int { return len(h) }
func (h firingHeap) Less(i, j int) bool {
	if h[i].order != h[j].order {
		return h[i].order < h[j].order
	}
	return compareIDs(h[i].id, h[j].id) < 0
}
func (h firingHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *firingHeap) Push(x any)   { *h = append(*h, x.(orderedFiring)) }
func (h *firingHeap) Pop() any {
	n := len(*h) - 1
	f := (*h)[n]
	*h = (*h)[:n]
	return f
}

func (in *CancelReminders) decide(c *Core) {
	if c.refuseLost(in.Boot, in.Actor, in.Waiter) {
		return
	}
	if c.repeated(in.Request, in.Actor.App, in.Waiter, counted) {
		return
	}
	by, err := parseSession(in.Session)
	if err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	x := &forgetting{in: in, flow: by.flow}
	for _, f := range c.fired[in.Actor] {
		if in.ID == "" || f.reminder == in.ID {
			x.firings = append(x.firings, orderedFiring{c.orderOf(f.id), f.id})
		}
	}
	list := c.reminders[in.Actor]
	if in.ID != "" {
		if r := list.find(in.ID); r != nil {
			list = reminderList{r}
		} else {
			list = nil
		}
	}
	for _, r := range list {
		if c.dead(&r.node, r.Actor.App) {
			continue
		}
		r.leaving = true // it fires no more
		x.rs = append(x.rs, r)
		if !r.firing.IsZero() && c.firingOf(r.firing).of() != in.Actor {
			x.firings = append(x.firings, orderedFiring{c.orderOf(r.firing), r.firing})
		}
	}
	x.n = len(x.rs)
	heap.Init(&x.firings)
	if !c.forgetPieceOf(x) {
		c.forgettings = append(c.forgettings, x)
	}
}

// asks tells whether a firing is that of who asks.
func (x *forgetting) asks(c *Core, id ID) bool {
	if !x.flow.IsZero() {
		return id == x.flow
	}
	e := c.entries[id]
	return e != nil && e.phase == running && e.host == x.in.Boot
}

// forgetSome goes on with one deletion of reminders after the other.
func (c *Core) forgetSome() {
	if len(c.forgettings) == 0 {
		return
	}
	x := c.forgettings[0]
	c.forgettings[0] = nil
	c.forgettings = c.forgettings[1:]
	if !c.forgetPieceOf(x) {
		c.forgettings = append(c.forgettings, x)
	}
}

// forgetPieceOf tells whether the deletion is done with that.
func (c *Core) forgetPieceOf(x *forgetting) bool {
	for n := forgetPiece; len(x.firings) > 0; n-- {
		if n <= 0 {
			return false
		}
		id := heap.Pop(&x.firings).(orderedFiring).id
		if x.asks(c, id) || c.withdrawn(id) {
			continue
		}
		if f := c.firingOf(id); f.of() == x.in.Actor && c.reminders[f.actor].find(f.reminder) == nil {
			x.n++ // fired for the last time: only this was left of it
		}
		n -= c.withdrawFiring(id)
	}
	rs := x.rs[max(0, len(x.rs)-forgetPiece):] // from the end, where nothing has to move up
	x.rs = x.rs[:len(x.rs)-len(rs)]
	var ids []string
	for _, r := range rs {
		if c.reminders[r.Actor].find(r.ID) == r && r.leaving {
			ids = append(ids, r.ID)
		}
	}
	last := len(x.rs) == 0
	parts := pieces(ids, func(id string) int { return len(id) })
	if len(parts) == 0 && last && !x.in.Request.IsZero() {
		parts = [][]string{nil}
	}
	for i, part := range parts {
		var d done
		if last && i == len(parts)-1 { // the last record says that all is done
			d = c.doneAs(x.in.Request, done{n: x.n})
		}
		c.emit(&reminderGone{x.in.Actor, part, d})
	}
	if last {
		c.replyValue(x.in.Waiter, x.n)
	}
	return last
}

// withdrawFiring returns about how many records that costs beyond one.
func (c *Core) withdrawFiring(id ID) (cost int) {
	if c.entries[id] == nil { // each other partition is told
		cost = c.cfg.Partitions / 16
	}
	c.withdrawOpen(id, &Error{CodeCancelled, "the reminder was deleted", id}, ID{})
	return cost
}
