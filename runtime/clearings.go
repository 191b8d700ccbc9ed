package runtime

import (
	"cmp"
	"slices"
)

// A clearing withdraws what of an app stands in front of a line and has not started: a
// drain, which waits for the rest as well, or a cancel of all. The line is drawn once,
// however often and of whichever owner it is asked under its id: what has come since
// the first asking stays.
type clearing struct {
	node
	cleared

	// memory
	at      int64  // monotonic ms
	upto    uint64 // the last seat in front of the line
	going   bool   // it was asked for in this term and is not over
	drains  bool   // it is over when all in front of the line has ended
	waiters []any
}

// cleared records one, in full.
type cleared struct {
	id   ID
	app  string
	line uint64 // the record that has drawn it; 0 for this one
	n    int    // what it has withdrawn
}

func (m *cleared) fields(c *codec) {
	c.id(1, &m.id)
	c.str(2, &m.app)
	c.u64(3, &m.line)
	c.int(4, &m.n)
}

func (c *Core) applyCleared(seq uint64, b *cleared) {
	x := c.clearings[b.id]
	if x == nil {
		x = &clearing{cleared: *b}
		if x.line == 0 {
			x.line = seq
			c.ended.add(c, b.id, seq)
		}
		c.clearings[b.id] = x
		c.clearingsOf[b.app]++
		c.ageClearing(x)
	}
	x.n = b.n
	c.keep.place(&x.node, seq, x)
}

// applyWithdrawn notes what a change has withdrawn under its id.
func (c *Core) applyWithdrawn(seq uint64, change ID) {
	if change.IsZero() {
		return
	}
	if x := c.clearings[change]; x != nil {
		x.n++
	}
	c.ended.add(c, change, seq)
}

// change is the id under which it withdraws, if any.
func (x *clearing) change() ID {
	if x == nil {
		return ID{}
	}
	return x.id
}

// count counts for one without an id, of which no record tells.
func (x *clearing) count() {
	if x != nil && x.id.IsZero() {
		x.n++
	}
}

func (c *Core) ageClearing(x *clearing) {
	x.at = c.now.Mono
	if c.owned {
		c.oldClears.add(x, x.at)
	}
}

// forgetClearings drops those that are over, or that nobody waits for.
func (c *Core) forgetClearings() {
	c.oldClears.forget(c.now.Mono-c.cfg.IDWindow, func(x *clearing, at int64) {
		switch {
		case x.at != at || c.clearings[x.id] != x:
		case x.going:
			c.ageClearing(x)
		default:
			c.dropClearing(x.id)
		}
	})
}

func (c *Core) dropClearing(id ID) {
	x := c.clearings[id]
	if x == nil {
		return
	}
	c.restDrain(x)
	c.keep.remove(&x.node)
	delete(c.clearings, id)
	if c.clearingsOf[x.app]--; c.clearingsOf[x.app] == 0 {
		delete(c.clearingsOf, x.app)
	}
}

// restDrain has a drain that goes on go on no more, until somebody asks for it again.
func (c *Core) restDrain(x *clearing) {
	if a := c.apps[x.app]; a != nil {
		if at := slices.Index(a.drains, x); at >= 0 {
			a.drains, x.going = slices.Delete(a.drains, at, at+1), false
		}
	}
}

// leaveClearing takes a waiter away. A drain without any is forgotten in time.
func (c *Core) leaveClearing(x *clearing, waiter any) {
	if x.waiters = without(x.waiters, waiter); len(x.waiters) == 0 {
		c.restDrain(x)
	}
}

// releaseClearing forgets one whose asker has the answer, or asks no more.
func (c *Core) releaseClearing(id ID, app string) {
	if x := c.clearings[id]; x != nil && x.app == app {
		c.dropClearing(id)
		c.released = append(c.released, id)
	}
}

// clearingsOfApp is how many of an app an owner knows.
const clearingsOfApp = 100

// spareClearing refuses one more than an app may have.
func (c *Core) spareClearing(app string) *Error {
	n := c.clearingsOf[app]
	if a := c.apps[app]; a != nil {
		n = max(n, len(a.drains)) // in a log of level 1 only those are known
	}
	if n < clearingsOfApp {
		return nil
	}
	return Errorf(CodeMailboxFull, "%d drains or cancels of all of app %s go on, or may be asked about again, in this partition", n, app)
}

// Drain withdraws what has not started and replies, with the number of those,
// when all that was there has ended.
type Drain struct {
	App    string
	ID     ID // under which it may be asked again
	Waiter any
}

func (in *Drain) decide(c *Core) {
	x := c.clear(in.ID, in.App, in.Waiter)
	if x == nil {
		return
	}
	x.drains = true
	if a := c.app(in.App); a.roll.first != nil && a.roll.first.n <= x.upto {
		at, _ := slices.BinarySearchFunc(a.drains, x.upto+1, func(y *clearing, upto uint64) int { return cmp.Compare(y.upto, upto) })
		a.drains = slices.Insert(a.drains, at, x)
	} else {
		c.dropApp(in.App)
		c.drained = append(c.drained, x)
	}
	c.withdrawAll(&withdrawal{app: in.App, upto: x.upto, code: CodeDrained, why: "the app was drained before this request started", clearing: x})
}

// CancelAll withdraws all requests of an app that have not started; the reply's Value is their number.
type CancelAll struct {
	App    string
	ID     ID // under which it may be asked again
	Waiter any
}

func (in *CancelAll) decide(c *Core) {
	if x := c.clear(in.ID, in.App, in.Waiter); x != nil {
		c.withdrawAll(&withdrawal{app: in.App, upto: x.upto, code: CodeCancelled, why: "the request was cancelled", clearing: x})
	}
}

// clear is the clearing that is to begin, or to go on in this term, for a waiter; nil
// when there is nothing to do.
func (c *Core) clear(id ID, app string, waiter any) *clearing {
	x := c.clearings[id]
	if x == nil {
		if c.repeated(id, app, waiter, counted) { // it is too old to be known
			return nil
		}
		if err := c.spareClearing(app); err != nil {
			c.refuse(waiter, err)
			return nil
		}
		if x = (&clearing{cleared: cleared{app: app}}); !id.IsZero() && c.LogLevel() >= 2 {
			c.emit(&cleared{id: id, app: app})
			x = c.clearings[id]
		}
		x.upto = c.enrolled
	}
	x.waiters = append(x.waiters, waiter)
	if x.going {
		return nil
	}
	x.going = true
	return x
}

func (c *Core) answerClearing(x *clearing) {
	for _, w := range x.waiters {
		c.replyValue(w, x.n)
	}
	x.waiters, x.going = nil, false
}

func (c *Core) refuseClearing(x *clearing, err *Error) {
	for _, w := range x.waiters {
		c.refuse(w, err)
	}
	x.waiters = nil
}

// leaveRoll takes a thing that has ended out of the roll of its app. Drains that
// waited for nothing else have ended with it.
func (c *Core) leaveRoll(a *appEntry, s *seat) {
	a.roll.remove(s)
	for len(a.drains) > 0 && (a.roll.first == nil || a.roll.first.n > a.drains[0].upto) {
		c.drained = append(c.drained, a.drains[0])
		a.drains[0] = nil
		a.drains = a.drains[1:]
	}
}

// checkDrains answers those that have ended.
func (c *Core) checkDrains() {
	for _, x := range c.drained {
		c.answerClearing(x)
	}
	c.drained = nil
}

// sortRolls puts what is open of each app into the order in which it came: in a trimmed
// log it stands in another. Then it is known where the lines of clearings are.
func (c *Core) sortRolls() {
	of := map[string][]*clearing{}
	for _, id := range sortedIDs(c.clearings) {
		x := c.clearings[id]
		of[x.app] = append(of[x.app], x)
	}
	for _, name := range sortedKeys(c.apps) {
		seats := c.apps[name].roll.sort()
		for _, x := range of[name] {
			if n, _ := slices.BinarySearchFunc(seats, x.line, func(s *seat, line uint64) int { return cmp.Compare(s.came(), line) }); n > 0 {
				x.upto = seats[n-1].n
			}
		}
	}
}
