package runtime

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// A recount makes every count, index and list of a core anew from what it has,
// and says where they differ. It is asked after each step of every scenario, so
// that a count which drifts is seen where it begins to.
type recount struct {
	c   *Core
	bad []string
}

// recounted is nil when all of a core agrees with itself.
func recounted(c *Core) []string {
	r := &recount{c: c}
	r.requests()
	r.work()
	r.actors()
	r.hosts()
	r.waiting()
	r.abroad()
	r.borrowings()
	r.kept()
	r.reminders()
	r.groups()
	r.outboxes()
	r.apps()
	r.timers()
	r.overlay()
	r.memory()
	return r.bad
}

func (w *idWindow) all() []*idBucket {
	return append(slices.Collect(maps.Values(w.buckets)), w.late...)
}

func (b *idBucket) ids() []ID { return slices.Concat(append(b.runs, sortedIDs(b.recent))...) }

func (r *recount) say(format string, args ...any) {
	r.bad = append(r.bad, fmt.Sprintf(format, args...))
}

func (r *recount) same(what string, is, want any) {
	if !reflect.DeepEqual(is, want) {
		r.say("%s is %v, counted %v", what, is, want)
	}
}

func (r *recount) requests() {
	c := r.c
	flows, keys, cancels := 0, 0, 0
	for id, e := range c.entries {
		if e.req.ID != id || e.phase == gone {
			r.say("entry %s is %s under another id, or gone", id, e.req.ID)
		}
		if fl := c.flows[e.flow]; e.flowAt >= len(fl) || fl[e.flowAt] != e {
			r.say("entry %s is not in its flow", id)
		}
		if e.req.Key != "" && e.home == c.cfg.Partition && e.step == 0 {
			if keys++; c.keys[keyOf(&e.req)] != id {
				r.say("the key of %s is that of %s", id, c.keys[keyOf(&e.req)])
			}
		}
		if e.req.Boot != "" && e.req.CancelWithCaller {
			if cancels++; e.withBoot == nil || e.withBoot.e != e || c.cancels[e.req.Boot] == nil {
				r.say("%s is not withdrawn with its caller", id)
			}
		}
		if e.size != len(e.req.Body) && len(e.req.Body) != 0 {
			r.say("%s has %d bytes, %d are there", id, e.size, len(e.req.Body))
		}
		if e.phase == running {
			if h := c.hosts[e.host]; h == nil || h.running[id] != e {
				r.say("%s runs on %q, which does not know", id, e.host)
			}
		}
		if c.owned && e.parentPart == c.cfg.Partition {
			for _, p := range e.parents {
				if x := c.entries[p]; x != nil {
					// Another step may have asked for it anew, elsewhere.
					if _, ok := x.children[id]; !ok && (e.parentStep == 0 || e.parentStep == x.step+1) {
						r.say("%s is no child of its parent %s", id, p)
					}
				}
			}
		}
	}
	for f, es := range c.flows {
		flows += len(es)
		if len(es) == 0 {
			r.say("flow %s is empty", f)
		}
	}
	r.same("entries in flows", flows, len(c.entries))
	for _, m := range c.cancels {
		for s := m.first; s != nil; s = s.next {
			cancels--
		}
		if m.first == nil {
			r.say("a list of withdrawals is empty")
		}
	}
	r.same("withdrawals left", cancels, 0)
	for key, id := range c.keys {
		if c.entries[id] == nil && c.homes[id] == nil {
			r.say("key %q is of %s, which has ended", key, id)
		}
	}
	for id, h := range c.homes {
		if h.req.ID != id {
			r.say("home %s is under %s", h.req.ID, id)
		}
		if h.req.Key != "" && c.keys[keyOf(&h.req)] != id {
			r.say("the key of %s, which is away, is that of %s", id, c.keys[keyOf(&h.req)])
		}
	}
	size := 0
	for id, x := range c.endings {
		if size += x.size; x.id != id || x.size < len(x.outcome.Body) || !c.ended.has(id) {
			r.say("ending %s: %s, %d bytes", id, x.id, x.size)
		}
	}
	r.same("bytes of outcomes", c.endSize, size)
	n := 0
	for _, b := range c.ended.all() {
		k := len(b.recent)
		for _, run := range b.runs {
			if k += len(run); !slices.IsSortedFunc(run, compareIDs) {
				r.say("a run of ids is not sorted")
			}
		}
		if n += k; b.began == 0 && c.ended.buckets[b.slot] != b || k == 0 {
			r.say("bucket %d has %d ids", b.slot, k)
		}
		for _, id := range b.ids() {
			if !b.has(id) || b.began == 0 && id.Millis()/idBucketMillis != b.slot {
				r.say("%s is not where it is looked for", id)
			}
		}
	}
	r.same("ended ids", c.ended.count, n)
}

// work counts bytes.
func (r *recount) work() {
	c := r.c
	var held, total, waits int64
	bodied := 0
	for id, e := range c.entries {
		weight := workBytes + linkBytes*len(e.parents) + len(e.req.Path) + len(e.req.Target.ID)
		for name, values := range e.req.Header {
			for _, v := range values {
				weight += len(name) + len(v) + 32
			}
		}
		if len(e.parents) == 0 {
			r.same("weight of "+id.String(), e.weight, weight)
		}
		held += int64(e.weight + len(e.req.Body))
		total += int64(e.weight + e.size)
		if e.keeping {
			waits += int64(e.size)
		}
		if c.load.sheds(e) {
			if bodied++; !slices.Contains(c.load.bodies, e) {
				r.say("%s has a body that cannot be let go of", id)
			}
		}
	}
	r.same("bytes held", c.load.held, held)
	r.same("bytes of work", c.load.total, total)
	r.same("bytes being read", c.load.waits, waits)
	r.same("bodies", c.load.bodied, bodied)
	if n := len(c.load.bodies); n > 2*bodied+1025 {
		r.say("%d bodies are listed, %d are there", n, bodied)
	}
}

func (r *recount) actors() {
	c := r.c
	runs, active := 0, 0
	want := map[*actorEntry]*actorEntry{}
	for _, a := range c.actors {
		want[a] = &actorEntry{nested: map[ID]*line{}}
	}
	for id, e := range c.entries {
		if e.phase == running {
			runs++
		}
		if !e.req.Target.IsActor() || e.phase == delayed {
			continue
		}
		a := c.actors[e.req.Target.Actor()]
		if a == nil {
			r.say("%s waits for an actor that is not there", id)
			continue
		}
		w := want[a]
		switch e.phase {
		case queued:
			w.queue.es = append(w.queue.es, e)
			if e.awaited() {
				w.awaited++
			}
			if e.flow != id {
				if w.nested[e.flow] == nil {
					w.nested[e.flow] = &line{}
				}
				w.nested[e.flow].es = append(w.nested[e.flow].es, e)
			}
		case running:
			w.running++
			if a.flow != e.flow {
				r.say("%s runs on an actor that is held by flow %s", id, a.flow)
			}
		default:
			w.resting.es = append(w.resting.es, e)
			if a.flow != e.flow {
				r.say("%s rests on an actor that is held by flow %s", id, a.flow)
			}
		}
	}
	for name, a := range c.actors {
		w := want[a]
		if a.actor != name {
			r.say("actor %v is under %v", a.actor, name)
		}
		r.same(fmt.Sprintf("what runs on %v", name), a.running, w.running)
		r.same(fmt.Sprintf("what is awaited on %v", name), a.awaited, w.awaited)
		r.line(fmt.Sprintf("queue of %v", name), &a.queue, w.queue.es)
		r.line(fmt.Sprintf("rest of %v", name), &a.resting, w.resting.es)
		r.same(fmt.Sprintf("flows that wait for %v", name), len(a.nested), len(w.nested))
		for f, l := range a.nested {
			if w.nested[f] == nil {
				r.say("nobody of flow %s waits for %v", f, name)
			} else {
				r.line(fmt.Sprintf("nested calls of %v", name), l, w.nested[f].es)
			}
		}
		if a.host != "" {
			if active++; c.hosts[a.host] != nil && (a.placeAt >= len(c.hosts[a.host].placed) || c.hosts[a.host].placed[a.placeAt] != a) {
				r.say("actor %v is not among those of its host", name)
			}
			if !a.listed() && !a.dirty {
				r.say("the place of actor %v is not kept", name)
			}
		} else if a.listed() && len(a.zombies) == 0 {
			r.say("actor %v has no place and is kept", name)
		}
		if c.owned && !a.dirty && a.empty() {
			r.say("actor %v is there for nothing", name)
		}
		for _, e := range a.resting.all() {
			if e.ready != slices.Contains(a.ready.all(), e) {
				r.say("%s is to be looked at, or not, and %v does not know", e.req.ID, name)
			}
		}
		for _, e := range a.ready.all() {
			if !slices.Contains(a.resting.es, e) {
				r.say("%s is to be looked at and does not rest on %v", e.req.ID, name)
			}
		}
		if len(a.zombies) > 0 {
			if on := c.hauntedOn[a.zombies[0].host]; a.hauntAt >= len(on) || on[a.hauntAt] != a {
				r.say("haunted actor %v is not on its host", name)
			}
		}
		if (len(a.zombies) > 0) != (c.haunted[name] == a) {
			r.say("actor %v has %d zombies", name, len(a.zombies))
		}
		for _, z := range a.zombies {
			if c.ghosts[z.id] != a {
				r.say("zombie %s is not known", z.id)
			}
		}
		if a.idle && (a.host == "" || a.locked() || a.queue.len() > 0) {
			r.say("actor %v is no idle one", name)
		}
	}
	zombies := 0
	for name, a := range c.haunted {
		if zombies += len(a.zombies); c.actors[name] != a {
			r.say("haunted actor %v is not there", name)
		}
	}
	r.same("zombies", len(c.ghosts), zombies)
	on := 0
	for _, as := range c.hauntedOn {
		on += len(as)
	}
	for boot, h := range c.hosts {
		for id, e := range h.running {
			if e.given == 0 || e.given > h.gave {
				r.say("%s is number %d of %d that %s was given", id, e.given, h.gave, boot)
			}
		}
	}
	r.same("haunted actors on hosts", on, len(c.haunted))
	r.same("running", c.Counts.Running, runs)
	r.same("active actors", c.Counts.ActiveActors, active)
	for _, a := range c.dirty {
		if !a.dirty {
			r.say("actor %v is to be looked at and does not know", a.actor)
		}
	}
}

// borrowings: each waits for a request that is open here.
func (r *recount) borrowings() {
	c := r.c
	n := 0
	for id, e := range c.entries {
		if e.lent != len(c.borrowers[id]) {
			r.say("%s is lent to %d calls, counted %d", id, e.lent, len(c.borrowers[id]))
		}
	}
	for lent, xs := range c.borrowers {
		n += len(xs)
		if first, _ := c.open(lent); c.owned && first == nil || len(xs) == 0 {
			r.say("%d calls wait for %s, which is not open", len(xs), lent)
		}
		for _, x := range xs {
			if c.borrowings[x.id] != x || x.lent != lent || (x.abroad == nil) != (x.part == c.cfg.Partition) {
				r.say("%s does not wait for %s", x.id, lent)
			}
			for _, p := range x.parents {
				if e := c.entries[p]; c.owned && x.part == c.cfg.Partition && e != nil && (x.step == 0 || x.step == e.step+1) {
					if _, ok := e.children[x.id]; !ok {
						r.say("%s is no child of its parent %s", x.id, p)
					}
				}
			}
		}
	}
	r.same("calls that have borrowed", n, len(c.borrowings))
}

// abroad: calls with callers in other partitions stand there until they have ended.
func (r *recount) abroad() {
	c := r.c
	for p, roll := range c.abroad {
		for s := roll.first; s != nil; s = s.next {
			switch {
			case s.e != nil && (c.entries[s.e.req.ID] != s.e || s.e.abroad != s || s.e.parentPart != p):
				r.say("%s is not called from partition %d", s.e.req.ID, p)
			case s.b != nil:
				if c.borrowings[s.b.id] != s.b || s.b.abroad != s || s.b.part != p {
					r.say("%s has borrowed nothing from partition %d", s.b.id, p)
				}
			case s.e == nil && (s.h == nil || c.homes[s.h.req.ID] != s.h || s.h.abroad != s || s.h.parentPart != p):
				r.say("what has gone away from here is not called from partition %d", p)
			}
		}
	}
}

func (r *recount) line(what string, l *line, es []*entry) {
	place := func(a, b *entry) int {
		return int(int64(l.place(a)) - int64(l.place(b)))
	}
	es = slices.SortedFunc(slices.Values(es), place)
	l.settle()
	if !slices.Equal(l.es, es) && (len(es) != len(l.es) || !slices.IsSortedFunc(l.es, place)) {
		r.say("%s has %d in line, counted %d", what, l.len(), len(es))
	}
	for _, e := range l.es {
		if !slices.Contains(es, e) {
			r.say("%s has %s in line, which does not wait there", what, e.req.ID)
		}
	}
}

func (r *recount) hosts() {
	c := r.c
	offers := map[component][]*hostEntry{}
	for _, x := range c.reviews {
		if x.h.review != x {
			r.say("%s does not know what is left of its review", x.h.boot)
		}
	}
	for _, boot := range sortedKeys(c.hosts) {
		h := c.hosts[boot]
		if h.review != nil && !slices.Contains(c.reviews, h.review) {
			r.say("%s knows of a review that has ended", boot)
		}
		if h.boot != boot || c.lost[boot] != nil {
			r.say("host %s is %s, or lost", boot, h.boot)
		}
		bytes, flows, n := 0, map[ID]flowCount{}, company{}
		for id, e := range h.running {
			bytes += e.size
			if c.entries[id] != e || e.phase != running || e.host != boot {
				r.say("%s does not run on %s", id, boot)
			}
			x, y := flows[e.flow], e.counts()
			flows[e.flow] = flowCount{x.running + y.running, x.doubted + y.doubted, x.suspects + y.suspects}
		}
		for _, x := range flows {
			n.flows += int(min(x.running, 1))
			n.doubted += int(min(x.doubted, 1))
			n.suspects += int(min(x.suspects, 1))
		}
		r.same("bytes on "+boot, h.bytes, bytes)
		r.same("flows on "+boot, h.flows, flows)
		r.same("company on "+boot, h.beside, n)
		for i, a := range h.placed {
			if c.actors[a.actor] != a || a.host != boot || a.placeAt != i {
				r.say("actor %v is not on %s", a.actor, boot)
			}
		}
		if n := len(h.idle); n > 2*len(h.placed)+65 {
			r.say("%d are listed as idle on %s, which has %d", n, boot, len(h.placed))
		}
		if h.linked {
			for _, comp := range c.componentsOf(h.info) {
				offers[comp] = append(offers[comp], h)
			}
		}
	}
	r.same("offers", c.offers, offers)
	wanted := map[component]int{}
	for _, e := range c.entries {
		wanted[componentOf(e.req.Target)]++
	}
	r.same("wanted", c.wanted, wanted)
}

// waiting is about parkings.
func (r *recount) waiting() {
	c := r.c
	type lines struct {
		requests, awaited, suspects []*entry
		resting                     int
	}
	want := map[*parking]*lines{}
	for comp, p := range c.parked {
		if want[p] = (&lines{}); p.empty() && !p.dirty {
			r.say("nobody waits for %v", comp)
		}
		parked := 0
		lists := [][]parkedActor{p.order, p.urgent}
		for _, boot := range sortedKeys(c.hosts) {
			lists = append(lists, c.hosts[boot].lines[comp])
		}
		for i, list := range lists {
			for _, x := range list {
				if p.waits(x) && x.a.urgent == (i == 1) && (x.a.urgent || (x.a.parkHost != "") == (i > 1)) {
					parked++
				}
			}
			if len(list) > 2*len(p.actors)+65 {
				r.say("%d places in a line of %d actors that wait for %v", len(list), len(p.actors), comp)
			}
		}
		if parked != len(p.actors) {
			r.say("%d wait in order for %v, of %d", parked, comp, len(p.actors))
		}
		work := 0
		for name, a := range p.actors {
			work += a.queue.len() + a.running + a.resting.len()
			if c.actors[name] != a || !a.parked {
				r.say("actor %v does not wait for a host", name)
			}
		}
		r.same(fmt.Sprintf("requests of actors that wait for %v", comp), p.work, work)
	}
	for name, a := range c.actors {
		if p := c.parked[component{name.App, name.Type, true}]; a.parked && (p == nil || p.actors[name] != a) {
			r.say("actor %v waits for a host, and no host knows", name)
		}
	}
	for id, e := range c.entries {
		service := !e.req.Target.IsActor()
		p := c.parked[componentOf(e.req.Target)]
		if e.lined == nil && !(service && (e.phase == queued || e.phase == stopped)) {
			continue
		}
		w := want[p]
		switch {
		case p == nil:
			r.say("%s waits nowhere", id)
		case e.lined == nil && e.phase == stopped:
			w.resting++
		case e.lined == &p.suspects && e.suspect():
			w.suspects = append(w.suspects, e)
		case e.lined == &p.awaited && e.awaited() && !e.suspect():
			w.awaited = append(w.awaited, e)
		case e.lined == &p.requests && !e.awaited() && !e.suspect():
			w.requests = append(w.requests, e)
		default:
			r.say("%s (%s) waits in a line that is not its own", id, e.phase)
		}
	}
	for comp, p := range c.parked {
		w := want[p]
		r.same(fmt.Sprintf("resting requests of %v", comp), p.resting, w.resting)
		r.line(fmt.Sprintf("requests of %v", comp), &p.requests, w.requests)
		r.line(fmt.Sprintf("awaited requests of %v", comp), &p.awaited, w.awaited)
		r.line(fmt.Sprintf("suspects of %v", comp), &p.suspects, w.suspects)
	}
}

// kept: each live thing stands once in the list, and nothing else.
func (r *recount) kept() {
	c := r.c
	moves := 0
	n, base, swept := 0, uint64(0), c.keep.sweep == nil
	var last *node
	for x := c.keep.live.first; x != nil; x = x.next {
		if x.prev != last || x.list != &c.keep.live || x.base < base || x.base > c.seq {
			r.say("%T with base %d stands behind %d", x.owner, x.base, base)
		}
		swept = swept || x == c.keep.sweep
		n, base, last = n+1, x.base, x
		var ok bool
		var own *node
		switch o := x.owner.(type) {
		case *entry:
			ok, own = c.entries[o.req.ID] == o, &o.node
		case *homeEntry:
			ok, own = c.homes[o.req.ID] == o, &o.node
		case *appEntry:
			ok, own = c.apps[o.name] == o, &o.node
		case *serviceEntry:
			ok, own = c.apps[o.app] != nil && slices.Contains(c.apps[o.app].services, o), &o.node
		case *lostEntry:
			ok, own = c.lost[o.boot] == o, &o.node
		case *actorEntry:
			ok, own = c.actors[o.actor] == o, &o.node
		case *reminderEntry:
			ok, own = c.reminders[o.Actor].find(o.ID) == o, &o.node
		case *groupEntry:
			ok, own = c.groups[o.key] == o || c.deadGroup(o), &o.node
			if c.groups[o.key] != o {
				moves++
			}
		case *idBucket:
			ok, own = slices.Contains(c.ended.all(), o), &o.node
		case *moving:
			ok, own = true, &o.node
			moves++
		case *past:
			ok, own = c.pasts[o.pastKey] == o, &o.node
		case *wish:
			ok, own = c.wishes[o.id] == o, &o.node
		case *borrowing:
			ok, own = c.borrowings[o.id] == o, &o.node
		case *clearing:
			ok, own = c.clearings[o.id] == o && o.line > 0, &o.node
		case *outEntry:
			ok, own = c.out[o.to] != nil && c.out[o.to].pending[o.n] == o, &o.node
		default:
			ok = false
		}
		if !ok || own != x {
			r.say("%T is kept and not there", x.owner)
		}
	}
	if c.keep.live.last != last || !swept {
		r.say("the list of what is live has another end, or the sweep is beside it")
	}
	last, base = nil, 0
	ends := 0
	for x := c.keep.endings.first; x != nil; x = x.next {
		o, ok := x.owner.(*ending)
		if !ok || c.endings[o.id] != o || x.prev != last || x.list != &c.keep.endings || x.base < base {
			r.say("%T stands among outcomes", x.owner)
		}
		ends, base, last = ends+1, x.base, x
	}
	if c.keep.endings.last != last {
		r.say("the list of outcomes has another end")
	}
	r.same("outcomes in the list", ends, len(c.endings))
	want := len(c.entries) + len(c.homes) + len(c.pasts) + len(c.wishes) + c.remCount + len(c.groups) + len(c.ended.all())
	want += moves + len(c.borrowings) + len(c.clearings)
	for _, a := range c.actors {
		if a.listed() {
			want++
		}
	}
	for _, o := range c.out {
		want += len(o.pending)
	}
	for _, a := range c.apps {
		if a.listed() {
			want++
		} else if a.generation != 0 && c.LogLevel() >= 2 {
			r.say("the generation of %s is not kept", a.name)
		}
		for _, s := range a.services {
			if s.listed() {
				want++
			} else if c.LogLevel() >= 2 {
				r.say("service %s of %s is not kept", s.name, a.name)
			}
		}
	}
	for _, x := range c.lost {
		if x.listed() {
			want++
		} else if c.LogLevel() >= 2 {
			r.say("the loss of %s is not kept", x.boot)
		}
	}
	r.same("what is kept", n, want)
}

func (r *recount) reminders() {
	c := r.c
	n, due, late, firings := 0, 0, 0, 0
	for a, list := range c.reminders {
		if len(list) == 0 {
			r.say("actor %v has an empty list of reminders", a)
		}
		for i, x := range list {
			n++
			if x.Actor != a || i > 0 && list[i-1].ID >= x.ID {
				r.say("reminder %s of %v is not in order", x.ID, a)
			}
			if !x.firing.IsZero() {
				if firings++; c.firings[x.firing] != x {
					r.say("the firing of reminder %s is not known", x.ID)
				}
			} else if x.index == 0 && !x.leaving {
				r.say("reminder %s is not due at any time", x.ID)
			}
			if x.index != 0 {
				h := c.heapOf(x)
				if h == &c.due {
					due++
				} else {
					late++
				}
				if x.index > len(h.items) || h.items[x.index-1] != x {
					r.say("reminder %s has another place", x.ID)
				}
			} else if x.late {
				r.say("reminder %s waits nowhere", x.ID)
			}
		}
	}
	r.same("reminders", c.remCount, n)
	r.same("due reminders", len(c.due.items), due)
	r.same("late reminders", c.lateCount(), late)
	for app, h := range c.late {
		if len(h.items) == 0 {
			r.say("app %s has no late reminder, and a place for them", app)
		}
	}
	r.same("firings", len(c.firings), firings)
	fired, listed := 0, 0
	for a, list := range c.fired {
		fired += len(list)
		for i, f := range list {
			if f.actor != a || f.at != i || c.firingOf(f.id) != f {
				r.say("%s is no firing of %v any more", f.id, a)
			}
		}
	}
	for _, e := range c.entries {
		if e.fired.of() != (Actor{}) {
			listed++
		}
	}
	for _, h := range c.homes {
		if h.fired.of() != (Actor{}) {
			listed++
		}
	}
	r.same("unfinished firings", fired, listed)
	for i := 1; i < len(c.due.items); i++ {
		if c.due.Less(i, (i-1)/2) {
			r.say("the reminder at %d is due before the one above it", i)
		}
	}
}

func (r *recount) groups() {
	c := r.c
	members := 0
	for n := c.keep.live.first; n != nil; n = n.next {
		if g, ok := n.owner.(*groupEntry); ok && c.groups[g.key] != g {
			for _, m := range g.members { // of a dead one that has another in its place
				if c.memberOf[memberKey{m.Actor, m.ID}] == g {
					members++
				}
			}
		}
	}
	for i, g := range c.groupOrder {
		if c.groups[g.key] != g || i > 0 && c.groupOrder[i-1].key >= g.key || len(g.members) == 0 {
			r.say("group %q has no place in order, or no members", g.key)
		}
		for j, m := range g.members {
			if members++; c.memberOf[memberKey{m.Actor, m.ID}] != g || c.groupKey(&m.Subscription) != g.key || j > 0 && compareMembers(g.members[j-1], m) >= 0 {
				r.say("member %s of group %q has no place", m.ID, g.key)
			}
		}
		for p, w := range g.away {
			if w.open < 0 || p == c.cfg.Partition || !slices.IsSorted(w.sent) {
				r.say("group %q has %d open in p%d", g.key, w.open, p)
			}
		}
	}
	r.same("groups in order", len(c.groupOrder), len(c.groups))
	r.same("members", len(c.memberOf), members)
	subs := 0
	for _, m := range c.subs {
		subs += len(m)
	}
	r.same("subscriptions", c.subCount, subs)
	for a, m := range c.subs {
		if len(m) == 0 {
			r.say("actor %v has an empty list of subscriptions", a)
		}
		for id, s := range m {
			if g := c.memberOf[memberKey{a, id}]; s.ID != id || g == nil || g.key != c.groupKey(&s.Subscription) {
				r.say("subscription %s of %v is in no group", id, a)
			}
		}
	}
	tells := map[groupLife]int{}
	for _, e := range c.entries {
		tells[e.from]++
	}
	for _, h := range c.homes {
		tells[h.from]++
	}
	delete(tells, groupLife{})
	for l, t := range c.tells {
		r.same("tells of group "+l.key, t.n, tells[l])
	}
	r.same("groups with tells", len(c.tells), len(tells))
}

func (r *recount) outboxes() {
	for to, o := range r.c.out {
		size := 0
		for n, e := range o.pending {
			if size += len(e.payload); e.n != n || e.to != to || n < o.first || n >= o.next {
				r.say("message %d for p%d is %d for p%d, first %d next %d", n, to, e.n, e.to, o.first, o.next)
			}
		}
		r.same(fmt.Sprintf("bytes for p%d", to), o.size, size)
	}
}

func (r *recount) apps() {
	c := r.c
	want := map[string]*appEntry{}
	of := func(app string) *appEntry {
		if want[app] == nil {
			want[app] = &appEntry{}
		}
		return want[app]
	}
	lasting := int64(0)
	seats := map[*seat]bool{}
	for _, e := range c.entries {
		a := of(e.req.Target.App)
		a.open++
		a.bytes += int64(e.weight + e.size)
		if e.from != (groupLife{}) {
			a.events += int64(e.weight + e.size)
		}
		if e.fired != nil {
			a.fired += int64(e.weight + e.size)
		}
		a.links += len(e.children)
		seats[&e.seat] = e.seat.e == e
	}
	for _, h := range c.homes {
		of(h.req.Target.App)
		seats[&h.seat] = h.seat.e == nil && h.seat.h == h
	}
	for _, a := range c.actors {
		if a.host != "" {
			of(a.actor.App).holds++
		}
	}
	for a, list := range c.reminders {
		of(a.App).holds += len(list)
		for _, x := range list {
			of(a.App).lasting += int64(x.lasts())
			lasting += int64(x.lasts())
		}
	}
	for a, list := range c.subs {
		for _, x := range list {
			of(a.App).lasting += int64(x.lasts())
			lasting += int64(x.lasts())
		}
	}
	for n := c.keep.live.first; n != nil; n = n.next {
		g, ok := n.owner.(*groupEntry)
		for i := 0; ok && i < len(g.members); i++ {
			of(g.members[i].Actor.App).members++
		}
	}
	for name, a := range c.apps {
		w := of(name)
		if a.name != name {
			r.say("app %s is under %s", a.name, name)
		}
		r.same("open of "+name, a.open, w.open)
		r.same("bytes of "+name, a.bytes, w.bytes)
		r.same("bytes of events of "+name, a.events, w.events)
		r.same("bytes of firings of "+name, a.fired, w.fired)
		r.same("bytes of reminders of "+name, a.lasting, w.lasting)
		r.same("links of "+name, a.links, w.links)
		r.same("holds of "+name, a.holds, w.holds)
		r.same("members of "+name, a.members, w.members)
		var last *seat
		at := a.roll.at == nil
		for s := a.roll.first; s != nil; s = s.next {
			if s.prev != last || last != nil && last.n >= s.n || !seats[s] {
				r.say("the roll of %s is out of order", name)
			}
			if c.owned && last != nil && last.came() >= s.came() {
				r.say("the roll of %s is not in the order in which all has come", name)
			}
			at, last = at || s == a.roll.at, s
			delete(seats, s)
		}
		if a.roll.last != last || !at {
			r.say("the roll of %s has another end", name)
		}
		if a.open == 0 && a.roll.first == nil && a.holds == 0 && a.members == 0 && a.generation == 0 && len(a.services) == 0 {
			r.say("app %s is known for nothing", name)
		}
		for i := 1; i < len(a.services); i++ {
			if a.services[i-1].name >= a.services[i].name {
				r.say("the services of %s are not in order", name)
			}
		}
	}
	r.same("what is on no roll", len(seats), 0)
	r.same("bytes of reminders", c.load.lasting, lasting)
	for name := range want {
		if c.apps[name] == nil {
			r.say("app %s is not known", name)
		}
	}
}

// timers: whatever time may do to a thing, a timer says so in time.
func (r *recount) timers() {
	c := r.c
	for what, h := range map[string]*timerHeap{"timer": &c.timers, "wall timer": &c.walls} {
		for i, t := range h.items {
			if t.index != i+1 || i > 0 && h.Less(i, (i-1)/2) {
				r.say("%s %d has another place", what, i)
			}
			if t.home == nil && c.entries[t.e.req.ID] != t.e || t.home != nil && c.homes[t.home.req.ID] != t.home {
				r.say("%s %d is of something that has ended", what, i)
			}
		}
	}
	if !c.owned {
		return
	}
	by := func(what string, id ID, t *timer, at int64) {
		if t.index == 0 || t.at > at {
			r.say("%s of %s is at %d, wanted by %d", what, id, t.at, at)
		}
	}
	for id, e := range c.entries {
		if c.dead(&e.node, e.req.Target.App) {
			continue // a purge goes on
		}
		switch {
		case e.phase == delayed:
			by("delay", id, &e.wall, e.req.NotBefore)
		case e.phase == stopped && e.retryAt > c.now.Mono && !e.cancelled:
			by("back-off", id, &e.timer, e.retryAt)
		case e.phase == stopped && e.lined != nil && e.turnAt > c.now.Mono:
			by("patience", id, &e.timer, e.turnAt)
		}
		if d := e.req.Deadline; d > c.now.Wall && !e.answered && (len(e.waiters) > 0 || !e.hasStarted()) {
			by("deadline", id, &e.wall, d)
		}
		if e.phase == queued && !e.hasStarted() && !e.answered {
			for _, limit := range []int64{e.req.NoHost, e.req.Busy} {
				if at := e.since + limit; limit > 0 && at > c.now.Mono {
					by("limit", id, &e.timer, at)
				}
			}
		}
	}
	for id, h := range c.homes {
		if d := h.req.Deadline; d > c.now.Wall && !h.answered && len(h.waiters) > 0 {
			by("deadline away", id, &h.timer, d)
		}
	}
}

func (r *recount) overlay() {
	o := &r.c.view
	ahead := int64(0)
	for i, x := range o.recent {
		if i >= o.stored {
			ahead += x.size
		}
		if stored := i < o.stored; stored != (x.seq <= o.applied) || x.seq <= o.forgotten || o.groups[x.group] == nil || i > 0 && x.seq < o.recent[i-1].seq {
			r.say("change %d of %d (%d stored) is of record %d", i, len(o.recent), o.stored, x.seq)
		}
	}
	r.same("bytes that the store lacks", o.ahead, ahead)
	for key, g := range o.groups {
		last := uint64(0)
		for _, x := range o.recent {
			if x.group == key {
				last = x.seq
			}
		}
		r.same(fmt.Sprintf("last change of %q", key), g.last, last)
		for k, it := range g.items {
			if !slices.ContainsFunc(o.recent, func(x viewChange) bool { return x.seq == it.seq && x.group == key && x.key == k }) {
				r.say("%q of %q is in no change", k, key)
			}
		}
	}
}

func (r *recount) memory() {
	c := r.c
	for boot, x := range c.lost {
		if x.boot != boot || !slices.Contains(c.lostOrder, x) {
			r.say("the loss of %s is never forgotten", boot)
		}
	}
	r.same("strangers", len(c.strange), len(c.strangers))
	for key, p := range c.pasts {
		if p.pastKey != key || p.attempt == 0 || c.owned && !slices.Contains(c.oldPasts.es, faded[*past]{p, p.at}) {
			r.say("the past of %v is never forgotten", key)
		}
	}
	for id, w := range c.wishes {
		if w.id != id || c.owned && !slices.Contains(c.oldWishes.es, faded[*wish]{w, w.at}) {
			r.say("the wish about %s is never forgotten", id)
		}
	}
	clearings := map[string]int{}
	for id, x := range c.clearings {
		clearings[x.app]++
		if x.id != id || c.owned && !slices.Contains(c.oldClears.es, faded[*clearing]{x, x.at}) || len(x.waiters) > 0 && !x.going {
			r.say("the clearing %s is never forgotten, or somebody waits in vain", id)
		}
	}
	r.same("drains and cancels of all", c.clearingsOf, clearings)
	for name, a := range c.apps {
		for _, x := range a.drains {
			if !x.going || len(x.waiters) == 0 || !x.id.IsZero() && c.clearings[x.id] != x {
				r.say("a drain of %s goes on for nobody", name)
			}
		}
	}
	over := 0
	for id, p := range c.publishings {
		if p.over {
			if over++; len(p.waiters) > 0 || !slices.Contains(c.published, id) {
				r.say("%s was published, and somebody waits", id)
			}
		}
	}
	r.same("published", len(c.published), over)
	for boot, q := range c.inquiries {
		if len(q.entries) == 0 {
			r.say("nothing waits for answers about %s", boot)
		}
	}
	for key, ws := range c.blocked {
		if len(ws) == 0 {
			r.say("nobody waits for group %q", key)
		}
	}
	for _, a := range c.unkept {
		if a != nil && !a.unkept {
			r.say("actor %v is to be kept and does not know", a.actor)
		}
	}
}
