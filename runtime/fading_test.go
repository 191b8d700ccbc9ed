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
	if n := len(b.c.endings); n != 0 {
		t.Errorf("30 minutes later, with a window of 10, %d outcomes are kept", n)
	}
}

// A wall clock that is set right by more than what is known takes makes nobody forget
// what happened a second ago, in this term or as far as the next one knows.
func TestClockSetForwardForgetsNothing(t *testing.T) {
	for _, x := range []string{"", "next owner", "kept"} {
		b := newBench(t, Config{})
		b.host("h1")
		to := Target{App: "dp", Type: "A", ID: "x"}
		e := b.submit(Request{Target: to})
		b.answer(e, &Outcome{Status: 200})
		b.submit(Request{Target: to})
		b.step(&HostDown{Boot: "h1"})
		b.step(&SetService{App: "eb", Name: "s", URL: "http://x"})
		b.step(&Purge{App: "eb"})
		b.now.Wall += 2 * factMemory
		known := func(when string, want bool) {
			t.Helper()
			if has := b.c.endings[e.req.ID] != nil; has != want {
				t.Errorf("%s, %s: the outcome is known: %v", x, when, has)
			}
			if has := b.c.isLost("h1"); has != want {
				t.Errorf("%s, %s: the lost boot is known: %v", x, when, has)
			}
			a := b.c.apps["eb"]
			if has := a != nil && !b.c.outlived(a); has != want {
				t.Errorf("%s, %s: the purge is known: %v", x, when, has)
			}
		}
		b.pass(time.Second)
		switch x {
		case "next owner":
			b.restart()
		case "kept":
			b.step(&Keep{Before: b.c.Seq(), Limit: 1 << 20})
		}
		b.pass(time.Second)
		known("a second later", true)
		for range 11 {
			b.pass(time.Minute)
		}
		known("behind the window", false)
	}
}

// A boot that was lost while the clock was ahead keeps no later ones in memory.
func TestLossOfTheFuture(t *testing.T) {
	b := newBench(t, Config{})
	lose := func(boot string) { b.c.emit(&hostLost{boot: boot, at: b.now.Wall}) }
	b.now.Wall += 365 * 86_400_000
	lose("ahead")
	b.now.Wall -= 365 * 86_400_000
	lose("h")
	b.now.Wall, b.now.Mono = b.now.Wall+factMemory, b.now.Mono+factMemory
	b.pass(time.Second)
	if n := len(b.c.lost); n != 0 {
		t.Errorf("%d lost boots are known after a week", n)
	}
}
