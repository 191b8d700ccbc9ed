package runtime

import (
	"fmt"
	"testing"
)

// A step does a piece of what an input means, however much there is: what fifteen
// times as much costs in its longest step is not fifteen times as long.
func TestNoStepGrows(t *testing.T) {
	const few, many = 2_000, 30_000
	s := func(app string) Target { return Target{App: app, Service: "s"} }
	info := HostInfo{Boot: "h", App: "dp", Service: "s", Actors: []string{"A"}, Grace: 6000}
	quiet := func(b *bench, in Input) {
		b.c.Step(b.now, in)
		b.c.Recycle(b.c.Take())
		b.c.TakeChanges()
	}
	submit := func(b *bench, r Request) ID {
		b.n++
		r.ID, r.Method, r.Path = NewID(b.now.Wall, 0, "dp", [6]byte{byte(b.n >> 16), byte(b.n >> 8), byte(b.n)}), "POST", "/m"
		quiet(b, &Submit{Request: r})
		return r.ID
	}
	running := func(b *bench, n int) {
		quiet(b, &HostJoined{Info: info})
		for range n {
			submit(b, Request{Target: s("dp")})
		}
	}
	member := func(b *bench, app, group string, i int) {
		quiet(b, &Subscribe{Subscription: Subscription{Actor: Actor{app, "A", fmt.Sprint(i)}, ID: "s", Path: "/m", Topic: "t", Group: group}})
	}
	// What one record stops, and what a join is compared with, is as much as a host is
	// given from outside.
	const lost, joins, given = "end of a host that ran much", "join of a host that runs much", 8_000
	const purge, beside = "purge of groups of one", "purge beside the groups of another"
	const listed, active = "groups are listed", "active actors are listed"
	for name, f := range map[string]func(b *bench, n int) Input{
		"calls of a lost caller": func(b *bench, n int) Input {
			quiet(b, &HostJoined{Info: HostInfo{Boot: "caller", App: "dp", Service: "caller", Grace: 6000}})
			for range n {
				submit(b, Request{Target: Target{App: "dp", Service: "away"}, Boot: "caller", CancelWithCaller: true})
			}
			return &HostDown{Boot: "caller"}
		},
		"calls to one actor of a lost caller": func(b *bench, n int) Input {
			quiet(b, &HostJoined{Info: HostInfo{Boot: "caller", App: "dp", Service: "caller", Grace: 6000}})
			for range n {
				submit(b, Request{Target: Target{App: "dp", Type: "A", ID: "1"}, Boot: "caller", CancelWithCaller: true})
			}
			return &HostDown{Boot: "caller"}
		},
		joins: func(b *bench, n int) Input {
			running(b, n)
			quiet(b, &HostUnlinked{Boot: "h"})
			return &HostJoined{Info: info}
		},
		"outcomes that nobody has taken": func(b *bench, n int) Input {
			for range n {
				b.n++
				id := NewID(b.now.Wall, 0, "dp", [6]byte{byte(b.n >> 16), byte(b.n >> 8), byte(b.n)})
				b.c.keepEnding(b.c.seq, id, "dp", &Outcome{Status: 200}, b.now.Wall)
			}
			b.now.Wall += b.c.cfg.IDWindow + 1
			b.now.Mono += b.c.cfg.IDWindow + 1
			return &Tick{}
		},
		"one reminder of many is deleted": func(b *bench, n int) Input {
			a := Actor{"dp", "A", "1"}
			for i := range n {
				quiet(b, &SetReminder{Reminder: Reminder{Actor: a, ID: fmt.Sprintf("%06d", i), Path: "/m", Due: b.now.Wall + 1_000_000}})
			}
			return &CancelReminders{Actor: a, ID: fmt.Sprintf("%06d", n-1), Waiter: 1}
		},
		"reminders are listed": func(b *bench, n int) Input {
			a := Actor{"dp", "A", "1"}
			for i := range n {
				quiet(b, &SetReminder{Reminder: Reminder{Actor: a, ID: fmt.Sprintf("%06d", i), Path: "/m", Due: b.now.Wall + 1_000_000}})
			}
			return &Query{Kind: QueryReminders, Actor: a, After: "000100", Limit: 1000, Waiter: 1}
		},
		listed: func(b *bench, n int) Input {
			for i := range n {
				member(b, "dp", "", i)
			}
			return &Query{Kind: QueryGroups, After: string(appendPart([]byte("a"), "dp")), Limit: 1000, Waiter: 1}
		},
		active: func(b *bench, n int) Input {
			quiet(b, &HostJoined{Info: info})
			for i := range n {
				b.c.placeActor(b.c.actorEntry(Actor{"dp", "A", fmt.Sprint(i)}), "h", b.c.seq)
			}
			return &Query{Kind: QueryActive, App: "dp", After: "1500 " + utoa(b.c.epoch) + " h", Limit: 1000, Waiter: 1}
		},
		"missing components are told": func(b *bench, n int) Input {
			for i := range n {
				submit(b, Request{Kind: Tell, Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}})
			}
			return &Query{Kind: QueryMissing, Waiter: 1}
		},
		"whether all is idle": func(b *bench, n int) Input {
			quiet(b, &HostJoined{Info: HostInfo{Boot: "u", App: "dp", Service: "s", URL: "http://x", Grace: 6000}})
			for i := range n {
				submit(b, Request{Kind: Tell, Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}})
			}
			return &Query{Kind: QueryIdle, Waiter: 1}
		},
		"a group is kept": func(b *bench, n int) Input {
			for i := range n {
				member(b, "dp", "g", i)
			}
			return &Keep{Before: b.c.Seq(), Limit: 512}
		},
		"purge of the members of a group": func(b *bench, n int) Input {
			for i := range n {
				member(b, "dp", "g", i)
			}
			return &Purge{App: "dp"}
		},
		purge: func(b *bench, n int) Input {
			for i := range n {
				member(b, "dp", "", i)
			}
			return &Purge{App: "dp"}
		},
		beside: func(b *bench, n int) Input {
			member(b, "eb", "", 0)
			for i := range n {
				member(b, "dp", "", i)
			}
			return &Purge{App: "eb"}
		},
		"ids of one time are kept": func(b *bench, n int) Input {
			for range 4 * n {
				b.n++
				b.c.ended.add(b.c, NewID(b.now.Wall, 0, "dp", [6]byte{byte(b.n >> 16), byte(b.n >> 8), byte(b.n)}), b.c.seq)
			}
			quiet(b, &Mark{})
			return &Keep{Before: b.c.Seq(), Limit: 512}
		},
		lost: func(b *bench, n int) Input {
			running(b, n)
			return &HostDown{Boot: "h"}
		},
	} {
		cost := func(n int) float64 {
			least := 0.0
			for i := range 2 {
				b := newBench(t, Config{})
				in := f(b, n)
				took := b.timed(in)
				if k, ok := in.(*Keep); ok {
					for b.c.OldestLive() < k.Before {
						took = max(took, b.timed(in))
					}
				}
				if i == 0 || took < least {
					least = took
				}
			}
			return least
		}
		more := many
		if name == lost || name == joins {
			more = given
		} else if name == purge || name == beside || name == listed {
			more = maxGroups
		}
		little, much := cost(few), cost(more)
		t.Logf("%-40s %6.2f ms, %6.2f ms", name, little, much)
		if much > growth*little {
			t.Errorf("%s: a step took %.2f ms with %d and %.2f ms with %d", name, little, few, much, more)
		}
	}
}

// The calls of a lost caller end piece by piece. None of them starts meanwhile, and the
// next owner goes on.
func TestLostCallerInPieces(t *testing.T) {
	const n = 3*pieceSize + 1
	for _, target := range []Target{{App: "dp", Service: "away"}, {App: "dp", Type: "C", ID: "1"}} {
		b := newBench(t, Config{})
		b.host("caller")
		var stays *entry
		for i := range n {
			b.submit(Request{Target: target, Boot: "caller", CancelWithCaller: true})
			if i == 7 {
				stays = b.submit(Request{Target: target, Boot: "caller"})
			}
		}
		b.step(&HostDown{Boot: "caller"})
		if left := len(b.c.entries); left < n-pieceSize || left > n {
			t.Fatalf("%d of %d are left after the first step", left, n+1)
		}
		b.restart()
		stays = b.c.entries[stays.req.ID]
		b.step(&HostJoined{Info: HostInfo{Boot: "late", App: "dp", Service: "away", Actors: []string{"C"}, Grace: 6000}})
		for b.c.Due(b.now) == 0 {
			before := len(b.c.entries)
			b.step(&Tick{})
			if ended := before - len(b.c.entries); ended > 2*pieceSize {
				t.Fatalf("%d ended in one step", ended)
			}
		}
		if len(b.c.entries) != 1 || stays.phase != running || len(b.c.hosts["late"].running) != 1 {
			t.Errorf("%d are left, %d run", len(b.c.entries), len(b.c.hosts["late"].running))
		}
		for _, r := range b.log {
			if x, err := DecodeRecord(r); err == nil {
				if s, ok := x.Body.(*started); ok && s.id != stays.req.ID {
					t.Fatal("a call of a lost caller has started")
				}
			}
		}
	}
}

// What a host that joins is said to run is sent to it again in pieces, each attempt
// once, whoever joins anew meanwhile; and what a purge ends before its turn haunts
// nobody when the host does not have it.
func TestJoinOfManyThatRun(t *testing.T) {
	const n = 4 * pieceSize
	for _, purged := range []bool{false, true} {
		b := newBench(t, Config{})
		info := HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000}
		b.step(&HostJoined{Info: info})
		var es []*entry
		var runs []Attempt
		for i := range n {
			es = append(es, b.submit(Request{Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}}))
			if i%2 == 0 {
				runs = append(runs, b.c.attemptOf(es[i]))
			}
		}
		b.step(&HostUnlinked{Boot: "h1"})
		sent := map[ID]int{}
		note := func(effects []Effect) (n int) {
			for _, e := range effects {
				if m, ok := e.Msg.(*Invoke); ok {
					sent[m.Attempt.ID]++
					n++
				}
			}
			return n
		}
		if got := note(b.step(&HostJoined{Info: info, Join: JoinAnswer{Running: runs}})); got == 0 || got > pieceSize {
			t.Fatalf("%d attempts are sent again in the step of the join", got)
		}
		if purged {
			b.step(&Purge{App: "dp", Waiter: "p"})
		} else {
			note(b.step(&HostJoined{Info: info, Join: JoinAnswer{Running: append(runs, b.c.attemptOf(es[n-1]))}}))
		}
		for b.c.Due(b.now) == 0 {
			note(b.step(&Tick{}))
		}
		for i, e := range es {
			times := sent[e.req.ID]
			if purged {
				if haunts := b.c.ghosts[e.req.ID] != nil; haunts != (i%2 == 0 || times > 0) {
					t.Fatalf("attempt %d, sent again %d times, haunts: %v", i, times, haunts)
				}
				continue
			}
			// What was sent after the first join may be behind the second one.
			if again := i%2 == 1 && i < n-1; again != (times > 0) || times > 2 {
				t.Fatalf("attempt %d is sent again %d times", i, times)
			}
		}
	}
}

// Cancels and drains of one app side by side look at what is open no more often than
// one of them.
func TestCancelsSideBySide(t *testing.T) {
	const n = 5*pieceSize + 1
	ticks := func(inputs ...Input) (ticks int) {
		b := newBench(t, Config{HostLimit: n - 100})
		b.host("h")
		to := Target{App: "dp", Service: "s"}
		for i := range n {
			id := NewID(b.now.Wall, 0, "dp", [6]byte{byte(i >> 8), byte(i)})
			b.step(&Submit{Request: Request{ID: id, Kind: Tell, Target: to, Method: "POST"}})
		}
		replies := map[any]any{}
		note := func(es []Effect) {
			for _, e := range es {
				if e.Kind == Reply {
					replies[e.Waiter] = e.Value
				}
			}
		}
		for _, in := range inputs {
			note(b.step(in))
		}
		for ; b.c.Due(b.now) == 0; ticks++ {
			note(b.step(&Tick{}))
		}
		sum := 0
		for i := range inputs {
			n, _ := replies[i].(int)
			sum += n
		}
		if sum != 100 || b.c.Counts.Running != n-100 {
			t.Errorf("%d of %d were withdrawn, %d run", sum, n, b.c.Counts.Running)
		}
		return ticks
	}
	var many []Input
	for i := range 20 {
		many = append(many, &CancelAll{App: "dp", Waiter: i})
	}
	if one, all := ticks(&CancelAll{App: "dp", Waiter: 0}), ticks(many...); all > one+1 {
		t.Errorf("one takes %d steps, 20 take %d", one, all)
	}
}
