package runtime

import (
	"fmt"
	"testing"
	"time"
)

// A call with the session of a request that has ended counts for all requests of
// its flow that run on the host. How many such calls count for how many is
// bounded, is charged to the app, and nothing else is refused for it.
func TestCallsWithManyCallers(t *testing.T) {
	const n = 900
	b := newBench(t, Config{})
	b.host("h1")
	target := Target{App: "dp", Type: "A", ID: "root"}
	root := b.submit(Request{Target: target})
	first := b.submit(Request{Target: target, Session: b.c.sessionOf(root), Boot: "h1"})
	ended := b.c.sessionOf(first)
	b.answer(first, &Outcome{Status: 200})
	app := b.c.apps["dp"]
	held := b.c.Held()
	var open []*entry
	for range n {
		if e := b.submit(Request{Target: target, Session: ended, Boot: "h1"}); e != nil {
			open = append(open, e)
		}
	}
	links := 0
	for _, e := range b.c.entries {
		links += len(e.children)
	}
	if len(open) < 500 || len(open) == n || links > maxLinks || links != app.links {
		t.Errorf("%d of %d calls were accepted, with %d links, %d counted", len(open), n, links, app.links)
	}
	if more := b.c.Held() - held; more < 32*int64(links) {
		t.Errorf("they are charged with %d bytes", more)
	}
	if b.submit(Request{Target: target, Session: b.c.sessionOf(root), Boot: "h1"}) == nil {
		t.Error("a call of one caller is refused")
	}
	if b.submit(Request{Kind: Tell, Target: target, Session: ended, Boot: "h1"}) == nil {
		t.Error("a tell, which nobody waits for, is refused")
	}
	vouch := Vouch{Request: Request{ID: NewID(b.now.Wall, 0, "dp", [6]byte{9}), Target: target, Session: ended, Boot: "h1"}, Waiter: "v"}
	refused := func() bool {
		for _, e := range b.step(&vouch) {
			if e.Kind == Reply && e.Err != nil && e.Err.Code == CodeMailboxFull {
				return true
			}
		}
		return false
	}
	if !refused() {
		t.Error("one for another partition is not refused")
	}
	for _, e := range open[len(open)/2:] {
		b.answer(e, &Outcome{Status: 200})
	}
	if refused() || b.submit(Request{Target: target, Session: ended, Boot: "h1"}) == nil {
		t.Error("calls are refused although others have ended")
	}
	b.restart()
	links = 0
	for _, e := range b.c.entries {
		links += len(e.children)
	}
	if app = b.c.apps["dp"]; links == 0 || links != app.links {
		t.Errorf("a new owner counts %d links of %d", app.links, links)
	}
	for _, e := range b.c.openEntries() {
		b.c.end(e, &Outcome{Status: 200})
	}
	if app.links != 0 {
		t.Errorf("%d links are left", app.links)
	}
}

// A session that an app has got hold of makes nothing of another app wait, here
// or through the owner of the caller, and tells nothing about it.
func TestSessionOfAnotherApp(t *testing.T) {
	s := newSolo(t, Config{})
	s.host("h1")
	id := s.id(Target{App: "dp", Service: "s"})
	s.do(&Submit{Request: Request{ID: id, Kind: Call, Target: Target{App: "dp", Service: "s"}, Path: "/m"}, Waiter: "dp"})
	session := s.c.sessionOf(s.c.entries[id])
	ask := func() Request {
		to := Target{App: "eb", Type: "A", ID: "1"}
		return Request{ID: s.id(to), Kind: Call, Target: to, Path: "/m", Session: session}
	}
	r := ask()
	s.do(&Submit{Request: r, Waiter: "eb"})
	if e := s.c.entries[r.ID]; e == nil || e.flow != r.ID || len(e.parents) > 0 || len(s.c.entries[id].children) > 0 {
		t.Errorf("a call of another app is part of the flow: %+v", e)
	}
	if e := s.answer(&Vouch{Request: ask(), Waiter: "eb"}); e == nil || e.Err != nil || e.Value.(*Vouched) != nil {
		t.Errorf("a call of another app is vouched for: %+v", e)
	}
	if len(s.c.entries[id].children) > 0 {
		t.Error("the caller's retry would wait for another app")
	}
	s.do(&HostDown{Boot: "h1", Reason: "exit"})
	if e := s.answer(&Vouch{Request: ask(), Waiter: "eb"}); codeOf(e) != "" {
		t.Errorf("the other app is told what became of the attempt: %v", codeOf(e))
	}
}

// A call for which two ask at once, for a stream broke, is forgotten by its caller when
// both were not heard, and when it has ended.
func TestCallForWhichTwoAsk(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	s.host("h1")
	to := actorIn(0, 2, "A").target()
	id := s.id(to)
	s.do(&Submit{Request: Request{ID: id, Kind: Call, Target: to, Path: "/m"}, Waiter: "w"})
	far := actorIn(1, 2, "B").target()
	vouch := Vouch{Request: Request{ID: s.id(far), Target: far, Session: s.c.sessionOf(s.c.entries[id])}, Waiter: "v"}
	ask := func(again *Vouched) *Vouched {
		in := vouch
		if again != nil {
			in.Parents, in.Term = again.Parents, again.Epoch
		}
		return s.answer(&in).Value.(*Vouched)
	}
	asked := func() bool {
		_, ok := s.c.entries[id].children[vouch.Request.ID]
		return ok
	}
	unheard := ChildClosed{Parents: []ID{id}, Child: vouch.Request.ID, Asker: s.c.epoch}
	ended := ChildClosed{Parents: []ID{id}, Child: vouch.Request.ID}

	first := ask(nil)
	ask(first) // the same asker once more, after an answer was lost
	ask(nil)
	if s.do(&unheard); !asked() {
		t.Fatal("the second asker's call is forgotten, for the first one's was not heard")
	}
	if s.do(&ChildClosed{Parents: []ID{id}, Child: vouch.Request.ID, Asker: s.c.epoch + 1}); !asked() {
		t.Fatal("an asker of another term had no share in it")
	}
	if s.do(&unheard); asked() {
		t.Fatal("a call that nobody asks for is waited for")
	}
	ask(nil)
	ask(nil)
	if s.do(&ended); asked() {
		t.Fatal("a call that has ended is waited for")
	}
	ask(first) // a repeat of what has ended, by an asker whose share went with it
	if s.do(&unheard); asked() {
		t.Fatal("a repeated call is waited for without end")
	}
}

// Where the chain of a request has gone is told to its own app alone: two apps
// may have names with one hash, and then either can ask for an id of the other.
func TestFactsOfAnotherApp(t *testing.T) {
	s := newSolo(t, Config{})
	id := s.id(Target{App: "dp"})
	s.c.homes[id] = &homeEntry{req: Request{ID: id, Target: Target{App: "dp", Service: "s"}}}
	if f := s.c.requestFacts("eb", id); f.State != "" {
		t.Errorf("another app is told %+v", f)
	}
	if f := s.c.requestFacts("dp", id); f.State != "running" {
		t.Errorf("its own app is told %+v", f)
	}
}

// A step that ends between two nested calls of one flow goes on with the second one.
func TestStepEndsBetweenNestedCalls(t *testing.T) {
	for others := stepBudget - 12; others < stepBudget; others++ {
		b := newBench(t, Config{})
		b.step(&HostJoined{Info: HostInfo{Boot: "h0", App: "dp", Service: "t", Grace: 6000}})
		b.host("h1")
		x := Target{App: "dp", Type: "A", ID: "x"}
		other := func(i int) Target { return Target{App: "dp", Type: "A", ID: fmt.Sprint(i)} }
		b.answer(b.submit(Request{Target: x}), &Outcome{Status: 200}) // placed first, so that it is looked at last
		for i := range others {
			b.answer(b.submit(Request{Target: other(i)}), &Outcome{Status: 200})
		}
		root := b.submit(Request{Target: Target{App: "dp", Type: "B", ID: "root"}})
		session := b.c.sessionOf(root)
		b.step(&HostUnlinked{Boot: "h1"})
		for i := range others {
			b.submit(Request{Target: other(i)})
		}
		one := b.submit(Request{Target: x, Session: session, Boot: "h1"})
		two := b.submit(Request{Target: x, Session: session, Boot: "h1"})
		b.step(&HostJoined{Info: HostInfo{Boot: "h1", App: "dp", Service: "s", Actors: []string{"A", "B"}, Grace: 6000}, Join: JoinAnswer{Running: []Attempt{b.c.attemptOf(root)}}})
		for range 10 {
			b.pass(200 * time.Millisecond)
		}
		if one.phase != running || two.phase != running {
			t.Errorf("%d others: of two nested calls the first is %v, the second %v", others, one.phase, two.phase)
		}
	}
}
