package runtime

import (
	"testing"
	"time"
)

// A purge that another partition has heard of reaches a new owner with the answer
// about its children, and ends what was interrupted.
func TestPurgeComesWithTheAnswerAboutChildren(t *testing.T) {
	b := newBench(t, Config{Partitions: 2})
	b.host("h1")
	a := actorIn(0, 2, "A").target()
	e := b.submit(Request{Target: a})
	b.restart()
	b.step(&FenceAnswered{From: 1, Epoch: b.c.Epoch(), Part: 1, Purged: []AppGeneration{{"dp", 1}}})
	if b.c.generation("dp") != 1 || b.c.entries[e.req.ID] != nil || len(b.c.fenceWait) != 0 {
		t.Errorf("generation %d, the request is there: %v", b.c.generation("dp"), b.c.entries[e.req.ID] != nil)
	}
}

// What a host says over the link that it has may have been asked in front of an
// invocation that is on its way: that one is waited for. A new link has none.
func TestPurgedOnItsWay(t *testing.T) {
	for _, shed := range []bool{false, true} {
		b := newBench(t, Config{})
		b.host("h1")
		a := Target{App: "dp", Type: "A", ID: "1"}
		body := []byte("[123456]")
		if shed { // the attempt leaves when its body has been read
			b.c.load.least = 1
			b.step(&HostChanged{Info: HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000, Frozen: true}})
		}
		e := b.submit(Request{Target: a, Body: body})
		if shed {
			b.c.Shed(1 << 30)
			b.step(&HostChanged{Info: HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000}})
			b.step(&BodyRead{ID: e.req.ID, At: e.bodyAt, Body: body, Found: true})
		}
		if e.phase != running {
			t.Fatalf("shed %v: it is %v", shed, e.phase)
		}
		b.step(&Purge{App: "dp", Waiter: "purge"})
		waits := func(when string, want int) {
			t.Helper()
			n := 0
			if x := b.c.actors[a.Actor()]; x != nil {
				n = len(x.zombies)
			}
			if n != want {
				t.Errorf("shed %v, %s: %d attempts are waited for", shed, when, n)
			}
		}
		waits("after the purge", 1)
		b.host("h1")
		waits("after a join over the same link", 1)
		b.step(&HostUnlinked{Boot: "h1"})
		b.host("h1")
		waits("after a join over a new link", 0)
	}
}

// Who asks for a chain that is away after its deadline has been told waits for
// its outcome, also when the chain is kept meanwhile.
func TestAskedAfterTheDeadlineOfAChainAway(t *testing.T) {
	b := newBench(t, Config{Partitions: 2})
	b.host("h1")
	e := b.submit(Request{Target: actorIn(0, 2, "A").target(), Deadline: b.now.Wall + 5000})
	b.answer(e, &Outcome{Status: 200, Body: tailCallBody(actorIn(1, 2, "A").target(), "/x", false)})
	told := func(effects []Effect, w any) bool {
		for _, x := range effects {
			if x.Kind == Reply && x.Waiter == w {
				return true
			}
		}
		return false
	}
	if !told(b.pass(6*time.Second), b.n) {
		t.Error("who waited at the deadline was not told")
	}
	b.step(&Await{App: "dp", ID: e.req.ID, Waiter: "later", View: &View{}})
	b.step(&Keep{Before: b.c.Seq() + 1, Limit: 1000})
	if told(b.pass(6*time.Second), "later") {
		t.Error("who asked later was told the deadline")
	}
}

// Where other partitions may remember a purge for longer, none forgets it: theirs
// would be a generation that nobody else knows.
func TestPurgeIsRememberedWhereOthersAre(t *testing.T) {
	for partitions, want := range map[int]uint64{1: 0, 2: 1} {
		b := newBench(t, Config{Partitions: partitions})
		b.step(&Purge{App: "dp", Waiter: "purge"})
		b.now.Wall, b.now.Mono = b.now.Wall+factMemory+1, b.now.Mono+factMemory+1
		b.step(&Keep{Before: b.c.Seq() + 1, Limit: 1000})
		b.restart()
		if g := b.c.generation("dp"); g != want {
			t.Errorf("of %d partitions: generation %d", partitions, g)
		}
	}
}
