package runtime

import (
	"math/rand"
	"slices"
	"testing"
)

// TestLine compares a line with a sorted list, whatever comes and goes in which order.
func TestLine(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	var l line
	var want []*entry
	for n := range 20_000 {
		switch x := r.Intn(100); {
		case x < 50:
			e := &entry{order: uint64(r.Intn(1 << 30))}
			if x < 10 {
				e.order = 1<<30 + uint64(n)
			}
			l.add(e)
			i, _ := slices.BinarySearchFunc(want, e, func(a, b *entry) int { return int(a.order) - int(b.order) })
			want = slices.Insert(want, i, e)
		case x < 70 && len(want) > 0:
			i := r.Intn(len(want))
			if x < 60 {
				i = 0
			}
			if !l.remove(want[i]) {
				t.Fatalf("after %d steps one in line is not found", n)
			}
			want = slices.Delete(want, i, i+1)
		case x < 80 && len(want) > 0 && l.first() != want[0]:
			t.Fatalf("after %d steps another is first", n)
		case x > 97 && !slices.Equal(l.all(), want):
			t.Fatalf("after %d steps the line has another order", n)
		}
		if l.len() != len(want) {
			t.Fatalf("after %d steps %d wait, counted %d", n, l.len(), len(want))
		}
	}
}

// Delayed requests come into a mailbox by when they were accepted, in front of what
// came meanwhile, as many as are due at once.
func TestManyThatWereDelayed(t *testing.T) {
	came := func(n int) (longest int64) {
		b := newBench(t, Config{})
		x := Target{App: "dp", Type: "A", ID: "x"}
		for range n {
			b.submit(Request{Kind: Tell, Target: x, NotBefore: b.now.Wall + 60_000})
		}
		for range n {
			b.submit(Request{Kind: Tell, Target: x})
		}
		b.now.Wall += 60_000
		b.now.Mono += 60_000
		for b.c.actors[x.Actor()].queue.len() < 2*n {
			watch := startWatch()
			b.step(&Tick{})
			longest = max(longest, int64(watch.spent()))
		}
		es := b.c.actors[x.Actor()].queue.all()
		if !slices.IsSortedFunc(es, func(a, b *entry) int { return int(a.order) - int(b.order) }) {
			t.Error("they wait in another order")
		}
		return longest
	}
	few, many := int64(0), int64(0)
	for range 6 { // other programs use this machine too
		few, many = min(came(1000), came(1000), came(1000)), came(20_000)
		if many <= growth*few {
			break
		}
	}
	if many > growth*few { // 100 times as long when each passes by all others
		t.Errorf("the longest step takes %d µs with 1,000 in front, %d with 20,000", few/1000, many/1000)
	}
}
