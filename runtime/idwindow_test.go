package runtime

import (
	"encoding/binary"
	"strings"
	"testing"
)

// Events from the past of a topic have ids of any age. They are remembered for the id
// window in few buckets, by the next owner and after a trim too, and a wall clock that
// was set for a while changes nothing of that.
func TestOldIDsStandInFewBuckets(t *testing.T) {
	const n, few = 30_000, lateBuckets + 2
	b := newBench(t, Config{})
	id := func(i int) ID {
		var rnd [6]byte
		binary.BigEndian.PutUint32(rnd[:], uint32(i))
		return NewID(1767225600000-int64(i%n)*10_000-700_000, 0, "dp", rnd) // ten seconds apart, the last of a hundred days ago
	}
	add := func(from, to int, over int64) {
		for i := from; i < to; i++ {
			b.c.now = b.now
			b.c.emit(&keptIDs{[]ID{id(i)}})
			if i%100 == 0 {
				b.now.Mono += over * 100 / int64(to-from)
				b.now.Wall += over * 100 / int64(to-from)
				b.step(&Tick{})
			}
		}
		b.step(&Tick{})
	}
	known := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if !b.c.ended.has(id(i)) {
				t.Fatalf("id %d is forgotten", i)
			}
		}
		if got := len(b.c.ended.all()); got > few {
			t.Errorf("%d ids stand in %d buckets", to-from, got)
		}
		if bad := recounted(b.c); bad != nil {
			t.Error(bad[0])
		}
	}
	add(0, n, 500_000)
	known(0, n)
	b.restart()
	known(0, n)
	b.step(&Mark{})
	cut, seq := len(b.log)-1, b.c.Seq()
	add(n, n+100, 1000)
	before := len(b.log)
	for b.c.OldestLive() < seq {
		b.step(&Keep{Before: seq, Limit: 1})
	}
	if got := len(b.log) - before; got > n/idsInRecord+few {
		t.Errorf("%d ids are kept in %d records", n, got)
	}
	b.log = b.log[cut:]
	b.restart()
	known(0, n+100)
	b.now.Wall -= 100 * 86_400_000 // they are young again
	b.step(&Tick{})
	known(0, n+100)
	b.now.Wall += 100 * 86_400_000
	add(n+100, n+200, 1000)
	b.now.Mono += 598_500
	b.now.Wall += 598_500
	b.step(&Tick{})
	known(n+100, n+200)
	b.now.Mono += 3000
	b.now.Wall += 3000
	b.step(&Tick{})
	if b.c.ended.count != 0 || len(b.c.ended.all()) != 0 {
		t.Errorf("%d ids are left in %d buckets", b.c.ended.count, len(b.c.ended.all()))
	}
}

// TestOwnersThatDoNotSayTheirWindow: what was made before the oldest record that is
// left may have been forgotten by owners of before the window stood in their claims.
func TestOwnersThatDoNotSayTheirWindow(t *testing.T) {
	w := newWorld(t)
	say := func(command, want string) {
		t.Helper()
		w.out.Reset()
		if w.command(command); want != "" && !strings.Contains(w.out.String(), want) {
			t.Errorf("%s: %s, want %s", command, &w.out, want)
		}
	}
	for _, c := range []string{"window 20s silent", "restart", "made r1 A/1", "made r2 A/1"} {
		say(c, "")
	}
	say("restart", "")
	say("call r1 A/1 /m", "+ accepted r1") // the whole log is there
	for _, c := range []string{"advance 1m", "trim", "made r3 A/1", "advance 4m", "window 10m", "restart"} {
		say(c, "")
	}
	say("call r2 A/1 /m", "refused too_old")
	say("await r2", "refused too_old")
	say("call r3 A/1 /m", "+ accepted r3")
}

// Ids become too old to be remembered while they are being kept: nothing of them holds up
// the cuts of the log.
func TestIDsThatAgeWhileTheyAreKept(t *testing.T) {
	b := newBench(t, Config{})
	for i := range 10 * idsInRecord {
		var rnd [6]byte
		binary.BigEndian.PutUint32(rnd[:], uint32(i))
		b.c.now = b.now
		b.c.emit(&keptIDs{[]ID{NewID(b.now.Wall, 0, "dp", rnd)}})
	}
	b.step(&Tick{})
	b.step(&Keep{Before: b.c.Seq(), Limit: 1})
	buckets := 0
	for _, x := range b.c.ended.buckets {
		if buckets++; x.left == nil {
			t.Fatal("the ids of a bucket are not in the middle of being kept")
		}
	}
	if buckets != 1 {
		t.Fatal(buckets, "buckets")
	}
	b.now.Mono += 700_000
	b.now.Wall += 700_000
	b.step(&Tick{})
	if b.c.ended.count != 0 {
		t.Fatal(b.c.ended.count, "ids are left")
	}
	if at := b.c.OldestLive(); at <= b.c.Seq() {
		t.Errorf("the log is needed from record %d on, of %d", at, b.c.Seq())
	}
}
