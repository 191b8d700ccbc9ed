package runtime

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Two requests of two partitions end whatever host runs them, and no host comes
// before both are due: each is alone often enough to meet its limit, and nobody
// else does.
func TestPoisonsOfTwoPartitions(t *testing.T) {
	w := newWorld(t)
	w.quiet = true
	for _, line := range []string{"partitions 4", "config attempts=3", "host h0 actors=A", "tell k1 A/1 /kill", "tell k2 A/14 /kill", "promise r A/2 /m"} {
		w.command(line)
	}
	open := func(name string) *entry {
		for _, p := range w.parts {
			if e := p.core.entries[w.ids[name]]; e != nil {
				return e
			}
		}
		return nil
	}
	runs := func(name string) bool { e := open(name); return e != nil && e.phase == running }
	if open("k1").req.ID.Partition() == open("k2").req.ID.Partition() {
		t.Fatal("they are of one partition")
	}
	innocent, died := 0, 0
	for ; open("k1") != nil || open("k2") != nil; died++ {
		if died > 60 {
			t.Fatalf("after %d hosts: %s", died, w.out.String())
		}
		for i := 0; !runs("k1") && !runs("k2"); i++ {
			if i > 1000 {
				t.Fatal("nothing begins")
			}
			w.advance(100 * time.Millisecond)
			if innocent++; !runs("r") {
				innocent = 0
			} else if innocent == 20 {
				w.command("answer r 200 x")
			}
		}
		w.advance(300 * time.Millisecond)
		w.command(fmt.Sprintf("down h%d", died))
		if died%5 == 4 {
			w.command("restart")
		}
		w.advance(5 * time.Minute)
		w.command(fmt.Sprintf("host h%d actors=A", died+1))
	}
	w.advance(time.Minute)
	if runs("r") {
		w.command("answer r 200 x")
	}
	if out := w.out.String(); open("r") != nil || strings.Count(out, "502 bad_answer") != 2 || strings.Contains(out, "completed r 502") {
		t.Error(out)
	}
	t.Logf("%d hosts died", died)
}
