package runtime

import (
	"strings"
	"testing"
	"time"
)

// Whoever asks why interrupted work does not begin again is told which partition has
// not answered, and the gauges count those.
func TestUnansweredFenceIsNamed(t *testing.T) {
	b := newBench(t, Config{Partitions: 4})
	b.host("h1")
	e := b.submit(Request{Target: actorIn(0, 4, "A").target()})
	b.restart()
	b.step(&HostDown{Boot: "h1"})
	b.host("h2")
	for _, x := range []struct {
		answers []uint16
		by      string
		left    int
	}{
		{nil, "partition 1 and 2 others, ", 3},
		{[]uint16{1}, "partition 2 and 1 other, ", 2},
		{[]uint16{3}, "partition 2, ", 1},
		{[]uint16{2}, "", 0},
	} {
		for _, p := range x.answers {
			b.step(&FenceAnswered{From: p, Epoch: b.c.epoch, Part: b.c.fenceWait[p].part})
		}
		f := b.c.requestFacts("dp", e.req.ID)
		if by := f.BlockedBy; !strings.HasPrefix(by, x.by) || x.by == "" && strings.Contains(by, "partition") {
			t.Errorf("after %v: blocked by %q", x.answers, by)
		}
		if n := b.c.gauges().AnswersWaiting; n != x.left {
			t.Errorf("after %v: %d answers are missing", x.answers, n)
		}
	}
	b.pass(time.Minute)
	if f := b.c.requestFacts("dp", e.req.ID); f.State != "running" {
		t.Errorf("when all have answered: %+v", f)
	}
}
