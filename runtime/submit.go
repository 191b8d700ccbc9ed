package runtime

// Submit asks for a request to be accepted. Waiter gets the outcome (Call), or
// the id once it is durable (Promise, Tell, Remove).
type Submit struct {
	Request Request
	Waiter  any
	// View is what the store said about Request.Key (see KeyInStore); only for
	// keyed requests.
	View *View
	// Vouched is set for what a request in another partition sends, by the owner
	// of that parent (see Vouch).
	Vouched *Vouched
}

// Vouched is what the owner of the parent says of a nested call.
type Vouched struct {
	Flow      ID
	Parents   []ID
	Partition uint16
	Epoch     uint64
	// Generation of the app where the parent lives: neither it nor the child
	// may outlive a purge that the other has heard of.
	Generation uint64
	// Step is the caller's step plus one, 0 for several callers.
	Step uint32
}

func (in *Submit) decide(c *Core) {
	r := &in.Request
	if first, waiters := c.open(r.ID); first != nil {
		if first.Target.App != r.Target.App || !first.answers(r.Kind) {
			c.refuse(in.Waiter, &Error{CodeBadID, "the request id was made for another request", r.ID})
		} else {
			c.wait(r.ID, r.Kind, waiters, in.Waiter)
			if r.Kind == Call {
				c.seek(r.ID, r.Boot)
			}
			c.armOpen(r.ID)
		}
		return
	}
	flow, parents, err := c.callers(in)
	if err != nil && err.Code == CodePurged { // no key of another life of the app is for it
		c.refuse(in.Waiter, err)
		return
	}
	if r.Key != "" && c.repeatOfKey(in, flow, parents, err) {
		return
	}
	if r.Kind != Call && c.ended.has(r.ID) { // it waited for the id only
		c.reply(in.Waiter, nil, r.ID)
		return
	}
	if c.answerEnded(r.ID, r.Target.App, in.Waiter) {
		return
	}
	if err := c.idAge(r.ID); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	if err := c.lostCaller(r.Boot); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	b := &accepted{req: *r, flow: r.ID, home: c.cfg.Partition, at: c.now.Wall}
	if v := in.Vouched; v != nil {
		if v.Epoch < c.fences[v.Partition] {
			c.refuse(in.Waiter, Errorf(CodeAskAgain, "the caller's partition has a new owner"))
			return
		}
		b.flow, b.parents, b.parentPart, b.parentEpoch, b.parentStep = flow, parents, v.Partition, v.Epoch, v.Step
	} else if r.Session != "" {
		if err != nil {
			c.refuse(in.Waiter, err)
			return
		}
		if !flow.IsZero() {
			b.flow = flow
		}
		if r.Kind == Call {
			if err := c.spareLinks(parents); err != nil {
				c.refuse(in.Waiter, err)
				return
			}
		}
		b.parents, b.parentPart, b.parentEpoch, b.parentStep = parents, c.cfg.Partition, c.epoch, c.callerStep(parents)
	}
	vouched := len(b.parents) > 0 // a request that runs here or elsewhere is known to have sent it
	if r.Kind != Call {           // tells and promises run in a flow of their own
		b.flow, b.parents, b.parentStep = r.ID, nil, 0
	}
	if err := c.admit(r, vouched); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	if c.refuseLarge(in.Waiter, "the request", b.req.bytes()+16*len(b.parents)) {
		return
	}
	b.req.Session = ""
	c.accept(b, in.Waiter)
}

// callers are those of a request: what was vouched for, or what its session says here. It
// is refused with CodePurged when they are of an earlier life of the app.
func (c *Core) callers(in *Submit) (flow ID, parents []ID, err *Error) {
	r := &in.Request
	v := in.Vouched
	switch {
	case v == nil && r.Session != "":
		return c.session(r)
	case v == nil:
		return ID{}, nil, nil
	}
	c.changeApp(&appChanged{app: r.Target.App, generation: v.Generation})
	if v.Generation < c.generation(r.Target.App) {
		err = &Error{CodePurged, "the app was purged while this method ran", r.ID}
	}
	return v.Flow, v.Parents, err
}

// admit keeps the outside door: limits on what may wait. What a known request
// sends and KAR's own tells are never refused here; a session alone proves nothing.
func (c *Core) admit(r *Request, vouched bool) *Error {
	if err := checkPath(r.Target, r.Path, CodeBadRequest); err != nil {
		return err
	}
	if r.stores() {
		if err := c.roomFor(r.ID, len(r.Key)); err != nil {
			return err
		}
	}
	if vouched {
		return nil
	}
	if c.cfg.MailboxLimit <= 0 {
		return c.spareFor(r)
	}
	n := 0
	if r.Target.IsActor() {
		if a := c.actors[r.Target.Actor()]; a != nil {
			n = c.alive(&a.queue, r.Target.App)
		}
	} else if p := c.parked[componentOf(r.Target)]; p != nil {
		n = c.alive(&p.requests, r.Target.App) + c.alive(&p.awaited, r.Target.App)
	}
	if n >= c.cfg.MailboxLimit {
		return Errorf(CodeMailboxFull, "%d requests wait for %s already", n, describe(r.Target))
	}
	return c.spareFor(r)
}

func describe(t Target) string {
	if t.IsActor() {
		return "actor " + t.Type + " " + clip(t.ID, 80) + " of app " + t.App
	}
	return "service " + t.Service + " of app " + t.App
}

// accept records the request, tells or remembers the waiter, and lets it run.
func (c *Core) accept(b *accepted, waiter any) *entry {
	c.emit(b)
	c.Counts.Accepted++
	e := c.entries[b.req.ID]
	e.since = c.now.Mono
	c.wait(b.req.ID, b.req.Kind, &e.waiters, waiter)
	c.arm(e)
	c.touchTarget(e)
	return e
}

func (c *Core) touchTarget(e *entry) {
	if e.phase == delayed {
		return
	}
	switch {
	case e.req.Target.IsActor():
		a := c.actorEntry(e.req.Target.Actor())
		if e.phase == held || e.phase == stopped {
			a.look(e)
		}
		c.waive(e)
		c.touch(a)
	case e.phase == stopped:
		c.woken = append(c.woken, e)
	default:
		c.touchParked(componentOf(e.req.Target))
	}
}

// open finds the request that this id or key stands for while it has no
// outcome: as it was accepted, and who waits for it.
func (c *Core) open(id ID) (first *Request, waiters *[]any) {
	if h := c.homes[id]; h != nil {
		return &h.req, &h.waiters
	}
	if e := c.entries[id]; e != nil && e.home == c.cfg.Partition {
		return &e.req, &e.waiters
	}
	return nil, nil
}

// answers reports whether a repeat of that kind can be answered truly: who
// tells hears that the request was accepted; who calls, or takes a promise, may
// ask for an outcome, so there must be one to be had for as long.
func (r *Request) answers(repeat Kind) bool {
	kept := r.Key != "" || r.Kind == Promise
	switch {
	case (r.Kind == Remove) != (repeat == Remove):
		return false
	case repeat == Call:
		return kept || r.Kind == Call
	case repeat == Promise:
		return kept
	}
	return true
}

// wait lets the waiter of a repeat of that kind wait for the outcome, or
// answers it: only a call waits.
func (c *Core) wait(id ID, kind Kind, waiters *[]any, waiter any) {
	switch {
	case waiter == nil:
	case kind != Call:
		c.reply(waiter, nil, id)
	default:
		*waiters = append(*waiters, waiter)
	}
}

// armOpen lets the deadline answer whoever asks again after it has passed, while
// there was no owner to say so.
func (c *Core) armOpen(id ID) {
	if h := c.homes[id]; h != nil { // of a chain that has come home again, too
		c.armAway(h)
	} else if e := c.entries[id]; e != nil && e.home == c.cfg.Partition {
		c.arm(e)
	}
}

// idAge refuses ids that can no longer be told from repeats of ended requests.
func (c *Core) idAge(id ID) *Error {
	switch age := c.now.Wall - id.Millis(); {
	case age > c.cfg.IDWindow/2:
		return &Error{CodeTooOld, "the request id is older than half of the id window", id}
	case id.Millis() < c.youngest:
		return &Error{CodeTooOld, "an earlier owner of the partition, whose id window was shorter, may have forgotten the request", id}
	case age < -120_000:
		return &Error{CodeFuture, "the request id lies in the future", id}
	}
	return nil
}

// answerEnded answers a waiter for a request that is no longer open.
func (c *Core) answerEnded(id ID, app string, waiter any) bool {
	if x := c.endings[id]; x != nil && x.app == app && !x.isChange() && !c.dead(&x.node, app) {
		c.reply(waiter, x.outcome, id)
		return true
	}
	if c.ended.has(id) {
		c.refuse(waiter, &Error{CodeOutcomeNotKept, "the request completed, its outcome was not kept", id})
		return true
	}
	return false
}

// Await asks for the outcome of an earlier request.
type Await struct {
	App    string // "" for any: the question of another partition
	ID     ID
	Boot   string // the host whose work waits, "" for a client outside
	Waiter any
	// View is what the store said about the outcome (see OutcomeInStore). Without it only
	// what is open, or has just ended, is answered; all else is to be asked with it.
	View *View
}

func (in *Await) decide(c *Core) {
	if in.App != "" && !in.ID.OfApp(in.App) {
		c.refuse(in.Waiter, &Error{CodeUnknownRequest, "no request of app " + in.App + " has this id", in.ID})
		return
	}
	if first, waiters := c.open(in.ID); first != nil {
		switch {
		case in.App != "" && first.Target.App != in.App:
			c.refuse(in.Waiter, &Error{CodeUnknownRequest, "no request of app " + in.App + " has this id", in.ID})
			return
		case in.App == "" && first.Kind != Call:
			c.reply(in.Waiter, nil, in.ID) // who sent it waits for no more
			return
		}
		*waiters = append(*waiters, in.Waiter)
		c.seek(in.ID, in.Boot)
		return
	}
	if x := c.borrowings[in.ID]; x != nil && in.App == "" {
		if _, waiters := c.open(x.lent); waiters != nil {
			*waiters = append(*waiters, in.Waiter)
			c.beGuest(in.Waiter, guest{of: x.lent, call: x.id})
			return
		}
	}
	if in.App == "" {
		// Another partition wants to know that it has ended, not how.
	} else if o, again := c.storedOutcome(in.View, in.ID, in.App); o != nil {
		c.reply(in.Waiter, o, in.ID)
		return
	} else if again || in.View == nil {
		c.reread(in.Waiter)
		return
	}
	if c.answerEnded(in.ID, in.App, in.Waiter) {
		return
	}
	if c.now.Wall-in.ID.Millis() > c.cfg.IDWindow || in.ID.Millis() < c.youngest {
		c.refuse(in.Waiter, &Error{CodeTooOld, "the request is older than the id window and no outcome is kept", in.ID})
		return
	}
	c.refuse(in.Waiter, &Error{CodeUnknownRequest, "no request has this id", in.ID})
}

// Leave takes a waiter away; the request, or what of a change of an app has begun, goes on.
type Leave struct {
	ID     ID
	Waiter any
}

func (in *Leave) decide(c *Core) {
	id := in.ID
	if g, is := c.guests[in.Waiter]; is {
		id = g.of
		delete(c.guests, in.Waiter)
	}
	if e := c.entries[id]; e != nil {
		e.waiters = without(e.waiters, in.Waiter)
	}
	if h := c.homes[id]; h != nil {
		h.waiters = without(h.waiters, in.Waiter)
	}
	if x := c.clearings[id]; x != nil {
		c.leaveClearing(x, in.Waiter)
	}
}

func without(ws []any, w any) []any {
	for i := range ws {
		if ws[i] == w {
			return append(ws[:i], ws[i+1:]...)
		}
	}
	return ws
}

// Release says that the callers, which are of the app, have these outcomes, or ask no
// more for these drains and cancels of all.
type Release struct {
	App string
	IDs []ID
}

func (in *Release) decide(c *Core) {
	for _, id := range in.IDs {
		if x := c.endings[id]; x != nil && x.app == in.App {
			c.dropEnding(id)
			c.released = append(c.released, id)
		}
		c.releaseClearing(id, in.App)
	}
}

// Cancel withdraws a request; the reply's Value is "cancelled", "running" or "completed".
// Asked again under the id of the Change, it knows what it has withdrawn itself.
type Cancel struct {
	App    string
	ID     ID
	Change ID
	Waiter any
}

func (in *Cancel) decide(c *Core) {
	c.endIfPurged(in.ID)
	switch first, _ := c.open(in.ID); {
	case first != nil && first.Target.App == in.App:
		c.replyValue(in.Waiter, c.cancel(in.ID, in.Change))
	case c.ended.has(in.Change):
		c.replyValue(in.Waiter, "cancelled")
	case c.ended.has(in.ID) && in.ID.OfApp(in.App):
		c.replyValue(in.Waiter, "completed")
	default:
		c.refuse(in.Waiter, &Error{CodeUnknownRequest, "no open request of app " + in.App + " has this id", in.ID})
	}
}

// cancel withdraws a request that is open at its home, wherever its chain is.
func (c *Core) cancel(id, change ID) string {
	return c.withdrawOpen(id, &Error{CodeCancelled, "the request was cancelled", id}, change)
}

func (c *Core) withdrawOpen(id ID, why *Error, change ID) string {
	h, e := c.homes[id], c.entries[id]
	if h != nil {
		h.answered = true
		c.tellWaiters(id, &h.waiters, why)
	}
	if e != nil {
		return c.withdraw(e, why, change)
	}
	if !h.cancelled {
		c.withdrawAway(h)
	}
	return "running"
}

// withdraw ends a request that has not started, or whose next step or attempt
// has not; one that runs, or of whose last attempt something may still run, keeps
// its lock until that has ended, gets no further attempt, and its waiters are told.
func (c *Core) withdraw(e *entry, why *Error, change ID) string {
	if e.attempt == 0 {
		c.endBy(e, why.Outcome(), change)
		return "cancelled"
	}
	if !e.cancelled {
		c.emit(&cancelled{e.req.ID})
	}
	e.answered = true
	c.tellWaiters(e.req.ID, &e.waiters, why)
	if c.giveUpBy(e, change) { // it waited for its next attempt
		return "cancelled"
	}
	c.touchTarget(e)
	return "running"
}

// tellWaiters answers those who wait now; the request goes on.
func (c *Core) tellWaiters(id ID, waiters *[]any, why *Error) {
	for _, w := range *waiters {
		c.answerOpen(w, id, why)
	}
	*waiters = nil
}

func (c *Core) answerOpen(waiter any, id ID, why *Error) {
	if waiter != nil {
		delete(c.guests, waiter)
		c.effect(Effect{Kind: Reply, Waiter: waiter, Outcome: why.Outcome(), Open: true, ID: id})
	}
}

// A withdrawal ends, in pieces, those requests of an app, or of a calling boot that
// was lost, that have not started.
type withdrawal struct {
	app, boot   string // one of them
	after, upto uint64 // what has these numbers in the roll is left to be looked at
	code        Code
	why         string
	clearing    *clearing     // which asked for it; nil for a boot
	then        []*withdrawal // of the same: each goes on behind the one before it
}

// withdrawAll begins a withdrawal. What another one of the same goes through needs no
// second look: it ends, or has started.
func (c *Core) withdrawAll(w *withdrawal) {
	for _, x := range c.withdrawals {
		if x.app == w.app && x.boot == w.boot {
			w.after = x.upto
			if n := len(x.then); n > 0 {
				w.after = max(w.after, x.then[n-1].upto)
			}
			x.then = append(x.then, w)
			return
		}
	}
	c.withdrawals = append(c.withdrawals, w)
	c.pieces = c.withdrawSome(c.pieces)
}

// next is what has the next number.
func (w *withdrawal) next(c *Core) *seat {
	if w.boot == "" {
		return c.openOf(w.app, w.after)
	}
	if r := c.cancels[w.boot]; r != nil {
		return r.behind(w.after)
	}
	return nil
}

// withdrawSome goes on with one withdrawal after the other; it returns what is left of n.
func (c *Core) withdrawSome(n int) (left int) {
	for ; len(c.withdrawals) > 0 && n > 0; n-- {
		w := c.withdrawals[0]
		s := w.next(c)
		if s == nil || s.n > w.upto {
			c.withdrawals = c.withdrawals[1:]
			if x := w.clearing; x != nil && !x.drains {
				c.answerClearing(x)
			}
			if len(w.then) > 0 {
				next := w.then[0]
				next.then = w.then[1:]
				c.withdrawals = append(c.withdrawals, next)
			}
			continue
		}
		w.after = s.n
		if e := s.e; e != nil && !e.hasStarted() && !c.isPurged(e) {
			c.endBy(e, (&Error{w.code, w.why, e.req.ID}).Outcome(), w.clearing.change())
			w.clearing.count()
		}
	}
	if len(c.withdrawals) > 1 {
		c.withdrawals = turn(c.withdrawals)
	}
	return n
}
