package runtime

import (
	"testing"
	"time"
)

// A change is one operation that a sidecar repeats.
type change struct {
	name  string
	input func(id ID) Input
	// between is what others do after the first time, so that doing it again
	// would show, in the state or in the answer.
	between func(s *solo)
}

func changes(a Actor) []change {
	state := func(s *solo, op StateOp) Input {
		op.Actor = a
		return &StateInput{Op: op, View: &View{Applied: 1 << 40, Entries: map[string][]byte{}}, Waiter: "w"}
	}
	set := func(s *solo, value string) { s.do(state(s, StateOp{Verb: StateSet, Key: "k", Value: []byte(value)})) }
	op := func(op StateOp) func(ID) Input {
		return func(id ID) Input { op.ID = id; return state(nil, op) }
	}
	work := func(s *solo) { // that waits for its time
		s.do(&Submit{Request: Request{ID: s.id(a.target()), Kind: Tell, Target: a.target(), Path: "/m", NotBefore: s.now.Wall + 3_600_000}, Waiter: "tell"})
	}
	reminder := Reminder{Actor: a, ID: "r", Path: "/tick", Due: 1767225600000}
	return []change{
		{"set", op(StateOp{Verb: StateSet, Key: "k", Value: []byte("mine")}), func(s *solo) { set(s, "theirs") }},
		{"delete", op(StateOp{Verb: StateDelete, Key: "k"}), func(s *solo) { set(s, "theirs") }},
		{"clear", op(StateOp{Verb: StateClear}), func(s *solo) { set(s, "theirs") }},
		{"clear submap", op(StateOp{Verb: StateMapClear, Key: "m"}), func(s *solo) {
			s.do(state(s, StateOp{Verb: StateSet, Key: "m", Sub: "x", InMap: true, Value: []byte("theirs")}))
		}},
		{"update", op(StateOp{Verb: StateUpdate, Removes: []Field{{Key: "k"}}, Sets: []Field{{Key: "n", Value: []byte("1")}}}), func(s *solo) { set(s, "theirs") }},
		{"reminder", func(id ID) Input { return &SetReminder{Reminder: reminder, ID: id, Waiter: "w"} }, func(s *solo) {}},
		{"no reminder", func(id ID) Input { return &CancelReminders{Actor: a, ID: "old", Request: id, Waiter: "w"} }, func(s *solo) {
			later := reminder
			later.ID, later.Due = "old", later.Due+86_400_000
			s.do(&SetReminder{Reminder: later, Waiter: "w"})
		}},
		{"subscribe", func(id ID) Input {
			return &Subscribe{Subscription: Subscription{Actor: a, ID: "s", Path: "/e", Topic: "t"}, ID: id, Waiter: "w"}
		}, func(s *solo) { s.do(&Unsubscribe{Actor: a, ID: "s", Waiter: "w"}) }},
		{"unsubscribe", func(id ID) Input { return &Unsubscribe{Actor: a, Request: id, Waiter: "w"} }, func(s *solo) {
			s.do(&Subscribe{Subscription: Subscription{Actor: a, ID: "s", Path: "/e", Topic: "t"}, Waiter: "w"})
		}},
		{"purge", func(id ID) Input { return &Purge{App: a.App, ID: id, Waiter: "w"} }, work},
		{"drain", func(id ID) Input { return &Drain{App: a.App, ID: id, Waiter: "w"} }, work},
		{"cancel all", func(id ID) Input { return &CancelAll{App: a.App, ID: id, Waiter: "w"} }, work},
		{"service", service("http://one"), func(s *solo) { s.do(service("http://two")(ID{})) }},
		{"no service", service(""), func(s *solo) { s.do(service("http://two")(ID{})) }},
	}
}

func service(url string) func(ID) Input {
	return func(id ID) Input {
		return &SetService{App: "dp", Name: "s", URL: url, Timeout: 1000, ID: id, Waiter: "w"}
	}
}

// prepare gives each change something to change.
func prepareChanges(s *solo, a Actor) {
	for _, f := range []Field{{Key: "k"}, {Key: "m", Sub: "y", InMap: true}} {
		s.do(&StateInput{Op: StateOp{Actor: a, Verb: StateSet, Key: f.Key, Sub: f.Sub, InMap: f.InMap, Value: []byte("0")}, View: &View{Applied: 1 << 40, Entries: map[string][]byte{}}, Waiter: "w"})
	}
	s.do(&SetReminder{Reminder: Reminder{Actor: a, ID: "old", Path: "/tick", Due: s.now.Wall + 3_600_000}, Waiter: "w"})
	s.do(&Subscribe{Subscription: Subscription{Actor: a, ID: "old", Path: "/e", Topic: "t"}, Waiter: "w"})
	for range 2 {
		s.do(&Submit{Request: Request{ID: s.id(a.target()), Kind: Tell, Target: a.target(), Path: "/m", NotBefore: s.now.Wall + 3_600_000}, Waiter: "tell"})
	}
}

// A change that is repeated under its id happens once and is answered as the
// first time: at once, by the next owner, and from a log that was cut.
func TestRepeatedChangesHappenOnce(t *testing.T) {
	a := actorIn(0, 1, "A")
	for _, x := range changes(a) {
		for _, later := range []string{"at once", "next owner", "cut log"} {
			s := newSolo(t, Config{})
			s.host("h1")
			prepareChanges(s, a)
			id := s.id(a.target())
			first := s.answer(x.input(id))
			if first == nil || first.Err != nil {
				t.Fatalf("%s: %+v", x.name, first)
			}
			x.between(s)
			switch later {
			case "cut log":
				s.do(&Mark{})
				cut, seq := len(s.log)-1, s.c.Seq()
				for s.c.OldestLive() < seq {
					s.do(&Keep{Before: seq, Limit: 10})
				}
				s.log = s.log[cut:]
				s.reown()
			case "next owner":
				s.reown()
			}
			records := len(s.log)
			again := s.answer(x.input(id))
			if again == nil || again.Err != nil {
				t.Fatalf("%s, %s: %+v", x.name, later, again)
			}
			if want, is := first.Value, again.Value; !sameAnswer(want, is) {
				t.Errorf("%s, %s: answered %+v, the first time %+v", x.name, later, is, want)
			}
			if len(s.log) != records {
				t.Errorf("%s, %s: it happened again", x.name, later)
			}
		}
	}
}

// sameAnswer compares what a client is told.
func sameAnswer(a, b any) bool {
	x, ok := a.(StateResult)
	if !ok {
		return a == b
	}
	y := b.(StateResult)
	return x.Created == y.Created && x.N == y.N && x.Added == y.Added && x.Removed == y.Removed
}

// An answer is given back when it is taken, and at the latest after the id
// window; a copy of the change that comes later still is not made.
func TestAnswersOfChangesEnd(t *testing.T) {
	a := actorIn(0, 1, "A")
	s := newSolo(t, Config{})
	id := s.id(a.target())
	set := &StateInput{Op: StateOp{Actor: a, Verb: StateSet, Key: "k", Value: []byte("1"), ID: id}, View: &View{Applied: 1 << 40}, Waiter: "w"}
	s.do(set)
	s.do(&Release{App: "other", IDs: []ID{id}})
	if len(s.c.endings) != 1 {
		t.Error("another app took the answer")
	}
	if e := s.answer(&Await{App: "dp", ID: id, Waiter: "w", View: &View{}}); codeOf(e) != CodeOutcomeNotKept {
		t.Errorf("a change is no request with an outcome: %+v", e)
	}
	s.do(&Release{App: "dp", IDs: []ID{id}})
	if len(s.c.endings) != 0 {
		t.Error("the answer is kept although it was taken")
	}
	if e := s.answer(set); codeOf(e) != CodeOutcomeNotKept {
		t.Errorf("a late copy: %+v", e)
	}
	s.pass(30 * time.Minute)
	s.do(&Tick{})
	if e := s.answer(set); codeOf(e) != CodeTooOld {
		t.Errorf("a very late copy: %+v", e)
	}
}

// An event that is published under an id is published once while its owner lives.
func TestPublishOnce(t *testing.T) {
	s := newSolo(t, Config{})
	id := s.id(Target{App: "dp"})
	ask := func(w string) *Effect { return s.answer(&Publish{App: "dp", ID: id, Waiter: w}) }
	if e := ask("first"); e == nil || e.Value != true {
		t.Fatalf("%+v", e)
	}
	if e := ask("second"); e != nil {
		t.Fatalf("answered while it is being published: %+v", e)
	}
	for _, e := range s.do(&Published{ID: id, Err: Errorf(CodeTopicMissing, "no such topic")}) {
		if e.Waiter != "second" || codeOf(&e) != CodeTopicMissing {
			t.Errorf("%+v", e)
		}
	}
	if e := ask("third"); e == nil || e.Value != true {
		t.Errorf("nobody may try again: %+v", e)
	}
	s.do(&Published{ID: id})
	if e := ask("fourth"); e == nil || e.Value != false {
		t.Errorf("it is published again: %+v", e)
	}
	s.host("h1")
	s.do(&HostDown{Boot: "h1", Reason: "exit"})
	if e := s.answer(&Publish{App: "dp", ID: s.id(Target{App: "dp"}), Boot: "h1", Waiter: "w"}); codeOf(e) != CodeHostLost {
		t.Errorf("an event of a lost host: %+v", e)
	}
}

// An event that is in its topic twice, as its owner died in between, runs once
// for each life of a subscription, here and in another partition.
func TestEventThatIsInItsTopicTwice(t *testing.T) {
	for home := range uint16(2) {
		x := newAcross(t)
		group, far := x.parts[0], x.parts[home]
		sub := Subscription{Actor: actorIn(home, 2, "A"), ID: "s", Path: "/e", Topic: "t"}
		for i := byte('a'); ; i++ {
			if sub.Group = "g" + string(i); GroupPartition(&sub, 2) == 0 {
				break
			}
		}
		x.do(int(home), &Subscribe{Subscription: sub, Waiter: "w"})
		x.settle()
		key := group.c.groupKey(&sub)
		twice := PublishedAs(group.id(Target{App: "dp"}), "t", Event{}).Header
		other := PublishedAs(group.id(Target{App: "dp"}), "t", Event{}).Header
		events := []Event{{Offset: 0, Header: twice}, {Offset: 1, Header: other}, {Offset: 2, Header: twice}, {Offset: 3}, {Offset: 4}}
		deliver := func() {
			x.do(0, &DeliverEvents{Group: key, Events: events, Waiter: "pump"})
			x.settle()
		}
		deliver()
		if n := len(far.c.entries); n != 4 {
			t.Errorf("partition %d: %d tells of 4 events", home, n)
		}
		if next := group.c.groups[key].next; next != 5 {
			t.Errorf("the cursor is at %d", next)
		}
		// Over the end of the request and a new owner as well.
		far.host("h1")
		far.end(Outcome{Status: 204})
		group.reown()
		events = []Event{{Offset: 5, Header: twice}}
		before := len(far.c.entries)
		deliver()
		if n := len(far.c.entries); n != before {
			t.Errorf("partition %d: a later copy runs again", home)
		}
	}
}
