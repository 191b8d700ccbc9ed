package runtime

import (
	"testing"
	"time"
)

// What an interruption says of a request: whether it is to blame, and among how
// many it may run next.
func TestSuspicion(t *testing.T) {
	for _, x := range []struct {
		name    string
		attempt uint32
		among   uint32
		beside  company
		alone   bool
		group   uint32
	}{
		{"alone", 1, 0, company{flows: 1, doubted: 0, suspects: 0}, true, 0},
		{"in company", 2, 0, company{flows: 2, doubted: 0, suspects: 0}, false, 0},
		{"the third time, alone", 3, 0, company{flows: 1, doubted: 1, suspects: 0}, true, 1},
		{"the third time, with nine others", 3, 0, company{flows: 10, doubted: 10, suspects: 0}, false, 5},
		{"a suspect beside requests that are none", 4, 1, company{flows: 7, doubted: 1, suspects: 1}, true, 1},
		{"a suspect beside another", 4, 2, company{flows: 2, doubted: 2, suspects: 2}, false, 1},
		{"suspects that others waited for had joined it", 5, 4, company{flows: 9, doubted: 9, suspects: 9}, false, 2},
		{"most of its group had ended", 5, 8, company{flows: 3, doubted: 3, suspects: 2}, false, 1},
	} {
		e := &entry{attempt: x.attempt, among: x.among}
		if e.suspicion(x.beside); e.alone != x.alone || e.among != x.group {
			t.Errorf("%s: alone is %v, may run among %d", x.name, e.alone, e.among)
		}
	}
}

// Who may run beside the suspects of a host.
func TestWhoJoinsSuspects(t *testing.T) {
	c := New(Config{Partitions: 1})
	c.owned = true
	h := c.host("h")
	entryOf := func(n byte, flow byte, among uint32, p phase) *entry {
		e := &entry{req: Request{ID: ID{n}, Target: Target{App: "dp", Service: "s"}}, flow: ID{flow}, among: among, attempt: 4, phase: p}
		c.entries[e.req.ID] = e
		return e
	}
	join := func(name string, e *entry, want bool) {
		t.Helper()
		if got := c.mayJoin(h, e); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	join("the first", entryOf(1, 1, 1, stopped), true)
	three := entryOf(2, 2, 3, running)
	h.take(three)
	join("a second of three", entryOf(3, 3, 5, stopped), true)
	join("one that must be alone", entryOf(4, 4, 1, stopped), false)
	two := entryOf(5, 5, 2, running)
	h.take(two)
	join("a third beside one of a pair", entryOf(6, 6, 5, stopped), false)
	h.release(two)
	h.release(three)
	h.take(entryOf(7, 7, 9, running))
	join("a new group has a new bound", entryOf(8, 8, 2, stopped), true)

	h.release(c.entries[ID{7}])
	alone := entryOf(9, 9, 1, running)
	h.take(alone)
	join("of the same flow", entryOf(10, 9, 1, stopped), true)
	child := entryOf(11, 11, 1, stopped)
	child.parents = []ID{alone.req.ID}
	join("called by one that runs", child, true)
	between := entryOf(12, 12, 0, running)
	between.parents = []ID{alone.req.ID}
	grandchild := entryOf(13, 13, 1, stopped)
	grandchild.parents = []ID{between.req.ID}
	join("called by what one that runs has called", grandchild, true)
	other := entryOf(14, 14, 1, stopped)
	other.parents = []ID{entryOf(15, 15, 0, running).req.ID}
	join("called by one that is none", other, false)
	other.parents = []ID{entryOf(16, 16, 1, stopped).req.ID}
	join("called by one that does not run", other, false)
	service := entryOf(17, 17, 1, stopped)
	service.req.Boot = "h"
	join("sent without a session by a host that runs one", service, true)
	service.req.Boot = "elsewhere"
	join("sent without a session by another host", service, false)
}

// A suspect whose callers have each other as callers costs a look at each of
// them: what is called with the session of a request that has ended is a child of
// all that are open in its flow.
func TestSuspectWithManyCallers(t *testing.T) {
	c := New(Config{Partitions: 1})
	c.owned = true
	h := c.host("h")
	flow := func(n int, p phase, among uint32) (es []*entry) {
		var ids []ID
		first := len(c.entries)
		for i := range n {
			k := first + i
			e := &entry{req: Request{ID: ID{byte(k >> 8), byte(k), 1}, Target: Target{App: "dp", Service: "s"}}, flow: ID{byte(n), 2}, phase: p, among: among, attempt: 4, parents: ids}
			c.entries[e.req.ID] = e
			ids = append(ids[:i:i], e.req.ID)
			es = append(es, e)
		}
		return es
	}
	stopped, running := flow(50, stopped, 1), flow(1, running, 1)[0]
	h.take(running)
	last := stopped[len(stopped)-1]
	if c.mayJoin(h, last) {
		t.Error("none of its callers runs")
	}
	stopped[0].parents = []ID{running.req.ID}
	if !c.mayJoin(h, last) {
		t.Error("one that runs waits for it")
	}
	stopped[0].parents = nil
	if many := flow(200, stopped[0].phase, 1); !c.mayJoin(h, many[len(many)-1]) {
		t.Error("one with more callers than a search looks at is held back")
	}
}

// suspectsOf makes suspects of requests to actors that were interrupted one by
// one, so that each has to run alone. Their back-off is over.
func suspectsOf(b *bench, ids ...string) []*entry {
	var es []*entry
	for _, id := range ids {
		e := b.submit(Request{Target: Target{Type: "A", ID: id}})
		for range 3 {
			b.answer(e, nil)
		}
		e.retryAt = b.now.Mono
		es = append(es, e)
	}
	return es
}

// Whoever was due first goes first, not whoever is oldest, and none starts on an
// actor that is not free.
func TestTurnsOfSuspects(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	es := suspectsOf(b, "one", "two", "three")
	old, young, busy := es[0], es[1], es[2]
	info := b.c.hosts["h1"].info
	info.Frozen = true
	b.step(&HostChanged{Info: info}) // each is off its host
	for _, e := range es {
		b.c.unplace(b.c.actorOf(e))
	}
	b.c.actorOf(busy).asking = 1
	for _, e := range []*entry{busy, young, old} {
		b.c.park(e)
	}
	b.c.actorOf(old).host = "gone" // not gone through yet
	info.Frozen = false
	b.step(&HostChanged{Info: info})
	if young.phase != running || old.phase != stopped || busy.phase != stopped {
		t.Fatalf("young %v, old %v, busy %v", young.phase, old.phase, busy.phase)
	}
	b.answer(young, &Outcome{Status: 200})
	if old.phase != running || busy.phase != stopped {
		t.Errorf("old %v, busy %v", old.phase, busy.phase)
	}
}

// The next step of a suspect is none.
func TestNextStepIsNoSuspect(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	e := suspectsOf(b, "one")[0]
	b.pass(time.Second)
	b.answer(e, &Outcome{Status: 200, Body: tailCallBody(Target{Type: "A", ID: "one"}, "/next", false)})
	if e.step != 1 || e.phase != running || e.suspect() || e.tried != 0 {
		t.Errorf("step %d is %v, suspect %v, counts %d", e.step, e.phase, e.suspect(), e.tried)
	}
}

// A suspect that waits for its turn does not hold up other calls of its flow on
// the same actor.
func TestSuspectHoldsUpNoSibling(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	root := b.submit(Request{Target: Target{Type: "A", ID: "root"}})
	call := func() *entry {
		return b.submit(Request{Target: Target{Type: "B", ID: "b"}, Session: b.c.sessionOf(root), Boot: "h1"})
	}
	first, second := call(), call()
	for range 3 {
		b.answer(first, nil)
	}
	alone := suspectsOf(b, "alone")[0]
	alone.among, first.among = 1, 1
	for i := 0; alone.phase != running; i++ {
		if first.phase == running {
			b.answer(first, nil)
		}
		if b.pass(100 * time.Millisecond); i > 100 {
			t.Fatal("no suspect starts")
		}
	}
	b.pass(5 * time.Second)
	if first.phase != stopped {
		t.Fatalf("the suspect is %v beside one that has to be alone", first.phase)
	}
	b.answer(second, nil)
	if second.phase != running || second.attempt != 2 {
		t.Errorf("its sibling is %v", second.phase)
	}
}

// An attempt that its host never got has made no calls: the next one waits for
// no answer of other partitions.
func TestAttemptThatNeverBeganWaitsForNoFence(t *testing.T) {
	b := newBench(t, Config{Partitions: 2})
	b.host("h1")
	var e *entry
	for i := 0; e == nil; i++ {
		id := utoa(uint64(i))
		if ActorPartition(Actor{"dp", "A", id}, 2) == 0 {
			e = b.submit(Request{Target: Target{Type: "A", ID: id}})
		}
	}
	b.restart()
	if len(b.c.fenceWait) == 0 {
		t.Fatal("nothing was asked")
	}
	b.host("h1")
	if e = b.c.entries[e.req.ID]; e.phase != running || e.attempt != 2 {
		t.Errorf("%v, attempt %d", e.phase, e.attempt)
	}
}

// Deleting a reminder reaches what its method has handed on, and each request once.
func TestDeletedReminderEndsTheChain(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	actor := Actor{"dp", "A", "a"}
	for _, period := range []int64{0, int64(time.Hour)} {
		b.step(&SetReminder{Reminder: Reminder{Actor: actor, ID: "r", Path: "/m", Due: b.now.Wall, Period: period}})
		var e *entry
		for _, e = range b.c.entries {
		}
		b.answer(e, &Outcome{Status: 200, Body: tailCallBody(Target{Type: "A", ID: "b"}, "/next", false)})
		b.step(&CancelReminders{Actor: actor})
		if e.step != 1 || !e.cancelled {
			t.Errorf("period %d: step %d, withdrawn %v", period, e.step, e.cancelled)
		}
		for _, x := range b.step(&CancelReminders{Actor: actor, Waiter: "again"}) {
			if x.Waiter == "again" && x.Value != 0 {
				t.Errorf("period %d: %v reminders are deleted again", period, x.Value)
			}
		}
		b.answer(e, &Outcome{Status: 200})
	}
}

// A firing that takes due times in moves its reminder behind others.
func TestDueTimesTakenInKeepTheOrder(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	set := func(id string, in, period time.Duration) {
		b.step(&SetReminder{Reminder: Reminder{Actor: Actor{"dp", "A", id}, ID: id, Path: "/m", Due: b.now.Wall + in.Milliseconds(), Period: int64(period)}})
	}
	set("slow", 0, 2*time.Second)
	var e *entry
	for _, e = range b.c.entries {
	}
	for range 3 {
		b.answer(e, nil)
	}
	e.retryAt = b.now.Mono + 2000
	b.c.timers.remove(&e.timer)
	b.c.timers.set(&e.timer, e, e.retryAt)
	set("next", 2500*time.Millisecond, 0)
	b.pass(2 * time.Second) // its own due time and its next attempt, in one tick
	if e.phase != running || e.count != 2 {
		t.Fatalf("%v, count %d", e.phase, e.count)
	}
	b.pass(time.Second)
	if len(b.c.entries) != 2 {
		t.Error("another reminder waits behind one that is due later")
	}
}

// A suspect may wait for another in a way that nobody sees, as for the outcome of
// a promise: the other has its turn all the same when nothing else moves, and one
// that ends its host again and again has it ever later.
func TestSuspectThatAnotherWaitsForUnseen(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	es := suspectsOf(b, "waits", "promised")
	waits, promised := es[0], es[1]
	for i := 0; waits.phase != running && promised.phase != running; i++ {
		if b.pass(100 * time.Millisecond); i > 100 {
			t.Fatal("none has its turn")
		}
	}
	if waits.phase != running { // which of them runs does not matter
		waits, promised = promised, waits
	}
	until := func() (waited time.Duration) {
		for ; promised.phase != running; waited += time.Second {
			if b.pass(time.Second); waited > time.Hour {
				t.Fatal("it waits for ever")
			}
		}
		return waited
	}
	first := until()
	if first < 10*time.Second {
		t.Errorf("they run together after %s", first)
	}
	for range 3 {
		b.answer(promised, nil)
		promised.among = 1
	}
	if again := until(); again < 2*first {
		t.Errorf("after more interruptions it comes beside the other in %s, at first in %s", again, first)
	}
	b.answer(promised, &Outcome{Status: 200})
	b.answer(waits, &Outcome{Status: 200})
	if len(b.c.entries) != 0 {
		t.Error(b.c.Describe())
	}
}
