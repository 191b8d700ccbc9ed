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

// Which answers of another partition let an interrupted attempt count.
func TestAnswersAboutCompany(t *testing.T) {
	flow := ID{7}
	for _, x := range []struct {
		name    string
		attempt uint32
		age     int64 // ms since the loss
		delay   int64 // ms from question to answer
		old     bool  // an answer to a question before the attempt had stopped
		in      BesideAnswered
		counts  bool
	}{
		{name: "nothing ran there", attempt: 1, counts: true},
		{name: "its own flow", attempt: 1, in: BesideAnswered{Flows: 1, Sole: flow}, counts: true},
		{name: "another flow", attempt: 3, in: BesideAnswered{Flows: 1, Sole: ID{8}}},
		{name: "two flows", attempt: 3, in: BesideAnswered{Flows: 2}},
		{name: "a suspect beside others", attempt: 4, in: BesideAnswered{Flows: 5}, counts: true},
		{name: "a suspect beside its own flow", attempt: 4, in: BesideAnswered{Flows: 5, Suspects: 1, Sole: flow}, counts: true},
		{name: "a suspect beside another", attempt: 4, in: BesideAnswered{Flows: 5, Suspects: 1, Sole: ID{8}}},
		{name: "one that another version recorded", attempt: 4, in: BesideAnswered{Flows: 1, Suspects: 1}},
		{name: "a late answer", attempt: 1, delay: hearsay + 1},
		{name: "an old answer", attempt: 1, old: true},
		{name: "of a loss that others may have forgotten", attempt: 1, age: 300_001},
	} {
		c := New(Config{Partitions: 2, MaxAttempts: 1, IDWindow: 600_000})
		c.level, c.owned, c.now = 2, true, Now{1_000_000, 1_000_000}
		e := &entry{req: Request{ID: ID{1}, Target: Target{App: "dp", Service: "s"}}, flow: flow, attempt: x.attempt, host: "h", phase: stopped, alone: true, among: x.attempt / 4}
		c.lost["h"] = &lostEntry{boot: "h", at: c.now.Wall - x.age}
		c.inquire(e)
		c.askBeside()
		asked := c.now.Mono
		if x.old {
			asked--
		}
		c.now.Mono += x.delay
		x.in.From, x.in.Boot, x.in.Asked = 1, "h", asked
		if x.in.decide(c); c.tries(e) == 1 != x.counts {
			t.Errorf("%s: counts %d", x.name, c.tries(e))
		}
	}
}
