package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTrimAfterEveryCommand plays every scenario again with a header after each
// command, and the log cut at once, or at the header of some commands ago. What
// is decided is the same, a new owner included, and the trimmed log tells what
// the full one does, field by field.
func TestTrimAfterEveryCommand(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for lag := range 4 {
			t.Run(fmt.Sprintf("%s/%d", strings.TrimSuffix(filepath.Base(f), ".txt"), lag), func(t *testing.T) {
				playTrimmed(t, string(b), lag, lag%2 == 1)
			})
		}
	}
}

var onlyPurged = regexp.MustCompile(`(?m)^\+ (p\d+ )?(purged .*|keptActor)\n`)

func playTrimmed(t *testing.T, text string, lag int, lean bool) {
	w := newWorld(t)
	w.lean, w.count = lean, lag == 1 // lean: bodies are read to be kept
	w.setPartitions(1)
	want := strings.Split(text, "\n")
	marks := map[*worldPart][]trimMark{}
	for i, line := range want {
		if !strings.HasPrefix(line, ">") {
			continue
		}
		w.out.Reset()
		command := strings.TrimSpace(line[1:])
		switch strings.Fields(command)[0] {
		case "mark", "cut", "trim":
			continue
		}
		w.command(command)
		n := i + 1
		for n < len(want) && !strings.HasPrefix(want[n], ">") && want[n] != "" && !strings.HasPrefix(want[n], "#") {
			n++
		}
		// What a purge has found open ends at the latest when it would be kept.
		early := func(s string) string { return onlyPurged.ReplaceAllString(strings.TrimRight(s, "\n")+"\n", "") }
		expected, got := early(strings.Join(want[i+1:n], "\n")), early(w.out.String())
		if command != "show" && !strings.HasPrefix(command, "twice") && got != expected {
			t.Fatalf("line %d, %s: with a trimmed log\n%s\nwithout\n%s", i+1, command, got, expected)
		}
		for _, p := range w.parts {
			w.quiet = true
			p.core.Step(w.now, &Mark{})
			ms := append(marks[p], trimMark{p.core.Seq(), len(p.full) + p.core.Pending() - 1})
			w.finish(p, "")
			if lag < len(ms) {
				m := ms[len(ms)-1-lag]
				for p.core.OldestLive() < m.seq {
					p.core.Step(w.now, &Keep{Before: m.seq, Limit: 3})
					w.finish(p, "")
				}
				p.log = append([][]byte(nil), p.full[m.at:]...)
				ms = ms[len(ms)-1-lag:]
			}
			marks[p] = ms
			w.quiet = false
			all, left := w.foldCore(p, p.full), w.foldCore(p, p.log)
			if a, b := w.changesBehind(all, ms[0].seq), w.changesBehind(left, ms[0].seq); lag < len(ms) && a != b {
				t.Fatalf("line %d, %s: a store that has all in front of the cut is told otherwise by the trimmed log\n%s\nthe full one says\n%s", i+1, command, b, a)
			}
			full, trimmed, owner := durable(all), durable(left), durable(p.core)
			if d := differences(full, trimmed, func(key string) bool {
				_, known := owner[key]
				return isForgettable(key) && !known
			}); d != "" {
				t.Fatalf("line %d, %s: the trimmed log tells otherwise\n%s", i+1, command, w.withNames(d))
			}
			if lag > 0 {
				continue // what the owner knows without a record was not kept yet
			}
			if d := differences(owner, trimmed, func(string) bool { return false }); d != "" {
				t.Fatalf("line %d, %s: the trimmed log tells otherwise than the owner\n%s", i+1, command, w.withNames(d))
			}
		}
	}
	for _, p := range w.parts {
		w.everyPrefix(p, p.full)
		w.everyPrefix(p, p.log)
	}
}

// changesBehind is what a log says to the store behind a record.
func (w *world) changesBehind(c *Core, seq uint64) string {
	var out strings.Builder
	for _, x := range c.changes {
		if x.Seq > seq {
			fmt.Fprintf(&out, "%d %+v\n", x.Seq, x.Writes)
		}
	}
	return out.String()
}

type trimMark struct {
	seq uint64
	at  int // in the full log
}

// everyPrefix: wherever a log ends, it can be folded and owned.
func (w *world) everyPrefix(p *worldPart, log [][]byte) {
	for n := range log {
		c := w.foldCore(p, log[:n])
		if _, err := c.Fold(c.Claim(w.now)); err != nil {
			w.t.Fatalf("after %d records: %v", n, err)
		}
		if log != nil && c.sawHead && !c.Own(w.now, p.applied) {
			w.t.Fatalf("after %d records the claim does not count", n)
		}
	}
}

// What many requests start in the step of a header stands behind it.
func TestMarkWhileManyStart(t *testing.T) {
	s := newSolo(t, Config{})
	for i := range 3000 {
		to := Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}
		s.do(&Submit{Request: Request{ID: s.id(to), Kind: Tell, Target: to, Method: "POST", Path: "/m"}, Waiter: i})
	}
	s.c.Step(s.now, &HostJoined{Info: HostInfo{Boot: "h1", App: "dp", Service: "s", Actors: []string{"A"}, Grace: 6000}})
	s.c.Step(s.now, &Mark{})
	seq, place := s.c.LastMark()
	records, _ := s.c.Take()
	if len(records) < place+2 {
		t.Fatal("nothing starts behind the header")
	}
	r, err := DecodeRecord(records[place])
	if err != nil || !IsHeader(records[place]) || r.Seq != seq {
		t.Errorf("record %d of the step, with number %d, is no header: %v", place, seq, err)
	}
}
