package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// A heldLog is read only; it begins at start.
type heldLog struct {
	runtime.Log
	start   int
	records [][]byte
}

func (l *heldLog) Read(_ context.Context, from uint64, visit func(uint64, []byte) error) error {
	for i := max(int(from), l.start); i < len(l.records); i++ {
		if err := visit(uint64(i), l.records[i]); err != nil {
			return err
		}
	}
	return nil
}

// TestTermFromADeposedOne: what a log tells before the fold begins anew is not for the
// store, and says nothing about where records are.
func TestTermFromADeposedOne(t *testing.T) {
	l := &heldLog{}
	now := runtime.Now{Wall: 1767225600000, Mono: 1_000_000}
	own := func(node string) *runtime.Core {
		c := runtime.New(runtime.Config{Mesh: "m", Partitions: 1, Node: node, Lease: 6000, IDWindow: 600_000, ResultRetention: 86_400_000})
		for _, b := range l.records {
			if _, err := c.Fold(b); err != nil {
				t.Fatal(err)
			}
		}
		l.records = append(l.records, c.Claim(now))
		if _, err := c.Fold(l.records[len(l.records)-1]); err != nil || !c.Own(now, 0) {
			t.Fatal("not owned", err)
		}
		c.Take()
		return c
	}
	step := func(c *runtime.Core, ins ...runtime.Input) {
		for _, in := range ins {
			c.Step(now, in)
		}
		records, _ := c.Take()
		l.records = append(l.records, records...)
	}
	write := func(v string) runtime.Input {
		return &runtime.StateInput{Op: runtime.StateOp{Actor: runtime.Actor{App: "a", Type: "A", ID: "1"}, Verb: runtime.StateSet, Key: "k", Value: []byte(v)}, View: &runtime.View{}}
	}
	old := own("g1")
	step(old, write("true"))
	own("g2")
	from := len(l.records)
	step(old, &runtime.Mark{}, write("void"), write("void"), write("void"))
	for range 6 { // more than a piece, behind where the store is
		step(old, write(strings.Repeat("void", piece/16)))
	}
	step(old, &runtime.Mark{})
	last := own("g3")
	step(last, &runtime.Prove{})
	begin := len(l.records)
	step(last, &runtime.Mark{})
	mark := last.Seq()
	step(last, write("last"))

	for l.start = from; l.start <= begin; l.start++ {
		p := &partition{m: &Mesh{cfg: Config{Mesh: "m", Partitions: 1}}, log: l}
		r := p.newTerm()
		r.applied = mark - 1
		if err := r.to(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if len(r.changes) != 1 || r.changes[0].Seq != mark+1 {
			t.Errorf("from %d on the store is told %v", l.start, r.changes)
		}
		if len(r.marks) != 1 || r.marks[0].seq != mark || r.marks[0].offset != uint64(begin) {
			t.Errorf("from %d on the headers are %v", l.start, r.marks)
		}
		if r.first != mark || r.needs >= mark {
			t.Errorf("from %d on the log begins at record %d, behind the change of %d", l.start, r.first, r.needs)
		}
		if at := r.places.of(mark + 1); at != uint64(begin+1) || r.places.of(mark-1) != 0 {
			t.Errorf("from %d on record %d is at %d", l.start, mark+1, at)
		}
		h := p.newTerm()
		none := func(to uint64) {
			t.Errorf("from %d on the store is brought to record %d, of a piece that does not count", l.start, to)
		}
		if err := h.heal(t.Context(), r.begins, mark-1, none); err != nil {
			t.Errorf("from %d on: %v", l.start, err)
		}
		if len(h.changes) != 1 {
			t.Errorf("from %d on the store is healed with %d changes", l.start, len(h.changes))
		}
	}
}

// A batch is cut in two by another gateway's claim: what came before it counts, so nobody
// may be told that nothing was accepted. Behind it nothing counts.
func TestClaimWithinABatch(t *testing.T) {
	now := runtime.Now{Wall: 1767225600000, Mono: 1_000_000}
	core := func(records ...[]byte) *runtime.Core {
		c := runtime.New(runtime.Config{Mesh: "m", Partitions: 1, Node: "g", Lease: 6000, IDWindow: 600_000, ResultRetention: 86_400_000})
		for _, b := range records {
			if _, err := c.Fold(b); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	first := core().Claim(now)
	other := core(first).Claim(now)
	batch := [][]byte{runtime.VoidRecord(), append([]byte(nil), "second"...)}
	for at, counts := range []bool{false, true} {
		records := append([][]byte{first}, slices.Insert(slices.Clone(batch), at, other)...)
		p := &partition{m: &Mesh{}, log: &heldLog{records: records}, core: core(first), next: 1, places: &places{}}
		if err := p.placed(t.Context(), batch, 1, uint64(len(records))); !errors.Is(err, errDeposed) || p.unsure != counts {
			t.Errorf("behind %d records of the batch: %v, it may count: %v", at, err, p.unsure)
		}
	}
}
