package runtime

import (
	"testing"
	"time"
)

// An owner that steps down tells those who wait for chains that are away too.
func TestStepDownAnswersWaitersOfChainsAway(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	s.host("h1")
	a := actorIn(0, 2, "A").target()
	id := s.id(a)
	s.do(&Submit{Request: Request{ID: id, Target: a, Method: "POST", Path: "/m"}, Waiter: "w"})
	s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{
		Status: 200, Body: tailCallBody(actorIn(1, 2, "A").target(), "/x", false),
	}}})
	if s.c.homes[id] == nil {
		t.Fatal("the chain is not away")
	}
	s.c.StepDown()
	for _, e := range s.take() {
		if e.Waiter == "w" && codeOf(&e) == CodeAskAgain {
			return
		}
	}
	t.Error("the waiter was not told")
}

// The next owner keeps the deadline of a chain that is away.
func TestDeadlineOfChainAwayOverOwners(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	s.host("h1")
	a := actorIn(0, 2, "A").target()
	id := s.id(a)
	s.do(&Submit{Request: Request{ID: id, Target: a, Method: "POST", Path: "/m", Deadline: s.now.Wall + 5000}, Waiter: "w"})
	s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{
		Status: 200, Body: tailCallBody(actorIn(1, 2, "A").target(), "/x", false),
	}}})
	s.reown()
	s.do(&Await{App: "dp", ID: id, Waiter: "w", View: &View{}})
	s.pass(6 * time.Second)
	for _, e := range s.do(&Tick{}) {
		if e.Waiter == "w" && e.Open && e.Outcome.Code == CodeDeadline {
			return
		}
	}
	t.Error("the waiter was not told")
}

// The wish to end a chain outlasts its owner and a cut of the log, and ends a
// step that arrives later.
func TestWishOutlastsOwnerAndTrim(t *testing.T) {
	s := newSolo(t, Config{Partitions: 4, Partition: 1})
	s.host("h1")
	a := actorIn(1, 4, "A").target()
	id := NewID(s.now.Wall, 0, "dp", [6]byte{1})
	s.do(&Deliver{From: 0, N: 1, Payload: encode(nil, &parcel{kind: msgCancel, id: id, req: Request{Target: Target{App: "dp"}}})})
	s.do(&Mark{})
	cut, seq := len(s.log)-1, s.c.Seq()
	for s.c.OldestLive() < seq {
		s.do(&Keep{Before: seq, Limit: 10})
	}
	s.log = s.log[cut:]
	s.reown()
	s.host("h1")
	step := &parcel{kind: msgStep, id: id, step: 2, flow: id, req: Request{ID: id, Target: a, Method: "POST", Path: "/m"}}
	s.do(&Deliver{From: 2, N: 1, Payload: encode(nil, step)})
	if s.c.entries[id] != nil {
		t.Error("the step is open")
	}
	var m parcel
	if out := s.c.out[0]; out == nil || len(out.pending) != 1 || decode(out.pending[out.first].payload, &m) != nil || m.kind != msgOutcome || m.outcome.Code != CodeCancelled {
		t.Errorf("the home was told %+v", m)
	}
	s.pass(20 * time.Minute)
	s.do(&Tick{})
	if len(s.c.wishes) != 0 {
		t.Error("a wish is never forgotten")
	}
}

// A log that older gateways may have to read holds no wish.
func TestNoWishInALogOfLevel1(t *testing.T) {
	b := newBench(t, Config{Partitions: 4, Level: 1})
	cfg := b.c.cfg
	cfg.Level, cfg.Node = 0, "g2"
	b.own(cfg)
	id := NewID(b.now.Wall, 1, "dp", [6]byte{1})
	m := parcel{kind: msgCancel, id: id, req: Request{Target: Target{App: "dp"}}}
	b.step(&Deliver{From: 1, N: 1, Payload: encode(nil, &m)})
	old := New(b.c.cfg)
	old.cfg.Level = 1
	for _, r := range b.log {
		if x, err := DecodeRecord(r); err != nil || kindOf(x.Body) > kindRaised {
			t.Errorf("%T, %v", x.Body, err)
		}
		if _, err := old.Fold(r); err != nil {
			t.Error(err)
		}
	}
	if b.c.LogLevel() != 1 || b.c.in[1] != 1 || old.in[1] != 1 {
		t.Errorf("level %d, message %d, %d", b.c.LogLevel(), b.c.in[1], old.in[1])
	}
}

// A purge in the first round of a new owner: what its predecessor has started
// runs, although this owner has handed nothing over yet.
func TestPurgeInTheFirstRoundOfAnOwner(t *testing.T) {
	s := newSolo(t, Config{})
	s.host("h1")
	a := actorIn(0, 1, "A")
	s.do(&Submit{Request: Request{ID: s.id(a.target()), Target: a.target(), Method: "POST", Path: "/m"}, Waiter: "w"})
	cfg := s.c.cfg
	cfg.Node = "g2"
	c := New(cfg)
	for _, b := range s.log {
		if _, err := c.Fold(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Fold(c.Claim(s.now)); err != nil || !c.Own(s.now, 0) {
		t.Fatal("not owned", err)
	}
	c.Step(s.now, &Purge{App: "dp", Waiter: "p"})
	if x := c.actors[a]; x == nil || len(x.zombies) != 1 {
		t.Errorf("the running attempt is forgotten: %+v", x)
	}
}
