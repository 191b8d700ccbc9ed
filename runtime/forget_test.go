package runtime

import (
	"fmt"
	"testing"
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
	if many > growth*few {
		t.Errorf("the longest step takes %d µs for 1,000 reminders, %d for 20,000", few/1000, many/1000)
	}
}
