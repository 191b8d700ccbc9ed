package runtime

import (
	"fmt"
	"testing"
	"time"
)

// All requests of an app are withdrawn in pieces, whoever asks; the answer comes with
// the last one and counts them all. What comes meanwhile is not withdrawn.
func TestWithdrawInPieces(t *testing.T) {
	const n = 3*pieceSize + 1
	for name, in := range map[string]Input{"cancel": &CancelAll{App: "dp", Waiter: "w"}, "drain": &Drain{App: "dp", Waiter: "w"}} {
		b := newBench(t, Config{})
		submit := func(i int) *entry {
			return b.submit(Request{Kind: Tell, Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}})
		}
		for i := range n {
			submit(i)
		}
		var late *entry
		for answered := false; !answered; {
			before := len(b.c.entries)
			effects := b.step(in)
			in = &Tick{}
			if ended := before - len(b.c.entries); ended > pieceSize || ended == 0 {
				t.Fatalf("%s: %d requests ended in one step", name, ended)
			}
			for _, e := range effects {
				if e.Kind == Reply && e.Waiter == "w" {
					answered = true
					if e.Value != n || len(b.c.entries) != 1 {
						t.Errorf("%s: the answer is %v, %d requests are left", name, e.Value, len(b.c.entries))
					}
				}
			}
			if late == nil {
				late = submit(n)
			}
		}
		if b.c.entries[late.req.ID] != late {
			t.Errorf("%s: a request that came later was withdrawn", name)
		}
		// An owner that steps down in the middle answers.
		for i := range n {
			submit(i)
		}
		b.step(&CancelAll{App: "dp", Waiter: "again"})
		b.c.StepDown()
		told := false
		for _, e := range b.take() {
			told = told || e.Waiter == "again" && e.Err != nil && e.Err.Code == CodeAskAgain
		}
		if !told {
			t.Errorf("%s: nobody was told that the owner stepped down", name)
		}
	}
}

// Drains and purges that wait cost the steps of others nothing, and are answered when
// what they wait for has ended.
func TestManyWhoWaitForAnEnd(t *testing.T) {
	const n = 10_000
	b := newBench(t, Config{Partitions: 2, Partition: AppPartition("eb", 2)})
	b.host("h1")
	some := func() time.Duration {
		begin := startWatch()
		for range 300 {
			b.step(&Query{Kind: QueryGeneration, App: "small", Waiter: "g"})
		}
		return begin.spent()
	}
	alone := quickest(some)
	long := b.submit(Request{Target: Target{App: "dp", Service: "s"}})
	for i := range n {
		if i < clearingsOfApp {
			b.step(&Drain{App: "dp", Waiter: "d"})
		}
		b.step(&Purge{App: "eb", Waiter: "p"})
	}
	if beside := quickest(some); beside > growth*alone { // a hundred times as long when each is looked at
		t.Errorf("300 small steps take %v alone and %v beside %d who wait", alone, beside, n+clearingsOfApp)
	}
	told := map[any]int{}
	note := func(effects []Effect) {
		for _, e := range effects {
			if e.Kind == Reply {
				told[e.Waiter]++
			}
		}
	}
	note(b.step(&Acked{Partition: 1 - b.c.cfg.Partition, N: n / 2}))
	if told["p"] != n/2 || told["d"] != 0 {
		t.Errorf("half of the purges is confirmed: %v", told)
	}
	note(b.step(&Acked{Partition: 1 - b.c.cfg.Partition, N: n}))
	note(b.step(&Answered{Boot: "h1", Answer: Answer{Attempt: b.c.attemptOf(long), Outcome: &Outcome{Status: 200}}}))
	if told["p"] != n || told["d"] != clearingsOfApp || len(b.c.purges)+len(b.c.purged)+len(b.c.drained) != 0 {
		t.Errorf("of %d and %d are told %v", n, clearingsOfApp, told)
	}
}

// What is stored for one app costs another nothing that is purged, drained or
// cancelled.
func TestManyOfANeighbour(t *testing.T) {
	b := newBench(t, Config{})
	some := func() time.Duration {
		begin := startWatch()
		for range 100 {
			b.step(&CancelAll{App: "small", Waiter: "c"})
			b.step(&Drain{App: "small", Waiter: "d"})
			b.step(&Purge{App: "small", Waiter: "p"})
			b.step(&Query{Kind: QueryActive, App: "small", Waiter: "a"})
			b.step(&Query{Kind: QueryGauges, Waiter: "g"})
		}
		return begin.spent()
	}
	alone := quickest(some)
	b.host("h1")
	for i := range 10_000 {
		a := Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}
		b.submit(Request{Target: a})
		b.submit(Request{Kind: Tell, Target: a})
		b.step(&SetReminder{Reminder: Reminder{Actor: a.Actor(), ID: "r", Path: "/m", Due: b.now.Wall + 1e9}})
		b.step(&Subscribe{Subscription: Subscription{Actor: a.Actor(), ID: "s", Path: "/m", Topic: fmt.Sprint(i % 100)}})
	}
	if beside := quickest(some); beside > growth*alone { // hundreds of times as long when it is gone through
		t.Errorf("500 small steps take %v alone and %v beside a large app", alone, beside)
	}
	if b.c.keep.sweep != nil {
		t.Error("all that is live is gone through for an app that has nothing")
	}
	if a := b.c.apps["dp"]; a.holds != 20_000 || a.members != 10_000 || a.open != 20_000 {
		t.Errorf("%d things, %d members, %d requests are counted", a.holds, a.members, a.open)
	}
	b.step(&Purge{App: "dp", Waiter: "p"})
	for b.c.Due(b.now) == 0 {
		b.step(&Tick{})
	}
	b.step(&HostDown{Boot: "h1"})
	for b.c.Due(b.now) == 0 {
		b.step(&Tick{})
	}
	if a := b.c.apps["dp"]; a.holds != 0 || a.members != 0 || a.roll.first != nil {
		t.Errorf("%d things, %d members are left after a purge", a.holds, a.members)
	}
}

// Two apps that withdraw at once take turns: the small one does not wait for the large one.
func TestWithdrawalsTakeTurns(t *testing.T) {
	b := newBench(t, Config{})
	for app, n := range map[string]int{"dp": 10 * pieceSize, "eb": pieceSize + 1} {
		for i := range n {
			id := NewID(b.now.Wall, 0, app, [6]byte{byte(i >> 16), byte(i >> 8), byte(i)})
			b.step(&Submit{Request: Request{ID: id, Kind: Tell, Target: Target{App: app, Type: "A", ID: fmt.Sprint(i)}, Method: "POST"}})
		}
	}
	if len(b.c.entries) != 11*pieceSize+1 {
		t.Fatal(len(b.c.entries), "requests")
	}
	var told []any
	hear := func(effects []Effect) {
		for _, e := range effects {
			if e.Kind == Reply && e.Waiter != nil {
				told = append(told, e.Waiter)
			}
		}
	}
	hear(b.step(&CancelAll{App: "dp", Waiter: "large"}))
	hear(b.step(&CancelAll{App: "eb", Waiter: "small"}))
	for len(told) < 2 {
		hear(b.step(&Tick{}))
	}
	if told[0] != "small" {
		t.Errorf("they end in the order %v", told)
	}
}

// A drain, or a cancel of all, whose owner goes in the middle is gone on with by the next
// one, behind others that were begun later or before: each counts what it has withdrawn,
// once, and answers all who have asked.
func TestWithdrawalsGoOnWithAnotherOwner(t *testing.T) {
	const n = 3*pieceSize + 1
	for name, ask := range map[string]func(id ID, waiter any) Input{
		"cancel": func(id ID, w any) Input { return &CancelAll{App: "dp", ID: id, Waiter: w} },
		"drain":  func(id ID, w any) Input { return &Drain{App: "dp", ID: id, Waiter: w} },
	} {
		s := newSolo(t, Config{})
		submit := func() ID {
			to := Target{App: "dp", Type: "A", ID: "1"}
			id := s.id(to)
			s.do(&Submit{Request: Request{ID: id, Kind: Tell, Target: to, Path: "/m"}, Waiter: "tell"})
			return id
		}
		for range n {
			submit()
		}
		first, second := s.id(Target{App: "dp", Type: "A"}), s.id(Target{App: "dp", Type: "A"})
		s.do(ask(first, "lost")) // a piece of it
		submit()
		s.do(ask(second, "lost"))
		late := submit()
		s.reown()
		told := map[any][]any{}
		note := func(effects []Effect) {
			for _, e := range effects {
				if e.Kind == Reply {
					told[e.Waiter] = append(told[e.Waiter], e.Value)
				}
			}
		}
		for _, in := range []Input{ask(second, "second"), ask(first, "first"), ask(first, "first"), ask(second, "again")} {
			note(s.do(in))
		}
		for range 10 {
			note(s.do(&Tick{}))
		}
		for who, times := range map[any]int{"first": 2, "second": 1, "again": 1} {
			if len(told[who]) != times {
				t.Fatalf("%s: %s is told %v", name, who, told[who])
			}
		}
		count := told["first"][0].(int) + told["second"][0].(int)
		if count != n+1 || told["first"][1] != told["first"][0] || told["again"][0] != told["second"][0] {
			t.Errorf("%s: of %d requests the two have withdrawn %v", name, n+1, told)
		}
		if len(s.c.entries) != 1 || s.c.entries[late] == nil {
			t.Errorf("%s: %d requests are left", name, len(s.c.entries))
		}
		// Both are forgotten when nobody can ask for them any more.
		s.pass(2 * time.Duration(s.c.cfg.IDWindow) * time.Millisecond)
		s.do(&Tick{})
		if len(s.c.clearings) != 0 {
			t.Errorf("%s: %d are known for ever", name, len(s.c.clearings))
		}
	}
}
