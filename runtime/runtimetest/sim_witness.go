package runtimetest

import (
	"fmt"
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
	flaky      int64 // appends are unreliable until then
	operates   int   // purges and drains of simApp under way
	purges     int   // purges of it alone
	wasPurged  bool
	purgedAt   int64           // when its last purge was done
	drains     [][2]int64      // when its drains began and were done
	lateSet    map[string]bool // app → its reminder may have been set anew after the first due time

	reqs     map[runtime.ID]*seen
	byActor  map[runtime.Actor][]*simAttempt // in order of start
	state    map[runtime.Actor]*stateModel
	tells    map[runtime.Actor][]*seen // acknowledged, not started, in order of acknowledgement
	firings  map[runtime.ID]simFiring
	events   map[string]map[runtime.ID]bool
	keyed    map[string]string
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
	acked     int64
	refused   bool // its actor's activation was
	cancelled bool
	outcome   string
	over      bool // somebody was told the outcome
	starts    []*simAttempt
	parent    *simAttempt
	from      map[uint32]string // step → token of the attempt that asked for it
}

type stateModel struct {
	acked string
	maybe map[string]string // token → boot
	loose bool              // a removal is under way: the state may vanish
	old   map[string]bool   // what there was when a purge began
}

func newWitness(s *sim) *witness {
	return &witness{s: s, reqs: map[runtime.ID]*seen{}, byActor: map[runtime.Actor][]*simAttempt{}, state: map[runtime.Actor]*stateModel{},
		tells: map[runtime.Actor][]*seen{}, firings: map[runtime.ID]simFiring{}, lateSet: map[string]bool{}, events: map[string]map[runtime.ID]bool{},
		keyed: map[string]string{}, keyStart: map[string]runtime.ID{}}
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
	w.s.trace("client submits %s kind %d to %s%s key %q", r.ID, r.Kind, r.Target.ID, r.Target.Service, r.Key)
	if r.Kind == runtime.Remove {
		w.model(r.Target.Actor()).loose = true
	}
}

func (w *witness) cancelled(id runtime.ID) { w.req(id).cancelled = true }

// operated: an operator withdraws requests of the app right now.
func (w *witness) operated(app string) bool { return app == simApp && w.operates > 0 }

// purging: what is told of the app may be of two generations.
func (w *witness) purging(app string) bool { return app == simApp && w.purges > 0 }

// forgive: what is there may be withdrawn by a purge.
func (w *witness) forgive(app string) {
	for _, r := range w.reqs {
		if r.app == app {
			r.cancelled = true
		}
	}
	w.wasPurged = true
	for i := range simActors {
		m := w.model(simActor(app, i).Actor())
		m.loose, m.old = true, map[string]bool{m.acked: true}
		for token := range m.maybe {
			m.old[token] = true
		}
	}
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
	w.drains = append(w.drains, [2]int64{began, w.s.now})
}

// afterDrain: a drain waits for what runs, and for where that leads.
func (w *witness) afterDrain(x *simAttempt, r *seen) {
	if r.app != simApp || len(r.starts) == 0 {
		return
	}
	for _, d := range w.drains {
		if r.starts[0].began < d[0] && x.began > d[1] {
			w.fail("P1: %s begins after a drain that began at %d was done at %d", x.token(), d[0], d[1])
		}
	}
}

// purged: nothing is left of the state that was there when it began.
func (w *witness) purged(app string) {
	w.purgedAt = w.s.now
	for i := range simActors {
		m := w.model(simActor(app, i).Actor())
		if m.old[m.acked] {
			m.acked = ""
		}
		for token := range m.old {
			delete(m.maybe, token)
		}
	}
	for k := range w.keyed {
		if strings.HasPrefix(k, app+"|") {
			delete(w.keyed, k)
		}
	}
}

func (w *witness) called(x *simAttempt, id runtime.ID) {
	r := w.req(id)
	r.app, r.made = x.h.name, w.s.now
	if x.m.Session != "" { // a service has none: its calls have no known parent
		r.parent = x
	}
	w.s.trace("%s calls %s", x.token(), id)
}

// answered: a caller was told something about its request.
func (w *witness) answered(r *runtime.Request, e *runtime.Effect) {
	x := w.req(r.ID)
	switch {
	case e.Err != nil && (x.cancelled || w.operated(x.app)):
	case e.Err != nil:
		w.s.trace("%s is refused: %v", r.ID, e.Err)
		switch e.Err.Code {
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
	if e.Err != nil {
		w.fail("P2: the outcome of promise %s is refused: %v", r.ID, e.Err)
		return
	}
	w.outcome(r, e)
}

// outcome: everybody gets the same one (P2).
func (w *witness) outcome(r *runtime.Request, e *runtime.Effect) {
	x := w.req(r.ID)
	if e.Outcome == nil {
		w.fail("P2: %s has no outcome", r.ID)
		return
	}
	if c := e.Outcome.Code; c == runtime.CodeCancelled || c == runtime.CodeDrained || c == runtime.CodePurged {
		if !x.cancelled && r.Key == "" && !w.operated(x.app) {
			w.fail("P1: %s ended as %s", r.ID, c)
		}
		return // an answer, perhaps not the outcome
	}
	got := string(e.Outcome.Body)
	w.s.trace("outcome of %s: %s", r.ID, got)
	if x.over && x.outcome != got {
		w.fail("P2: %s has two outcomes, %s and %s", r.ID, x.outcome, got)
	}
	x.over, x.outcome = true, got
	if r.Key != "" {
		k := x.app + "|" + r.Key + "|" + r.Target.ID + r.Target.Service
		if old, ok := w.keyed[k]; ok && old != got && !w.purging(x.app) {
			w.fail("P2: key %s has two outcomes, %s and %s", k, old, got)
		}
		w.keyed[k] = got
	}
}

// began: code runs.
func (w *witness) began(x *simAttempt) {
	w.s.report.Attempts++
	at := x.m.Attempt
	r := w.req(at.ID)
	r.app = x.h.name
	w.s.trace("begin %s on %s session %s", x.token(), x.m.Target.ID+x.m.Target.Service, x.m.Session)
	if r.over && x.h.running() {
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
	w.happensBefore(x, r)
	w.afterDrain(x, r)
	w.step(x, r)
	if x.m.Target.IsActor() {
		w.oneFlow(x, r)
	}
	w.made(x)
	r.starts = append(r.starts, x)
}

// made notes what KAR itself has asked for: firings, and events, each of which
// is one request for each group (P9).
func (w *witness) made(x *simAttempt) {
	if due := x.m.Header.Get("Kar-Reminder-Due"); due != "" {
		t, _ := time.Parse(time.RFC3339Nano, due)
		n, _ := strconv.ParseInt(x.m.Header.Get("Kar-Reminder-Count"), 10, 64)
		w.firings[x.m.Attempt.ID] = simFiring{x.m.Target.App, t.UnixMilli(), n}
	}
	if x.m.Path != "/event" || x.m.Attempt.Step > 0 {
		return
	}
	k := w.groupOf(x.m.Target) + string(x.m.Body)
	if w.events[k] == nil {
		w.events[k] = map[runtime.ID]bool{}
	}
	w.events[k][x.m.Attempt.ID] = true
	if len(w.events[k]) > 1 {
		w.fail("P9: %s has more than one request", k)
	}
}

func (w *witness) groupOf(t runtime.Target) string {
	for _, s := range w.s.subs {
		if s.Actor == t.Actor() {
			return t.App + "/" + s.Group + "|"
		}
	}
	return "?"
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
	for _, c := range w.reqs {
		if c.parent == nil || c.parent.m.Attempt.ID != r.id || !newer(x, c.parent) {
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

func (w *witness) tailCalled(*simAttempt, bool) {}

// oneFlow is P5: nobody else runs on the actor, and tells come in order.
func (w *witness) oneFlow(x *simAttempt, r *seen) {
	a := x.m.Target.Actor()
	for _, y := range w.byActor[a] {
		if y.live && y.h.running() && y.m.Session[:26] != x.m.Session[:26] {
			w.fail("P5: %s begins on %s while %s runs", x.token(), a.ID, y.token())
		}
	}
	w.byActor[a] = append(w.byActor[a], x)
	if len(r.starts) > 0 || x.m.Attempt.Step > 0 {
		return
	}
	keep := w.tells[a][:0]
	for _, t := range w.tells[a] {
		if t == r || len(t.starts) > 0 || t.cancelled || t.refused {
			continue
		}
		if r.submitted > t.acked && r.kind == runtime.Tell && !w.operated(r.app) {
			w.fail("P5: %s begins before %s, which was acknowledged before it was sent", x.token(), t.id)
		}
		keep = append(keep, t)
	}
	w.tells[a] = keep
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

func (w *witness) model(a runtime.Actor) *stateModel {
	m := w.state[a]
	if m == nil {
		m = &stateModel{maybe: map[string]string{}}
		w.state[a] = m
	}
	return m
}

// read is P10: the last acknowledged write, or one that was under way.
func (w *witness) read(x *simAttempt, a runtime.Actor, value string) {
	if a.App == simApp && x.began <= w.purgedAt {
		return // asked before the purge; a process that was stopped sees the answer after it
	}
	m := w.model(a)
	_, maybe := m.maybe[value]
	if value != m.acked && !maybe && !(value == "" && m.loose) {
		w.fail("P10: %s reads %q, the last acknowledged write is %q", x.token(), value, m.acked)
	}
	m.acked = value
	for token, boot := range m.maybe {
		if boot != x.h.boot {
			delete(m.maybe, token) // of a host that has been replaced
		}
	}
}

func (w *witness) writing(x *simAttempt, a runtime.Actor, token string) {
	w.model(a).maybe[token] = x.h.boot
}

func (w *witness) wrote(x *simAttempt, a runtime.Actor, token string, refused bool) {
	m := w.model(a)
	if _, ok := m.maybe[token]; !ok && !refused && m.acked != token {
		return // acknowledged late; somebody has read past it
	}
	delete(m.maybe, token)
	if !refused {
		m.acked = token
	}
}

// A simFiring is what a method was told of its due time.
type simFiring struct {
	app        string
	due, count int64
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
					w.fail("P1: %d requests of partition %d are still open\n%.2500s", g.Open, p.n, o.core.Describe())
				}
			}
		}
	}
	if w.operates > 0 {
		w.fail("P1: a purge or drain has not come to an end")
	}
	w.s.report.Fires, w.s.report.Events = len(w.firings), len(w.events)
	for _, app := range w.s.apps {
		if app == simApp && w.wasPurged {
			continue
		}
		if !w.lateSet[app] {
			w.reminders(app)
		}
		for i := range w.s.topic {
			for _, g := range []string{app + "/|", app + "/g" + app + "|"} {
				n := len(w.events[fmt.Sprintf("%s[%s]", g, w.s.topic[i])])
				if n > 1 || n == 0 && (app != simApp || len(w.drains) == 0) {
					w.fail("P9: event %d of group %q became %d requests", i, g, n)
				}
			}
		}
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
		if f.app == app {
			fs = append(fs, f)
		}
	}
	sort.Slice(fs, func(i, j int) bool { return fs[i].due < fs[j].due })
	last := int64(simStart + simFirstDue - 1500)
	for _, f := range fs {
		if gap := f.due - last; gap != f.count*1500 && (gap < f.count*1500 || !w.drainedAround(app, f.due-gap, f.due)) {
			w.fail("P8: the firing due at %d counts %d, the one before was due at %d", f.due-simStart, f.count, last-simStart)
			return
		}
		last = f.due
	}
	if end := w.s.now + simStart - simRest; end-last > 30_000 {
		w.fail("P8: the last firing was due %d ms before the end", end-last)
	}
}

// drainedAround: a firing that was due in that time may have been withdrawn.
func (w *witness) drainedAround(app string, from, to int64) bool {
	for _, d := range w.drains {
		if app == simApp && simStart+d[0] <= to+2000 && simStart+d[1] >= from-2000 {
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
