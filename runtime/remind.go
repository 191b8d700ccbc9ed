package runtime

import (
	"container/heap"
	"slices"
	"strings"
	"time"
)

type reminderHeap struct{ items []*reminderEntry }

func (h *reminderHeap) Len() int { return len(h.items) }
func (h *reminderHeap) Less(i, j int) bool {
	a, b := h.items[i], h.items[j]
	if a.Due != b.Due {
		return a.Due < b.Due
	}
	if a.Actor != b.Actor {
		return lessActor(a.Actor, b.Actor)
	}
	return a.ID < b.ID
}
func (h *reminderHeap) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].index, h.items[j].index = i+1, j+1
}
func (h *reminderHeap) Push(x any) {
	r := x.(*reminderEntry)
	h.items = append(h.items, r)
	r.index = len(h.items)
}
func (h *reminderHeap) Pop() any {
	n := len(h.items) - 1
	r := h.items[n]
	h.items[n] = nil
	h.items = h.items[:n]
	r.index = 0
	return r
}

func (h *reminderHeap) first() *reminderEntry {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

func (h *reminderHeap) put(r *reminderEntry) {
	if r.index == 0 {
		heap.Push(h, r)
	} else {
		heap.Fix(h, r.index-1)
	}
}

func (h *reminderHeap) remove(r *reminderEntry) {
	if r.index != 0 {
		heap.Remove(h, r.index-1)
	}
}

// A reminderList is an actor's reminders sorted by id. A slice, since there may
// be a million actors with one each.
type reminderList []*reminderEntry

func (l reminderList) index(id string) (int, bool) {
	return slices.BinarySearchFunc(l, id, func(r *reminderEntry, id string) int { return strings.Compare(r.ID, id) })
}

func (l reminderList) find(id string) *reminderEntry {
	if i, ok := l.index(id); ok {
		return l[i]
	}
	return nil
}

// maxReminders is how many an actor may have: who deletes them all goes through them in
// one step first.
const maxReminders = 50_000

// maxReminderYear keeps times that RFC 3339 can write.
const maxReminderYear = 9999

// maxPeriod, in nanoseconds (146 years), leaves room for sums.
const maxPeriod = 1 << 62

// SetReminder creates or replaces a reminder; the reply's Value is whether it replaced one.
type SetReminder struct {
	Reminder Reminder
	Boot     string
	ID       ID // under which it is repeated; zero for none
	Waiter   any
}

func (in *SetReminder) decide(c *Core) {
	r := &in.Reminder
	if c.refuseLost(in.Boot, r.Actor, in.Waiter) {
		return
	}
	if c.repeated(in.ID, r.Actor.App, in.Waiter, replaced) {
		return
	}
	if y := time.UnixMilli(r.Due).UTC().Year(); y > maxReminderYear || y < 1 {
		c.refuse(in.Waiter, Errorf(CodeBadReminder, "the target time is in the year %d", y))
		return
	}
	if err := checkPath(Target{App: r.Actor.App, Type: r.Actor.Type, ID: r.Actor.ID}, r.Path, CodeBadReminder); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	if r.Period < 0 {
		c.refuse(in.Waiter, Errorf(CodeBadReminder, "the period is negative"))
		return
	}
	if r.Period > 0 {
		r.Period = min(max(r.Period, int64(time.Millisecond)), maxPeriod)
	}
	if c.refuseLarge(in.Waiter, "the reminder", r.bytes()) {
		return
	}
	old := c.reminder(r.Actor, r.ID)
	found, more := old != nil, r.lasts()
	if found {
		more -= old.lasts()
	} else if n := len(c.reminders[r.Actor]); n >= maxReminders {
		c.refuse(in.Waiter, Errorf(CodeTooLarge, "the actor has %d reminders already, which is the limit; delete some, or spread them over several actors", n))
		return
	}
	if err := c.spareLasting(r.Actor.App, more); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	if found {
		old.leaving = false // of a deletion under way; what it has become is withdrawn
	}
	c.emit(&reminderSet{*r, c.doneAs(in.ID, done{yes: found})})
	c.replyValue(in.Waiter, found)
	c.fireReminders(fireBatch)
}

func (c *Core) applyReminderSet(seq uint64, r Reminder) {
	c.use(r.Actor.App)
	list := c.reminders[r.Actor]
	i, found := list.index(r.ID)
	if !found {
		c.reminders[r.Actor] = slices.Insert(list, i, &reminderEntry{})
		c.remCount++
		c.holds(r.Actor.App, 1)
	}
	x := c.reminders[r.Actor][i]
	delete(c.firings, x.firing)
	more := r.lasts()
	if found {
		more -= x.lasts()
	}
	c.weighLasting(r.Actor.App, more)
	x.Reminder, x.firing = r, ID{}
	c.keep.place(&x.node, seq, x)
	c.schedule(x)
}

func (c *Core) dropReminder(a Actor, id string) {
	list := c.reminders[a]
	i, found := list.index(id)
	if !found {
		return
	}
	c.unschedule(list[i])
	c.keep.remove(&list[i].node)
	delete(c.firings, list[i].firing)
	c.remCount--
	c.weighLasting(a.App, -list[i].lasts())
	c.holds(a.App, -1)
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(c.reminders, a)
	} else {
		c.reminders[a] = list
	}
}

// fireReminders turns due times into tells (P8). A due time that passes while
// the last firing is unfinished waits for it; all missed ones become one
// firing that names the last and the count, unless each is asked for. The next
// due time stays on the grid.
//
// A due reminder whose app has enough of them under way waits, behind those of
// the app that wait already: firings take no part in the limits of work.
func (c *Core) fireReminders(limit int) {
	for range limit {
		r := c.due.first()
		if r == nil || r.Due > c.now.Wall {
			return
		}
		if c.unfit(r) {
			continue
		}
		if c.late[r.Actor.App] != nil || c.firingWaits(r, 1) {
			c.delay(r)
			continue
		}
		c.fire(r)
	}
}

// fireLate fires those that wait, of each app that has half of its part left.
func (c *Core) fireLate(limit int) {
	if len(c.late) == 0 {
		return
	}
	each := max(limit/len(c.late), 1)
	for _, app := range sortedKeys(c.late) {
		part := int64(2)
		for n := each; n > 0 && c.late[app] != nil; n-- {
			r := c.late[app].first()
			if c.unfit(r) {
				continue
			}
			if r.Due > c.now.Wall {
				c.schedule(r) // the clock was set back
				continue
			}
			if c.firingWaits(r, part) {
				break
			}
			c.fire(r)
			part = 1
		}
	}
}

// unfit takes out of turn what does not fire.
func (c *Core) unfit(r *reminderEntry) bool {
	switch {
	case c.dead(&r.node, r.Actor.App):
		c.dropReminder(r.Actor, r.ID)
	case !r.firing.IsZero() || r.leaving:
		c.unschedule(r) // back when the firing has ended
	default:
		return false
	}
	return true
}

// schedule lets a reminder fire at its time.
func (c *Core) schedule(r *reminderEntry) {
	if r.late {
		c.unschedule(r)
	}
	c.due.put(r)
}

func (c *Core) unschedule(r *reminderEntry) {
	c.heapOf(r).remove(r)
	if r.late && len(c.late[r.Actor.App].items) == 0 {
		delete(c.late, r.Actor.App)
	}
	r.late = false
}

// delay lets a due reminder wait for its app.
func (c *Core) delay(r *reminderEntry) {
	c.due.remove(r)
	if c.late[r.Actor.App] == nil {
		c.late[r.Actor.App] = &reminderHeap{}
	}
	r.late = true
	c.late[r.Actor.App].put(r)
}

func (c *Core) heapOf(r *reminderEntry) *reminderHeap {
	if r.late {
		return c.late[r.Actor.App]
	}
	return &c.due
}

// lateCount is how many due reminders wait for room.
func (c *Core) lateCount() (n int) {
	for _, h := range c.late { // a sum: in any order
		n += len(h.items)
	}
	return n
}

// lateReady tells that one of them need not wait any more.
func (c *Core) lateReady() bool {
	for _, h := range c.late { // whether there is one: in any order
		if !c.firingWaits(h.first(), 2) {
			return true
		}
	}
	return false
}

// reminderBytes is about what a reminder takes in memory beside its names and data.
const reminderBytes = 384

// lasts is what a reminder takes for as long as it is set.
func (r *Reminder) lasts() int {
	return reminderBytes + r.Actor.bytes() + len(r.ID) + len(r.Path) + len(r.Data)
}

// weight is what a firing takes.
func (r *Reminder) weight() int64 { return int64(workBytes + len(r.Data)) }

func (c *Core) fire(r *reminderEntry) {
	due, count, next, nextNS := r.dueTimes(c.now.Wall)
	body := r.Data
	if body == nil {
		body = []byte("[]")
	}
	b := &accepted{
		req: Request{
			ID: c.makeID(r.Actor.App), Kind: Tell, Target: Target{App: r.Actor.App, Type: r.Actor.Type, ID: r.Actor.ID},
			Method: "POST", Path: r.Path, Body: body,
		},
		home: c.cfg.Partition, at: c.now.Wall,
		reminder: r.ID, nextDue: next, nextNS: nextNS, nextExists: r.Period > 0, due: due, count: count,
	}
	b.flow = b.req.ID
	c.Counts.RemindersFired++
	c.accept(b, nil)
}

// dueTimes are those up to now that one firing stands for: the last one and the
// count, and the one that comes next.
func (r *Reminder) dueTimes(now int64) (due, count, next, nextNS int64) {
	due, count = r.Due, 1
	if r.Period == 0 {
		return due, count, 0, 0
	}
	if now-due > 1<<42 { // 139 years: nanoseconds would overflow
		due = now
	}
	start, missed := due, int64(0)
	if !r.CatchUp {
		missed = (now - due) * int64(time.Millisecond) / r.Period
	}
	last := r.TargetNS + missed*r.Period
	return start + last/int64(time.Millisecond), count + missed,
		start + (last+r.Period)/int64(time.Millisecond), (last + r.Period) % int64(time.Millisecond)
}

// takeDueTimes counts the due times that passed while a firing was interrupted
// into that firing, unless each is asked for, or a step of its chain is done.
func (c *Core) takeDueTimes(e *entry, b *started) {
	r := c.firings[e.req.ID]
	if r == nil || e.attempt == 0 || e.step > 0 || r.CatchUp || r.Period == 0 || r.Due > c.now.Wall {
		return
	}
	b.reminder = r.ID
	b.due, b.count, b.nextDue, b.nextNS = r.dueTimes(c.now.Wall)
	b.count += e.count
}

// applyDueTimes moves the reminder; a trimmed log may tell of its firing later.
func (c *Core) applyDueTimes(b *started) {
	if r := c.reminder(b.actor, b.reminder); r != nil {
		r.Due, r.TargetNS = b.nextDue, b.nextNS
		c.schedule(r)
	}
}

// makeID is an id for work that the partition makes itself: unique because a
// sequence number is used once in a term.
func (c *Core) makeID(app string) ID {
	return NewID(c.now.Wall, c.cfg.Partition, app, lowBytes(hash64("made", c.cfg.Node, utoa(c.epoch), utoa(c.seq+1))))
}

// makeIDFor is an id for work that the partition makes and another one does: who has
// the id knows whom to ask.
func (c *Core) makeIDFor(app string, partition uint16) ID {
	if partition == c.cfg.Partition {
		return c.makeID(app)
	}
	h := hash64("made", c.cfg.Node, utoa(c.epoch), utoa(c.seq+1), utoa(uint64(c.cfg.Partition)))
	return NewID(c.now.Wall, partition, app, lowBytes(h))
}

func lowBytes(h uint64) (b [6]byte) {
	for i := range b {
		b[i] = byte(h >> (8 * i))
	}
	return b
}

func (c *Core) applyFired(b *accepted) {
	r := c.reminder(b.req.Target.Actor(), b.reminder)
	if r == nil {
		return
	}
	if !b.nextExists {
		c.dropReminder(r.Actor, r.ID)
		return
	}
	r.firing = b.req.ID
	c.firings[r.firing] = r
	r.Due, r.TargetNS = b.nextDue, b.nextNS
	c.schedule(r)
}

// firingEnded: the request, or the chain that it became, is over. The chain may
// have left the reminder's actor, so only the id tells whose firing it was.
func (c *Core) firingEnded(id ID) {
	if r := c.firings[id]; r != nil {
		delete(c.firings, id)
		r.firing = ID{}
		c.schedule(r)
	}
}

func (c *Core) remindersOf(a Actor, id, after string, limit int) []Reminder {
	var rs []Reminder
	list := c.reminders[a]
	if id != "" {
		i, found := list.index(id)
		if !found {
			return nil
		}
		list = list[i : i+1]
	} else if after != "" {
		i, found := list.index(after)
		if found {
			i++
		}
		list = list[i:]
	}
	for _, r := range list {
		if limit > 0 && len(rs) == limit {
			break
		}
		if !c.dead(&r.node, a.App) {
			rs = append(rs, r.Reminder)
		}
	}
	return rs
}

func formatMillis(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}
