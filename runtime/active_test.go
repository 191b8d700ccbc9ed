package runtime

import (
	"fmt"
	"testing"
)

// The pages of active actors miss nobody who keeps its place, whoever comes and goes
// meanwhile, also when another owner goes on.
func TestActiveInPages(t *testing.T) {
	for _, again := range []bool{false, true} {
		b := newBench(t, Config{})
		for _, boot := range []string{"h1", "h2"} {
			b.step(&HostJoined{Info: HostInfo{Boot: boot, App: "dp", Actors: []string{"A" + boot}, Grace: 6000}})
		}
		b.step(&HostJoined{Info: HostInfo{Boot: "a", App: "other", Actors: []string{"A"}, Grace: 6000}})
		target := func(i int) Target {
			return Target{App: "dp", Type: "Ah" + fmt.Sprint(1+i%2), ID: fmt.Sprint(i)}
		}
		const n = 100
		for i := range n {
			b.answer(b.submit(Request{Target: target(i)}), &Outcome{Status: 200})
		}
		b.answer(b.submit(Request{Target: Target{App: "other", Type: "A", ID: "1"}}), &Outcome{Status: 200})
		gone := func(i int) bool { return i%3 == 0 }
		seen := map[Actor]bool{}
		q := &Query{Kind: QueryActive, App: "dp", Limit: 7}
		for next, pages := 0, 0; pages < n; pages++ {
			page := b.c.query(q).(ActivePage)
			for _, a := range page.Actors {
				seen[a] = true
			}
			if q.After = page.Next; q.After == "" {
				break
			}
			for range 5 {
				for ; next < n && !gone(next); next++ {
				}
				if next < n {
					a := target(next).Actor()
					b.step(&Deactivated{Boot: b.c.actors[a].host, Actor: a})
					next++
				}
			}
			b.answer(b.submit(Request{Target: Target{App: "dp", Type: "Ah1", ID: fmt.Sprint("new", next)}}), &Outcome{Status: 200})
			if again && next > n/4 {
				again = false
				b.restart()
			}
		}
		for i := range n {
			if !gone(i) && !seen[target(i).Actor()] {
				t.Errorf("actor %d is active and not listed", i)
			}
		}
		if seen[Actor{"other", "A", "1"}] {
			t.Error("an actor of another app is listed")
		}
	}
}

// Another owner has another order: a place in the list of the owner before says nothing.
func TestActiveInPagesOfAnotherOwner(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	const n = 10
	for i := range n {
		b.answer(b.submit(Request{Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}}), &Outcome{Status: 200})
	}
	q := &Query{Kind: QueryActive, App: "dp", Limit: 3}
	q.After, q.Limit = b.c.query(q).(ActivePage).Next, n
	if got := len(b.c.query(q).(ActivePage).Actors); got != n-3 {
		t.Errorf("the same owner goes on with %d actors", got)
	}
	b.restart()
	if got := len(b.c.query(q).(ActivePage).Actors); got != n {
		t.Errorf("another owner goes on with %d of %d actors", got, n)
	}
}
