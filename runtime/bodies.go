package runtime

import "slices"

// Accepted work takes memory until it ends. Its bodies need not: they stand in
// the log. An owner whose node runs short of memory lets go of the bodies that
// are needed last, and asks for one again (NeedBody) when an attempt is to be
// sent, or when the record that holds it is to be kept. What a body is has no
// part in any decision, so that an owner with little memory decides as one with
// much.

const (
	// workBytes is about what a request takes beside its body, path and headers.
	workBytes = 1536
	// linkBytes is about what it takes for each of its callers.
	linkBytes = 64
	// leastShed is the smallest body, in bytes, that is worth reading again.
	leastShed = 512
	// keepReads bounds the bytes of bodies that are read at a time to be kept.
	keepReads = 8 << 20
)

// What an app may take of WorkBytes, as divisors.
const (
	appShare = 2
	// fairShare is what an app may have when others have taken all: nobody closes the
	// door for everybody.
	fairShare = 16
	// eventShare is for a beginning: events wait in their topic, and due reminders where
	// they are, at no cost.
	eventShare = 8
)

// A load is what the open requests of a partition take.
type load struct {
	held    int64    // bytes in memory
	lasting int64    // bytes of reminders and subscriptions, in memory as well
	total   int64    // bytes, with the bodies that are in the log only
	bodies  []*entry // whose body was in memory, oldest first; some have ended or let go of it
	bodied  int      // how many in bodies have theirs
	waits   int64    // bytes of bodies that are being read to be kept
	spare   int64    // bytes of memory left on the node, when it is limited
	room    int64    // and how many it has for work
	bound   bool
	least   int // leastShed, or what a test wants
}

// weigh counts an entry that has come, or has another body.
func (c *Core) weigh(seq uint64, e *entry) {
	e.size, e.bodyAt, e.weight = len(e.req.Body), seq, workBytes+linkBytes*len(e.parents)+len(e.req.Path)+len(e.req.Target.ID)
	for name, values := range e.req.Header {
		for _, v := range values {
			e.weight += len(name) + len(v) + 32
		}
	}
	l := &c.load
	l.held += int64(e.weight + e.size)
	c.weighWork(e, int64(e.weight+e.size))
	if e.size < l.least {
		return
	}
	l.bodied++
	if len(l.bodies) > 2*l.bodied+1024 {
		l.bodies = slices.DeleteFunc(l.bodies, func(e *entry) bool { return !l.sheds(e) })
	}
	l.bodies = append(l.bodies, e)
}

// unweigh takes an entry out of the count that ends, or gets another body.
func (c *Core) unweigh(e *entry) {
	l := &c.load
	l.held -= int64(e.weight + len(e.req.Body))
	c.weighWork(e, -int64(e.weight+e.size))
	if l.sheds(e) {
		l.bodied--
	}
	c.unread(e)
}

func (c *Core) weighWork(e *entry, more int64) {
	a := c.app(e.req.Target.App)
	c.load.total += more
	a.bytes += more
	if e.from.key != "" {
		a.events += more
	}
	if e.fired != nil {
		a.fired += more
	}
}

// sheds tells an entry with a body in memory that is worth to be let go of.
func (l *load) sheds(e *entry) bool {
	return e.phase != gone && len(e.req.Body) >= max(l.least, 1)
}

// absent tells that the body is in the log only.
func (e *entry) absent() bool { return len(e.req.Body) < e.size }

// Held is how many bytes of memory the open requests take, and reminders and
// subscriptions.
func (c *Core) Held() int64 { return c.load.held + c.load.lasting }

// Shed lets go of bodies, of what came last first, until n bytes are free or
// nothing is left.
func (c *Core) Shed(n int64) {
	l := &c.load
	for n > 0 && len(l.bodies) > 0 {
		last := len(l.bodies) - 1
		e := l.bodies[last]
		l.bodies[last] = nil
		l.bodies = l.bodies[:last]
		if !l.sheds(e) {
			continue
		}
		if e.req.Key != "" && e.req.sum == 0 {
			e.req.sum, e.summed = e.req.bodySum(), true
		}
		l.bodied--
		l.held -= int64(e.size)
		n -= int64(e.size)
		e.req.Body = nil
	}
}

// SetSpare says how many bytes of memory the node has left for accepted work, of how
// many; what this core accepts from now on counts against it.
func (c *Core) SetSpare(bytes, of int64) { c.load.spare, c.load.room, c.load.bound = bytes, of, true }

// spareFor refuses work from outside for which there is no room.
func (c *Core) spareFor(r *Request) *Error {
	need, of := int64(workBytes+len(r.Body)), int64(0)
	if a := c.apps[r.Target.App]; a != nil {
		of = a.bytes
	}
	switch limit := c.cfg.WorkBytes; {
	case limit > 0 && of+need > limit/appShare:
		return Errorf(CodeMailboxFull, "unfinished requests of app %s take %d MB of this partition already", r.Target.App, of>>20)
	case limit > 0 && c.load.total+need > limit && of+need > limit/fairShare:
		return Errorf(CodeMailboxFull, "unfinished requests take %d MB of this partition already, those of app %s %d MB", c.load.total>>20, r.Target.App, of>>20)
	case c.load.bound && need > c.load.spare:
		return Errorf(CodeMailboxFull, "the gateway has no memory left for more unfinished requests")
	}
	c.load.spare -= need
	return nil
}

// eventsOf is what the unfinished events of an app take.
func (c *Core) eventsOf(app string) int64 {
	if a := c.apps[app]; a != nil {
		return a.events
	}
	return 0
}

// eventWaits tells that an event stays in its topic, for its app has enough of them. One
// may come to an app that has none, whatever its size.
func (c *Core) eventWaits(r *Request) bool {
	need := int64(workBytes + len(r.Body))
	if c.crowded(c.eventsOf(r.Target.App), need, c.cfg.WorkBytes/eventShare) {
		return true
	}
	c.load.spare -= need
	return false
}

// busy tells that an app has more than half of the events that it may have, or the node
// no memory for more, so that what waits is not looked at in vain, nor after each that
// ends.
func (c *Core) busy(app string) bool {
	return c.crowded(c.eventsOf(app), workBytes, c.cfg.WorkBytes/eventShare/2)
}

// firingWaits tells that a due reminder waits, for its app has enough of what reminders
// have become: as much as of events, so that neither waits for the other.
func (c *Core) firingWaits(r *reminderEntry, part int64) bool {
	of := int64(0)
	if a := c.apps[r.Actor.App]; a != nil {
		of = a.fired
	}
	return c.crowded(of, r.weight(), c.cfg.WorkBytes/eventShare/part)
}

// crowded tells who has something already that need more bytes are beyond a share, or
// take the last quarter of the node's memory, which is for those who cannot wait.
func (c *Core) crowded(of, need, share int64) bool {
	return of > 0 && (c.cfg.WorkBytes > 0 && of+need > share || c.load.bound && need > c.load.spare-c.load.room/4)
}

// weighLasting counts what an app has in memory that is no work: its reminders
// and subscriptions.
func (c *Core) weighLasting(app string, more int) {
	c.load.lasting += int64(more)
	c.app(app).lasting += int64(more)
}

// spareLasting refuses what would stay in memory until it is deleted, and for which there
// is no room. Of the node's memory it takes no part of the last quarter.
func (c *Core) spareLasting(app string, more int) *Error {
	if more <= 0 {
		return nil
	}
	need, of := int64(more), int64(0)
	if a := c.apps[app]; a != nil {
		of = a.lasting
	}
	switch limit := c.cfg.WorkBytes; {
	case limit > 0 && of+need > limit/appShare, limit > 0 && c.load.lasting+need > limit && of+need > limit/fairShare:
		return Errorf(CodeMailboxFull, "reminders and subscriptions take %d MB of this partition already, those of app %s %d MB", c.load.lasting>>20, app, of>>20)
	case c.load.bound && need > c.load.spare-c.load.room/4:
		return Errorf(CodeMailboxFull, "the gateway has no memory left for more reminders and subscriptions")
	}
	c.load.spare -= need
	return nil
}

// need asks for the body of an entry, once.
func (c *Core) need(e *entry) {
	if !e.asked {
		e.asked = true
		c.effect(Effect{Kind: NeedBody, ID: e.req.ID, N: e.bodyAt})
	}
}

// keepWhenRead has an entry be kept when its body is there. It reports whether
// more may be asked for.
func (c *Core) keepWhenRead(e *entry) bool {
	if e.keeping {
		return true
	}
	if c.load.waits > 0 && c.load.waits+int64(e.size) > keepReads {
		return false
	}
	e.keeping = true
	c.load.waits += int64(e.size)
	c.need(e)
	return true
}

func (c *Core) unread(e *entry) {
	if e.keeping {
		e.keeping = false
		c.load.waits -= int64(e.size)
	}
}

// Reading tells that live things wait to be kept until their bodies are there.
func (c *Core) Reading() bool { return c.load.waits > 0 }

// BodyRead answers NeedBody: the body that the record at position At holds.
// Found is false when the log has no such record any more: when At still is the
// place of the body, it is lost.
type BodyRead struct {
	ID    ID
	At    uint64
	Body  []byte
	Found bool
}

func (in *BodyRead) decide(c *Core) {
	e := c.entries[in.ID]
	if e == nil || !e.asked {
		return
	}
	e.asked = false
	switch {
	case c.isPurged(e):
		c.unread(e)
	case in.At != e.bodyAt: // it was kept meanwhile, or has another body
		if e.keeping || e.unsent && e.phase == running {
			c.need(e)
		}
	case in.Found:
		c.bodyRead(e, in)
	case e.phase == running && !e.inside:
		c.unread(e) // its host may run it, and then it ends by its answer; another attempt would ask again
	default:
		c.end(e, (&Error{CodeBodyLost, "the record of the log that held the body was deleted by somebody else before the request could run", e.req.ID}).Outcome())
	}
}

func (c *Core) bodyRead(e *entry, in *BodyRead) {
	if e.keeping {
		c.unread(e)
		if c.keep.stuck = c.outgrown(&e.node); !c.keep.stuck { // the limit may be lower since it was asked for
			k := c.keptOf(e)
			k.req.Body = in.Body
			if e.summed {
				k.req.sum = 0
			}
			c.emit(k)
		}
	}
	if e.unsent && e.phase == running {
		if e.inside {
			e.inside, e.leaves = false, c.rounds+1
		}
		e.unsent = false
		if h := c.hosts[e.host]; h != nil {
			h.give(e) // what the host has said before is not about this
		}
		c.sendAttempt(e, in.Body)
	}
}

// BodyIn is the body of a request in the record of the log that has this position.
func BodyIn(record []byte, id ID, at uint64) (body []byte, found bool) {
	r, err := DecodeRecord(record)
	if err != nil || r.Seq != at {
		return nil, false
	}
	switch b := r.Body.(type) {
	case *accepted:
		return b.req.Body, b.req.ID == id
	case *continued:
		return b.body, b.id == id
	case *keptRequest:
		return b.req.Body, b.req.ID == id
	}
	return nil, false
}
