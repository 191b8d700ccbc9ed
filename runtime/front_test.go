package runtime

import "testing"

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
