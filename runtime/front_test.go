package runtime

import (
	"slices"
	"testing"
)

// A version that does not say where it cuts may own the log in between, and cut it:
// in front of a header of its own or of an earlier one, also after another owner has
// written. What somebody else has cut off is still noticed.
func TestFloorAfterAnEarlierVersion(t *testing.T) {
	b := newBench(t, Config{})
	mark := func(in *Mark) (at int) {
		b.step(in)
		return len(b.log) - 1
	}
	mark(&Mark{})
	second := mark(&Mark{})
	b.restart() // the earlier version
	third := mark(&Mark{})
	r, err := DecodeRecord(b.log[third])
	if err != nil {
		t.Fatal(err)
	}
	r.Body.(*header).floor = 0
	b.log[third] = EncodeRecord(r)
	front := func(from int) *Error {
		c := New(b.c.cfg)
		for _, r := range b.log[from:] {
			if _, err := c.Fold(r); err != nil {
				t.Fatal(err)
			}
		}
		return c.Front(true)
	}
	for _, cut := range []int{0, second, third} {
		if err := front(cut); err != nil {
			t.Errorf("cut by the earlier version in front of record %d: %v", cut, err)
		}
	}
	b.restart()
	fourth := mark(&Mark{})
	fifth := mark(&Mark{})
	for _, cut := range []int{0, second, third} {
		if err := front(cut); err != nil {
			t.Errorf("cut in front of record %d, as the earlier version may have: %v", cut, err)
		}
	}
	if front(fifth) == nil {
		t.Error("a log that somebody has cut is taken for whole")
	}
	if front(fourth) == nil {
		t.Error("a log that somebody has cut in front of the first header of a term is taken for whole")
	}
}

// What somebody else writes into the log counts for nothing, wherever it lands; a record
// of KAR's that cannot be read any more, or is missing, is damage and is never passed over.
func TestForeignRecords(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	for range 3 {
		b.answer(b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "1"}}), &Outcome{Status: 200})
	}
	b.restart()
	b.host("h1")
	b.answer(b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "1"}}), &Outcome{Status: 200})
	fold := func(log [][]byte) (*Core, error) {
		c := New(b.c.cfg)
		for _, r := range log {
			if _, err := c.Fold(r); err != nil {
				return c, err
			}
		}
		if err := c.Front(true); err != nil {
			return c, err
		}
		return c, nil
	}
	whole, err := fold(b.log)
	if err != nil {
		t.Fatal(err)
	}
	body := EncodeRecord(&Record{Epoch: whole.Epoch(), Owner: 1, Seq: 1, Body: &wished{}})
	for _, foreign := range []string{"", "\xff", "hello world", string(body[:len(body)-1])} {
		for at := range len(b.log) + 1 {
			c, err := fold(slices.Insert(slices.Clone(b.log), at, []byte(foreign)))
			if err != nil || c.Describe() != whole.Describe() {
				t.Errorf("%q at %d: %v", foreign, at, err)
			}
		}
	}
	for at := range len(b.log) - 1 {
		if r, _ := DecodeRecord(b.log[at]); r.Body == nil {
			t.Fatal(r)
		} else if _, claim := r.Body.(*claimed); claim {
			continue // that of another owner may be missing, as what it has written
		}
		for _, in := range [][]byte{nil, []byte("hello world")} {
			log := slices.Delete(slices.Clone(b.log), at, at+1)
			if in != nil {
				log = slices.Insert(log, at, in)
			}
			if _, err := fold(log); codeIn(err) != CodeDamaged {
				t.Errorf("record %d is missing, %q in its place: %v", at, in, err)
			}
		}
	}
}

// A record lands twice when its sender does not know whether it has landed: the second one
// counts for nothing, also at the very end, and the log lacks nothing.
func TestRecordsThatLandTwice(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	b.answer(b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "1"}}), &Outcome{Status: 200})
	whole := b.c.Describe()
	for at := range b.log {
		c := New(b.c.cfg)
		for _, r := range slices.Insert(slices.Clone(b.log), at, b.log[at]) {
			if _, err := c.Fold(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Front(true); err != nil || c.Describe() != whole {
			t.Errorf("record %d is there twice: %v", at, err)
		}
	}
}
