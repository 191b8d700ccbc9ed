package runtime

import (
	"fmt"
	"testing"
	"time"
)

// All reminders of an actor are deleted in pieces, with the firings of them that wait.
func TestManyRemindersAreDeleted(t *testing.T) {
	deleted := func(n int) (longest int64) {
		b := newBench(t, Config{})
		a := Actor{"dp", "A", "x"}
		for i := range n {
			b.step(&SetReminder{Reminder: Reminder{Actor: a, ID: fmt.Sprintf("%06d", i), Path: "/tick", Due: b.now.Wall + 60_000, Period: 3_600_000_000_000}})
		}
		b.now.Wall += 60_000
		b.now.Mono += 60_000
		for len(b.c.entries) < n {
			b.step(&Tick{})
		}
		records := 0
		step := func(in Input) []Effect {
			watch := startWatch()
			b.c.Step(b.now, in)
			longest = max(longest, int64(watch.spent()))
			records = max(records, b.c.Pending())
			return b.take()
		}
		effects := step(&CancelReminders{Actor: a, Waiter: "all"})
		step(&SetReminder{Reminder: Reminder{Actor: a, ID: "000000", Path: "/new", Due: b.now.Wall + 60_000}}) // made anew meanwhile: it stays
		for len(b.c.forgettings) > 0 {
			effects = append(effects, step(&Tick{})...)
		}
		told := 0
		for _, e := range effects {
			if e.Kind == Reply && e.Waiter == "all" && e.Value == n {
				told++
			}
		}
		if n > 2*forgetPiece && len(b.c.reminders[a]) != 1 || told != 1 || len(b.c.entries) != 0 {
			t.Errorf("of %d there are %d reminders and %d firings left, %d were told", n, len(b.c.reminders[a]), len(b.c.entries), told)
		}
		if records > 3*forgetPiece {
			t.Errorf("one step makes %d records", records)
		}
		return longest
	}
	few, many := min(deleted(1000), deleted(1000), deleted(1000)), min(deleted(20_000), deleted(20_000))
	if many > 2*growth*few { // in one step twenty thousand took 300 times as long as a thousand in pieces
		t.Errorf("the longest step takes %d µs for 1,000 reminders, %d for 20,000", few/1000, many/1000)
	}
}

// Chains of firings that are away are told to all partitions, a few in each step.
func TestManyChainsOfDeletedRemindersEnd(t *testing.T) {
	const n = 4 * forgetPiece
	b := newBench(t, Config{Partitions: 64})
	b.c.cfg.Partition = ActorPartition(Actor{"dp", "A", "x"}, 64)
	a, away := Actor{"dp", "A", "x"}, Target{Type: "A", ID: "far"}
	if PartitionOf(Target{App: "dp", Type: "A", ID: "far"}, "", ID{}, 64) == b.c.cfg.Partition {
		t.Fatal("the chain is not away")
	}
	b.host("h1")
	for i := range n {
		b.step(&SetReminder{Reminder: Reminder{Actor: a, ID: fmt.Sprint(i), Path: "/tick", Due: b.now.Wall}})
		for _, e := range b.c.entries {
			b.answer(e, &Outcome{Status: 200, Body: tailCallBody(away, "/next", false)})
		}
	}
	if len(b.c.homes) != n {
		t.Fatalf("%d chains are away", len(b.c.homes))
	}
	messages := func() (most int) {
		before := 0
		for _, o := range b.c.out {
			before += len(o.pending)
		}
		b.step(&Tick{})
		for _, o := range b.c.out {
			most += len(o.pending)
		}
		return most - before
	}
	b.step(&CancelReminders{Actor: a, Waiter: "all"})
	for len(b.c.forgettings) > 0 {
		if m := messages(); m > 63*forgetPiece/4 {
			t.Fatalf("one step makes %d messages", m)
		}
	}
	for _, h := range b.c.homes {
		if !h.cancelled {
			t.Fatalf("%s goes on", h.req.ID)
		}
	}
}

// What is being deleted fires no more, also when its time comes before its turn, and
// a small deletion does not wait for a large one.
func TestDeletedRemindersFireNoMore(t *testing.T) {
	b := newBench(t, Config{})
	a, other := Actor{"dp", "A", "x"}, Actor{"other", "A", "x"}
	for i := range 4 * forgetPiece {
		b.step(&SetReminder{Reminder: Reminder{Actor: a, ID: fmt.Sprintf("%06d", i), Path: "/tick", Due: b.now.Wall + 1000}})
	}
	b.step(&SetReminder{Reminder: Reminder{Actor: other, ID: "r", Path: "/tick", Due: b.now.Wall + 1000}})
	effects := b.step(&CancelReminders{Actor: a, Waiter: "all"})
	for _, e := range effects {
		if e.Waiter == "all" {
			t.Fatal("nothing is left to be done in pieces")
		}
	}
	told := false
	for _, e := range b.step(&CancelReminders{Actor: other, ID: "r", Waiter: "one"}) {
		told = told || e.Waiter == "one" && e.Value == 1
	}
	if !told {
		t.Error("one reminder is deleted after the many of another app")
	}
	b.now.Wall += 2000
	b.now.Mono += 2000
	for len(b.c.forgettings) > 0 {
		if b.c.Due(b.now) != 0 {
			t.Error("the next piece waits for a tick")
		}
		b.step(&Tick{})
	}
	b.step(&Tick{})
	if len(b.c.entries) > 0 || len(b.c.reminders) > 0 {
		t.Errorf("%d firings and %d reminders are left", len(b.c.entries), len(b.c.reminders[a]))
	}
}

// What is kept in each trim grows no younger by that.
func TestPastsAreForgottenOverTrims(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	e := b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "x"}})
	b.answer(e, nil)
	b.answer(e, &Outcome{Status: 200})
	if len(b.c.pasts) != 1 {
		t.Fatal("nothing to be forgotten")
	}
	for range 2 * b.c.cfg.IDWindow / 60_000 {
		b.pass(time.Minute)
		b.step(&Mark{})
		b.step(&Keep{Before: b.c.Seq(), Limit: 1000})
	}
	if len(b.c.pasts)+len(b.c.oldPasts.es) > 0 {
		t.Error("an attempt that was replaced is remembered for ever")
	}
}
