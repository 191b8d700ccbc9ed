package runtimetest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A witness stands outside: it sees what runs on hosts and what callers are
// told, never what the owners think, and judges by the promises alone.
type witness struct {
	s          *sim
	violations []string
	flaky      int64               // appends are unreliable until then
	operates   int                 // purges and drains of simApp under way
	purges     int                 // purges of it alone
	raised     map[runtime.ID]bool // the ids under which those were asked for
	wasPurged  bool
	purgedAt   int64 // when its last purge was done
	drains     []simDrain
	lives      []*simLife
	cancels    map[string]int // app → cancellations of everything under way

	reqs     map[runtime.ID]*seen
	children map[runtime.ID][]*seen          // by the request that called them
	byActor  map[runtime.Actor][]*simAttempt // in order of start
	state    map[runtime.Actor]*stateModel
	tells    map[runtime.Actor][]*seen // acknowledged, not started, in order of acknowledgement
	firings  map[runtime.ID]simFiring
	events   map[string]map[runtime.ID]bool
	keyed    map[string]simKeyed
	keyStart map[string]runtime.ID
}

// seen is what is known of one request.
type seen struct {
	id        runtime.ID
	app       string
	kind      runtime.Kind
	target    runtime.Target
	submitted int64 // by a client
	made      int64 // by an attempt
	arrived   int64
	teller    *simAttempt // of a tell or promise
	wild      bool        // its session was made up: anything may be answered
	never     bool        // the client was told that it is cancelled and had not started
	told      bool        // its caller was told something
	limits    map[runtime.Code]bool
	deadline  int64
	acked     int64
	refused   bool // its actor's activation was
	cancelled bool
	outcome   string
	over      bool // somebody was told the outcome
	borrowed  bool // which was that of its key: without the key it may run
	lent      simKeyed
	starts    []*simAttempt
	attempts  uint32 // the highest number of one that has begun
	parent    *simAttempt
	from      map[uint32]string // step → token of the attempt that asked for it
}

func newWitness(s *sim) *witness {
	return &witness{s: s, reqs: map[runtime.ID]*seen{}, children: map[runtime.ID][]*seen{}, byActor: map[runtime.Actor][]*simAttempt{}, state: map[runtime.Actor]*stateModel{},
		tells: map[runtime.Actor][]*seen{}, firings: map[runtime.ID]simFiring{}, cancels: map[string]int{}, events: map[string]map[runtime.ID]bool{},
		keyed: map[string]simKeyed{}, keyStart: map[string]runtime.ID{}, raised: map[runtime.ID]bool{}}
}

func (w *witness) fail(format string, args ...any) {
	v := fmt.Sprintf("at %d ms: ", w.s.now) + fmt.Sprintf(format, args...)
	w.s.trace("VIOLATION %s", v)
	w.violations = append(w.violations, v)
}

func (w *witness) req(id runtime.ID) *seen {
	r := w.reqs[id]
	if r == nil {
		r = &seen{id: id, from: map[uint32]string{}}
		w.reqs[id] = r
	}
	return r
}

func (w *witness) submitted(r *runtime.Request) {
	x := w.req(r.ID)
	x.kind, x.target, x.submitted, x.app = r.Kind, r.Target, w.s.now, r.Target.App
	x.deadline = r.Deadline - simStart
	x.limits = map[runtime.Code]bool{runtime.CodeDeadline: r.Deadline > 0, runtime.CodeMissingComponent: r.NoHost > 0, runtime.CodeActorBusy: r.Busy > 0}
	w.s.trace("client submits %s kind %d to %s%s key %q", r.ID, r.Kind, r.Target.ID, r.Target.Service, r.Key)
	if r.Kind == runtime.Remove {
		w.vanishes(r.Target.Actor())
	}
}

func (w *witness) cancelled(id runtime.ID) { w.req(id).cancelled = true }

// operated: an operator withdraws requests of the app right now.
func (w *witness) operated(app string) bool {
	return app == simApp && w.operates > 0 || w.cancels[app] > 0
}

// purging: what is told of the app may be of two generations.
func (w *witness) purging(app string) bool { return app == simApp && w.purges > 0 }

// forgive: what is there may be withdrawn by a purge, which also frees keys and
// ends groups.
func (w *witness) forgive(app string) {
	for _, r := range w.reqs {
		if r.app == app {
			r.cancelled = true
			r.over = r.over && !r.borrowed
		}
	}
	w.forgetEvents(app)
	w.wasPurged = true
}

// withdrawn: what has not started may be withdrawn by a drain; the rest must end.
func (w *witness) withdrawn(app string) {
	for _, r := range w.reqs {
		if r.app == app && len(r.starts) == 0 {
			r.cancelled = true
		}
	}
}

// drained: nothing goes on that was there when the drain began.
func (w *witness) drained(app string, began int64) {
	w.withdrawn(app)
	w.drains = append(w.drains, simDrain{app: app, began: began, done: w.s.now})
}

// afterDrain: a drain waits for what runs, and for where that leads.
func (w *witness) afterDrain(x *simAttempt, r *seen) {
	if r.app == simApp && w.wasPurged && x.m.Attempt.ID.Millis() <= simStart+w.purgedAt {
		return // a purge has ended it; its host, which stood still, begins it late
	}
	for _, d := range w.drains {
		if d.app == r.app && !d.partly && len(r.starts) > 0 && r.starts[0].began < d.began && x.began > d.done {
			w.fail("P1: %s begins after a drain that began at %d was done at %d", x.token(), d.began, d.done)
		}
	}
}

// purged: nothing is left of the state that was there when it began.
func (w *witness) purged(app string, gone, old []*simWrite) {
	w.purgedAt = w.s.now
	w.wrote(gone, false, true)
	for _, x := range old {
		if x.to == math.MaxInt64 && x.boot != "" {
			x.from = math.MaxInt64 // of a generation that can write no more
		}
	}
	for k := range w.keyed {
		if strings.HasPrefix(k, app+"|") {
			delete(w.keyed, k)
		}
	}
}

func (w *witness) called(x *simAttempt, c *runtime.Request) {
	r := w.req(c.ID)
	r.app, r.made, r.kind = x.h.name, w.s.now, c.Kind
	r.cancelled = r.cancelled || c.CancelWithCaller
	switch {
	case x.m.Session == "": // a service has none: its calls have no known parent
	case c.Kind == runtime.Call:
		r.parent = x
		w.children[x.m.Attempt.ID] = append(w.children[x.m.Attempt.ID], r)
	default:
		r.teller = x
	}
	w.s.trace("%s calls %s", x.token(), c.ID)
}

// asked: the request has reached an owner for the first time.
func (w *witness) asked(id runtime.ID) {
	if r := w.req(id); r.arrived == 0 {
		r.arrived = w.s.now
	}
}

// notLate: what an attempt sends that has been replaced has no effect (P3).
func (w *witness) notLate(x *simAttempt, r *seen) {
	if r.teller == nil || len(r.starts) > 0 || w.purging(r.app) {
		return
	}
	for _, y := range w.req(r.teller.m.Attempt.ID).starts {
		if newer(y, r.teller) && y.began < r.arrived {
			w.fail("P3: %s was sent by %s and arrived after %s had begun", x.token(), r.teller.token(), y.token())
		}
	}
}

// toldOfCancel: a request that was cancelled before it started never runs.
func (w *witness) toldOfCancel(id runtime.ID, e *runtime.Effect) {
	if e.Err == nil && e.Value == "cancelled" {
		w.s.trace("%s was cancelled", id)
		w.req(id).never = true
	}
}

// answered: a caller was told something about its request.
func (w *witness) answered(r *runtime.Request, e *runtime.Effect) {
	x := w.req(r.ID)
	if !x.told {
		w.inTime(x)
	}
	x.told = true
	switch {
	case e.Err != nil && x.wild:
	case e.Err != nil && e.Err.Code == runtime.CodeMailboxFull && w.s.opt.Limits && (x.parent == nil || x.parent.done):
		x.cancelled = true
	case e.Err != nil && (x.cancelled || w.operated(x.app)):
	case e.Err != nil:
		w.s.trace("%s is refused: %v", r.ID, e.Err)
		switch e.Err.Code {
		case runtime.CodeTooOld:
			w.s.report.TooOld++
			if !w.tooOld(r.ID) {
				w.fail("P1: %s was refused: %v", r.ID, e.Err)
			}
		case runtime.CodeSuperseded, runtime.CodeHostLost, runtime.CodeOutcomeNotKept, runtime.CodePurged:
		default:
			w.fail("P1: %s was refused: %v", r.ID, e.Err)
		}
	case r.Kind != runtime.Call:
		if x.acked == 0 {
			x.acked = w.s.now
			if r.Kind == runtime.Tell && r.NotBefore == 0 && r.Target.IsActor() && !x.cancelled {
				a := r.Target.Actor()
				if len(x.starts) == 0 {
					w.tells[a] = append(w.tells[a], x)
				}
			}
		}
	default:
		x.acked = max(x.acked, 1)
		w.outcome(r, e)
	}
}

func (w *witness) awaited(r *runtime.Request, e *runtime.Effect) {
	if e.Err != nil && (w.operated(r.Target.App) || w.req(r.ID).cancelled) {
		return
	}
	if e.Err != nil && w.s.opt.Short && w.s.now+simStart-r.ID.Millis() > simRetention-2000 {
		return
	}
	if e.Err != nil {
		w.fail("P2: the outcome of promise %s is refused: %v", r.ID, e.Err)
		return
	}
	w.outcome(r, e)
}

// A simKeyed is the outcome that was told under a key; ended is a time at which
// it was not recorded yet, 0 when nobody saw it run.
type simKeyed struct {
	outcome string
	ended   int64
}

// keyExpired: the key was free again when x started.
func (w *witness) keyExpired(old simKeyed, x *seen) bool {
	return w.s.opt.Short && (len(x.starts) == 0 || x.starts[0].began > old.ended+simRetention-2000)
}

// keyIsFree: all that was told of r was the outcome of its key, by another request
// that the key names no longer. A purge that is over has been seen to by forgive.
func (w *witness) keyIsFree(r *seen) bool {
	return r.borrowed && (w.purging(r.app) || w.s.opt.Short && w.s.now > r.lent.ended+simRetention-2000)
}

func (r *seen) lastEnd() int64 {
	at := int64(0)
	for _, x := range r.starts {
		at = max(at, x.ended)
	}
	return at
}

// tooOld: the id is near half of the window, or older.
func (w *witness) tooOld(id runtime.ID) bool {
	return w.s.opt.Short && w.s.now+simStart-id.Millis() > simWindow/2-2000
}

// inTime: a deadline is told about wherever the request is.
func (w *witness) inTime(x *seen) {
	if x.limits[runtime.CodeDeadline] && x.kind == runtime.Call && w.s.now > max(x.deadline, w.s.opt.Millis)+10_000 && !w.s.opt.Jumps {
		w.fail("P1: the caller of %s was answered %d ms after its deadline", x.id, w.s.now-x.deadline)
	}
}

// outcome: everybody gets the same one (P2).
func (w *witness) outcome(r *runtime.Request, e *runtime.Effect) {
	x := w.req(r.ID)
	if e.Outcome == nil {
		w.fail("P2: %s has no outcome", r.ID)
		return
	}
	if c := e.Outcome.Code; c == runtime.CodeCancelled || c == runtime.CodeDrained || c == runtime.CodePurged || c == runtime.CodeCallerGone {
		if !x.cancelled && r.Key == "" && !w.operated(x.app) {
			w.fail("P1: %s ended as %s", r.ID, c)
		}
		return // an answer, perhaps not the outcome
	}
	switch c := e.Outcome.Code; {
	case x.limits[c] && e.Open:
		return // it goes on
	case x.limits[c]:
		x.cancelled = true
	case c == runtime.CodeBadAnswer && w.s.opt.Limits && x.attempts >= simAttempts:
		x.cancelled = true
	case c != "":
		w.fail("P1: %s ended as %s", r.ID, c)
	}
	got := string(e.Outcome.Body)
	w.s.trace("outcome of %s: %s", r.ID, got)
	// The key says whose outcome a repeat gets; it may be free again by now.
	if x.over && x.outcome != got && (r.Key == "" || !w.s.opt.Short && !(x.app == simApp && w.wasPurged)) {
		w.fail("P2: %s has two outcomes, %s and %s", r.ID, x.outcome, got)
	}
	x.over, x.outcome = true, got
	if r.Key != "" && (x.app != simApp || x.made == 0 || x.made > w.purgedAt) { // else a purge has freed the key, and the answer was under way
		k := x.app + "|" + r.Key + "|" + r.Target.ID + r.Target.Service
		if old, ok := w.keyed[k]; ok && old.outcome != got && !w.purging(x.app) && !w.keyExpired(old, x) {
			w.fail("P2: key %s has two outcomes, %s and %s", k, old.outcome, got)
		}
		if old := w.keyed[k]; old.outcome != got {
			w.keyed[k] = simKeyed{got, x.lastEnd()}
		}
		x.borrowed, x.lent = len(x.starts) == 0, w.keyed[k]
	}
}

// began: code runs.
func (w *witness) began(x *simAttempt) {
	w.s.report.Attempts++
	at := x.m.Attempt
	r := w.req(at.ID)
	r.app = x.h.name
	w.s.trace("begin %s on %s session %s", x.token(), x.m.Target.ID+x.m.Target.Service, x.m.Session)
	if r.over && x.h.running() && !w.keyIsFree(r) {
		w.fail("P2: %s runs again after its outcome was told", x.token())
	}
	for _, y := range r.starts {
		if y != x && y.live && y.h.running() {
			w.fail("P3: %s begins while %s runs", x.token(), y.token())
		}
		if y.m.Attempt == at && y != x {
			w.fail("P3: %s ran before as %s", x.token(), y.token())
		}
		if y.m.Attempt.Step > at.Step {
			w.fail("P7: %s begins after step %d", x.token(), y.m.Attempt.Step)
		}
	}
	if r.never {
		w.fail("P1: %s begins although it was cancelled", x.token())
	}
	r.attempts = max(r.attempts, at.Number)
	w.notLate(x, r)
	w.happensBefore(x, r)
	w.afterDrain(x, r)
	w.step(x, r)
	if x.m.Target.IsActor() {
		w.oneFlow(x, r)
	}
	w.made(x)
	w.afterDelete(x, r)
	r.starts = append(r.starts, x)
}

// made notes what KAR itself has asked for: firings, and events.
func (w *witness) made(x *simAttempt) {
	if due := x.m.Header.Get("Kar-Reminder-Due"); due != "" {
		t, _ := time.Parse(time.RFC3339Nano, due)
		n, _ := strconv.ParseInt(x.m.Header.Get("Kar-Reminder-Count"), 10, 64)
		f := simFiring{app: x.m.Target.App, due: t.UnixMilli(), count: n}
		if x.m.Attempt.Step == 0 || w.firings[x.m.Attempt.ID].due == 0 {
			for i, l := range w.lives {
				if l == w.lifeOf(x) {
					f.life = i + 1
				}
			}
			w.firings[x.m.Attempt.ID] = f
		}
	}
	w.eventTold(x)
}

// happensBefore is P4, seen from both ends.
func (w *witness) happensBefore(x *simAttempt, r *seen) {
	if w.purging(r.app) {
		return // a purge tells callers before it has reached every partition
	}
	if p := r.parent; p != nil && len(r.starts) == 0 {
		for _, y := range w.req(p.m.Attempt.ID).starts {
			if newer(y, p) {
				w.fail("P4: %s, called by %s, begins after %s", x.token(), p.token(), y.token())
			}
		}
	}
	for _, c := range w.children[r.id] {
		if !newer(x, c.parent) {
			continue
		}
		for _, y := range c.starts {
			if y.live && y.h.running() {
				w.fail("P4: %s begins while %s runs, which %s has called", x.token(), y.token(), c.parent.token())
			}
		}
	}
}

// newer: x is a later attempt of the same step (a finished step has no open calls).
func newer(x, y *simAttempt) bool {
	a, b := x.m.Attempt, y.m.Attempt
	return a.Step == b.Step && a.Number > b.Number
}

// step is P7: one attempt of each step is the one whose tail call counts.
func (w *witness) step(x *simAttempt, r *seen) {
	at := x.m.Attempt
	if at.Step == 0 {
		return
	}
	if old, ok := r.from[at.Step]; ok {
		if old != x.body.From {
			w.fail("P7: step %d of %s comes from %s and from %s", at.Step, at.ID, old, x.body.From)
		}
		return
	}
	r.from[at.Step] = x.body.From
	for _, y := range r.starts {
		if y.token() != x.body.From || !x.body.Kept {
			continue
		}
		for _, z := range w.byActor[x.m.Target.Actor()] {
			if z.began > y.ended && z.m.Session[:26] != x.m.Session[:26] {
				w.fail("P7: %s got between %s and %s, which kept the lock", z.token(), y.token(), x.token())
			}
		}
	}
}

// oneFlow is P5: nobody else runs on the actor, and tells come in order.
func (w *witness) oneFlow(x *simAttempt, r *seen) {
	a := x.m.Target.Actor()
	for _, y := range w.byActor[a] {
		if y.live && y.h.running() && y.m.Session[:26] != x.m.Session[:26] {
			w.fail("P5: %s begins on %s while %s runs", x.token(), a.ID, y.token())
		}
	}
	w.released(x, r)
	w.byActor[a] = append(w.byActor[a], x)
	if len(r.starts) > 0 || x.m.Attempt.Step > 0 {
		return
	}
	keep := w.tells[a][:0]
	for _, t := range w.tells[a] {
		if t == r || len(t.starts) > 0 || t.cancelled || t.refused || t.limits[runtime.CodeDeadline] {
			continue
		}
		if r.submitted > t.acked && r.kind == runtime.Tell && !w.operated(r.app) {
			w.fail("P5: %s begins before %s, which was acknowledged before it was sent", x.token(), t.id)
		}
		keep = append(keep, t)
	}
	w.tells[a] = keep
}

// released is P5 for chains: a step that let go of its actor stands behind
// those who waited there.
func (w *witness) released(x *simAttempt, r *seen) {
	if x.m.Attempt.Step == 0 || x.body.Kept || x.m.Attempt.Number > 1 || w.operated(r.app) {
		return
	}
	for _, y := range r.starts {
		if y.token() != x.body.From || y.m.Target != x.m.Target || w.flowIsOn(x, r) {
			continue
		}
		for _, t := range w.tells[x.m.Target.Actor()] {
			if t.acked < y.ended && len(t.starts) == 0 && !t.cancelled && !t.refused && !t.limits[runtime.CodeDeadline] {
				w.fail("P5: %s begins before %s, which was acknowledged before %s released the actor", x.token(), t.id, y.token())
			}
		}
	}
}

// flowIsOn: others of x's flow are on its actor, or may be.
func (w *witness) flowIsOn(x *simAttempt, r *seen) bool {
	if x.m.Session[:26] != r.id.String() {
		return true
	}
	for _, y := range w.byActor[x.m.Target.Actor()] {
		if y.m.Session[:26] == x.m.Session[:26] && y.m.Attempt.ID != r.id {
			return true
		}
	}
	return false
}

func (w *witness) ended(x *simAttempt) {
	body := "lost"
	if x.answer.Outcome != nil {
		body = string(x.answer.Outcome.Body)
	}
	w.s.trace("end %s: %s", x.token(), body)
}

// activated is P6.
func (w *witness) activated(h *simHost, a runtime.Actor) {
	w.s.trace("%s activates %s", h.boot, a.ID)
	for _, o := range w.s.hosts {
		if o != h && o.instances[a] && o.running() {
			w.fail("P6: %s activates %s while it is active on %s", h.boot, a.ID, o.boot)
		}
	}
}

func (w *witness) deactivating(h *simHost, a runtime.Actor) {
	w.s.trace("%s deactivates %s", h.boot, a.ID)
	for _, x := range w.byActor[a] {
		if x.live && x.h == h {
			w.fail("P6: %s is deactivated on %s while %s runs", a.ID, h.boot, x.token())
		}
	}
}

// thawed: what was frozen goes on; nobody may have taken its place.
func (w *witness) thawed(h *simHost) {
	for i := range simActors {
		a := simActor(h.name, i).Actor()
		for _, o := range w.s.hosts {
			if h.instances[a] && o != h && o.instances[a] && o.running() {
				w.fail("P6: %s thaws with %s, which is active on %s", h.boot, a.ID, o.boot)
			}
		}
	}
	for _, at := range h.sorted() {
		if x := h.attempts[at]; x.live {
			for _, y := range w.req(at.ID).starts {
				if y != x && y.began > x.began {
					w.fail("P3: %s thaws after %s has begun", x.token(), y.token())
				}
			}
		}
	}
}

// A simDrain is a time in which the requests of an app were withdrawn.
type simDrain struct {
	app         string
	began, done int64
	partly      bool // not a drain: what runs was not waited for
}

// A simFiring is what a method was told of its due time.
type simFiring struct {
	app        string
	due, count int64
	life       int // of a reminder that changes, from 1 on
}

// atEnd: after a long calm everything accepted has ended (P1), each due time
// was fired once (P8), each event became one request (P9).
func (w *witness) atEnd() {
	if len(w.violations) > 0 {
		return
	}
	for _, id := range w.ids() {
		w.ofRequest(w.reqs[id])
	}
	for _, n := range w.s.nodes {
		for _, p := range w.s.parts {
			if o := n.owners[p.n]; n.alive && o != nil && o.core.Owned() {
				if g, _ := w.query(o, runtime.Query{Kind: runtime.QueryGauges}).(runtime.Gauges); g.Open > 0 {
					w.fail("P1: %d requests of partition %d are still open\n%.12000s", g.Open, p.n, o.core.Describe())
				}
			}
		}
	}
	if w.operates > 0 {
		w.fail("P1: a purge or drain has not come to an end")
	}
	w.s.report.Fires, w.s.report.Events = len(w.firings), len(w.events)
	w.ofLives()
	for _, app := range w.s.apps {
		if app == simApp && w.wasPurged {
			continue
		}
		w.reminders(app)
		w.eventsOf(app)
	}
}

// ofRequest judges one request when all is over.
func (w *witness) ofRequest(r *seen) {
	switch {
	case r.cancelled || r.refused:
		return
	case r.submitted > 0 && r.acked == 0:
		w.fail("P1: nobody answered the caller of %s", r.id)
	case r.acked == 0:
		return
	case len(r.starts) == 0 && r.kind == runtime.Tell && r.limits[runtime.CodeDeadline]:
	case len(r.starts) == 0 && r.kind == runtime.Tell:
		w.fail("P1: tell %s was acknowledged and never ran", r.id)
	case len(r.starts) > 0 && !r.answeredOnce():
		w.fail("P1: %s was acknowledged and no attempt of it was answered", r.id)
	}
	for _, n := range w.s.nodes {
		o := n.owners[r.id.Partition()]
		if !n.alive || o == nil || !o.core.Owned() {
			continue
		}
		if f, _ := w.query(o, runtime.Query{Kind: runtime.QueryRequest, App: r.app, Request: r.id}).(runtime.RequestFacts); f.State != "" && f.State != "completed" {
			w.fail("P1: %s is still %s: %+v", r.id, f.State, f)
		}
	}
}

func (r *seen) answeredOnce() bool {
	for _, x := range r.starts {
		if x.done && x.answer.Outcome != nil {
			return true
		}
	}
	return false
}

// query asks a core when the run is over.
func (w *witness) query(o *simOwner, q runtime.Query) any {
	q.Waiter = "end"
	o.core.Step(w.s.clock(o.n), &q)
	_, effects := o.core.Take()
	for _, e := range effects {
		if e.Waiter == "end" {
			return e.Value
		}
	}
	return nil
}

func (w *witness) reminders(app string) {
	var fs []simFiring
	for _, f := range w.firings {
		if f.app == app && f.life == 0 {
			fs = append(fs, f)
		}
	}
	sort.Slice(fs, func(i, j int) bool { return fs[i].due < fs[j].due })
	last := int64(simStart + simFirstDue - 1500)
	for _, f := range fs {
		if gap := f.due - last; gap != f.count*1500 && (gap < f.count*1500 || !w.drainedSince(app, f.due-gap)) {
			w.fail("P8: the firing due at %d counts %d, the one before was due at %d", f.due-simStart, f.count, last-simStart)
			return
		}
		last = f.due
	}
	end := w.s.now + simStart - simRest
	due := last
	for id, f := range w.firings { // what is due meanwhile counts into one that goes on
		if f.app != app || f.life != 0 || f.due != due {
			continue
		}
		for _, x := range w.req(id).starts {
			last = max(last, simStart+x.ended)
		}
		if w.req(id).goesOn() {
			last = end
		}
	}
	if end-last > 60_000+w.skew() && !w.s.opt.Burst && !w.occupied(runtime.Actor{App: app, Type: "A", ID: "1"}, last-simStart) {
		w.fail("P8: the last firing was due, or ended, %d ms before the end", end-last)
	}
}

// goesOn tells that another attempt or step must follow the last one that was seen.
func (r *seen) goesOn() bool {
	var last *simAttempt
	for _, x := range r.starts {
		if last == nil || x.m.Attempt.Step > last.m.Attempt.Step || x.m.Attempt.Step == last.m.Attempt.Step && x.m.Attempt.Number > last.m.Attempt.Number {
			last = x
		}
	}
	return last != nil && (!last.done || last.answer.Outcome == nil || bytes.Contains(last.answer.Outcome.Body, []byte(`"tailCall":true`)))
}

// occupied tells that one attempt had the actor nearly from that time on to the
// rest: what was due meanwhile still waits.
func (w *witness) occupied(a runtime.Actor, from int64) bool {
	return slices.ContainsFunc(w.byActor[a], func(x *simAttempt) bool {
		return x.began < from+60_000 && (!x.done || x.ended > w.s.now-simRest-60_000)
	})
}

// drainedSince: what was due then or later may have been withdrawn.
func (w *witness) drainedSince(app string, from int64) bool {
	for _, d := range w.drains {
		if d.app == app && simStart+d.done >= from-w.skew() {
			return true
		}
	}
	return false
}

func (w *witness) ids() []runtime.ID {
	var ids []runtime.ID
	for id := range w.reqs {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return string(ids[i][:]) < string(ids[j][:]) })
	return ids
}

// skew is how far the clocks of gateways may be from this one.
func (w *witness) skew() int64 {
	if w.s.opt.Jumps {
		return simJump + 2000
	}
	return 2000
}

// madeUp: the request has a session that is not its caller's.
func (w *witness) madeUp(x *simAttempt, id runtime.ID) {
	r, calls := w.req(id), w.children[x.m.Attempt.ID]
	if r.parent != nil {
		w.children[x.m.Attempt.ID] = calls[:len(calls)-1]
	}
	r.parent, r.wild = nil, true
}
