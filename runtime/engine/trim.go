package engine

import (
	"context"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A mark is a header in the log: the log may be cut in front of it once
// nothing before it is live and the store holds everything that was decided.
type mark struct {
	seq, offset uint64
	at          int64 // wall clock, ms; 0 when the header does not say
}

// A trimmer keeps a partition's log small: a header every eighth of the
// threshold, live entries of the oldest part appended again, the part cut off.
type trimmer struct {
	p         *partition
	marks     []mark
	threshold int64
	sinceMark int64
	marked    bool
	markSeq   uint64
	markAt    int64
	markIdx   int
	keeping   bool
	keptSize  int64  // bytes appended while keeping for the current cut
	next      mark   // where the log is to be cut
	decided   uint64 // up to here it was decided that nothing in front of next is live
	wait      uint64 // the same, once that has come back in place; the store must hold it
	cutting   bool   // the log is being cut, beside the loop
	torn      bool   // somebody else has deleted the front of the log
	failed    time.Time
	lastMark  int64
	markSize  int64 // bytes of the last header
}

func (t *trimmer) reset(marks []mark, core *runtime.Core) {
	*t = trimmer{p: t.p, marks: marks, threshold: max(t.threshold, t.p.m.cfg.TrimAt)}
	t.reachesBack()
}

const keepBatch = 512

// markEvery is how many bytes lie between two headers. A large header does not
// fill the log with its like.
func (t *trimmer) markEvery() int64 { return max(t.threshold/8, 8*t.markSize) }

// decide adds what trimming needs to the round.
func (t *trimmer) decide(now runtime.Now) {
	c := t.p.core
	if t.sinceMark > t.markEvery() || t.older(now, t.lastMark, 8) || t.torn && len(t.marks) == 0 {
		t.sinceMark, t.lastMark = 0, now.Wall
		c.Step(now, &runtime.Mark{})
		t.marked, t.markAt = true, now.Wall
		t.markSeq, t.markIdx = c.LastMark()
	}
	cut, due := t.nextCut(now)
	if !due {
		return
	}
	if c.OldestLive() < cut.seq {
		t.keeping = true
		c.Step(now, &runtime.Keep{Before: cut.seq, Limit: keepBatch})
		if c.OldestLive() < cut.seq && !c.Reading() && !c.Stuck() { // else what was read wakes it, or a later round
			t.p.push() // wake for the next batch
			t.nudge()
		}
		return
	}
	if t.decided == 0 {
		c.Step(now, &runtime.Mark{Floor: cut.seq}) // who reads the log knows that this part may be missing
		t.next, t.decided = cut, c.Seq()
	}
}

// landed follows a round that has come back in place: only now it may be
// believed that nothing in front of the cut is live.
func (t *trimmer) landed() {
	if t.wait == 0 && t.decided != 0 {
		t.wait = t.decided
		t.p.applier.Load().distrust() // each cut needs a word of the store that is younger than its decision
	}
	// It must be in the store for good, too: what lies in front of the cut cannot be told
	// to it again (nor, by records of before level 2, what ended behind it and was
	// accepted in front of it).
	if t.wait != 0 && !t.cutting && time.Since(t.failed) > time.Second && t.p.applier.Load().durable(t.wait) {
		t.cut(t.next)
	}
}

// nudge makes the loop come round again at once.
func (t *trimmer) nudge() {
	select {
	case t.p.wake <- struct{}{}:
	default:
	}
}

// older tells whether a moment lies further back than a part of the time for
// which the log keeps anything at all. What is live must be written anew long
// before that, however small the log is.
func (t *trimmer) older(now runtime.Now, at int64, part int64) bool {
	cap := t.p.m.cfg.LogRetention.Milliseconds()
	return cap > 0 && now.Wall-at > cap/part
}

// cut deletes the log in front of a mark, beside the loop: nothing waits for it.
func (t *trimmer) cut(m mark) {
	p, core := t.p, t.p.core
	t.cutting = true
	p.front.Store(max(m.offset, p.front.Load()))
	p.m.watches.Go(func() {
		before := p.log.Size()
		ctx, cancel := context.WithTimeout(p.m.life, 10*time.Second)
		defer cancel()
		err := p.log.Trim(ctx, m.offset)
		freed := before - p.log.Size()
		p.order(p.m.life, func(context.Context) {
			if p.core == core { // else another term has begun
				t.cutDone(m, err, freed)
			}
		})
	})
}

func (t *trimmer) cutDone(m mark, err error, freed int64) {
	t.cutting = false
	if err != nil {
		t.failed = time.Now()
		t.p.logger.Warn("the log could not be trimmed", "error", err)
		return
	}
	// A log that is mostly live is allowed to be larger: about twice what is live.
	if t.keptSize > freed/2 {
		t.threshold += t.threshold / 2
	} else if t.keptSize < freed/8 {
		t.threshold = max(t.p.m.cfg.TrimAt, t.threshold*7/8)
	}
	t.p.count.trims++
	t.p.places.cut(m.seq)
	for len(t.marks) > 0 && t.marks[0].offset < m.offset {
		t.marks = t.marks[1:]
	}
	if t.torn && len(t.marks) > 0 && t.marks[0] == m {
		t.torn = false
		t.p.logger.Info("everything that is live was written anew", "begins", m.offset)
	}
	t.reachesBack()
	t.keeping, t.keptSize, t.decided, t.wait = false, 0, 0, 0
	t.nudge()
}

// appended notes what a round did to the log.
func (t *trimmer) appended(records [][]byte, size int) {
	t.sinceMark += int64(size)
	if t.keeping {
		t.keptSize += int64(size)
	}
	if t.marked {
		t.marked, t.sinceMark = false, 0
		t.markSize = int64(len(records[t.markIdx]))
		t.marks = append(t.marks, mark{t.markSeq, t.p.places.of(t.markSeq), t.markAt})
		t.reachesBack()
	}
}

// reachesBack makes known since when everything is in the log: the oldest
// header was written then. A log without one is new.
func (t *trimmer) reachesBack() {
	at := time.Now().UnixMilli()
	if len(t.marks) > 0 {
		at = t.marks[0].at
	} else if old := t.p.oldest.Load(); old != 0 {
		at = old
	}
	t.p.oldest.Store(at)
}
