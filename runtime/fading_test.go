package runtime

import (
	"testing"
	"time"
)

// What is old is forgotten in pieces, and nothing before its time: a new owner
// counts from its beginning.
func TestForgetsInPieces(t *testing.T) {
	const n = fadeBatch + 10
	b := newBench(t, Config{Partitions: 2})
	window := b.c.cfg.IDWindow
	id := func(i int) ID { return ID{byte(i >> 8), byte(i), 1} }
	for i := range n {
		b.c.emit(&keptPast{id(i), 0, 1})
		b.c.emit(&wished{id(i)})
	}
	b.take()
	count := func(when string, pasts, wishes int) {
		t.Helper()
		if len(b.c.pasts) != pasts || len(b.c.wishes) != wishes {
			t.Errorf("%s: %d pasts and %d wishes are left", when, len(b.c.pasts), len(b.c.wishes))
		}
	}
	look := func(d int64) {
		b.now.Mono += d
		b.step(&Tick{})
	}
	look(window / 2)
	b.c.emit(&keptPast{id(0), 0, 2})
	b.c.emit(&wished{id(0)}) // it stays as old as it is
	look(window / 2)
	count("in time", n, n)
	look(1000)
	count("after one look", n-fadeBatch+1, n-fadeBatch)
	look(1000)
	count("after two", 1, 0)
	b.restart()
	look(window)
	count("of a new owner", n, n)
	look(1000)
	look(1000)
	count("of a new owner, later", 0, 0)
	if b.c.OldestLive() <= uint64(n) {
		t.Errorf("record %d is needed still", b.c.OldestLive())
	}
}

// An outcome from a time when the clock was ahead keeps no later ones in memory.
func TestEndingOfTheFuture(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	x := Target{App: "dp", Type: "A", ID: "x"}
	const year = 365 * 86_400_000
	b.now.Wall += year
	for range 3 {
		b.answer(b.submit(Request{Target: x}), &Outcome{Status: 200})
	}
	b.now.Wall -= year
	for range 100 {
		b.answer(b.submit(Request{Target: x}), &Outcome{Status: 200})
	}
	for range 30 {
		b.pass(time.Minute)
	}
	if n := len(b.c.endings); n != 3 {
		t.Errorf("30 minutes later, with a window of 10, %d outcomes are kept", n)
	}
}
