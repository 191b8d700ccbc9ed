package runtime

import (
	"testing"
	"time"
)

// Who was told that a deadline has passed is told it once: who asks later waits for the
// outcome, also when the chain has left its home since.
func TestDeadlineIsToldOnceWhenTheChainLeaves(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	s.host("h1")
	x, y := actorIn(0, 2, "A"), actorIn(1, 2, "A")
	r := Request{ID: s.id(x.target()), Kind: Call, Target: x.target(), Method: "POST", Path: "/m", Deadline: s.now.Wall + 1000}
	s.do(&Submit{Request: r, Waiter: "first"})
	s.pass(2 * time.Second)
	s.do(&Tick{})
	e := s.c.entries[r.ID]
	s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: s.c.attemptOf(e), Outcome: &Outcome{Status: 200, Body: tailCallBody(y.target(), "/n", false)}}})
	s.pass(time.Second)
	if a := s.answer(&Submit{Request: r, Waiter: "later"}); a != nil {
		t.Errorf("who asks later is answered %+v %v", a.Outcome, a.Err)
	}
	s.pass(time.Second)
	for _, e := range s.do(&Tick{}) {
		if e.Kind == Reply {
			t.Errorf("who asked later is told %+v", e.Outcome)
		}
	}
}

// Submaps that were cleared are forgotten when the store has that, while the actor goes
// on being written to.
func TestClearedMapsAreForgotten(t *testing.T) {
	b := newBench(t, Config{})
	a := Actor{"dp", "A", "x"}
	prefix := ActorPrefix(a, 0)
	for i := range 50 {
		key := string(rune('a'+i%26)) + string(rune('a'+i/26))
		k := string(FieldKey(prefix, &Field{Key: key, Sub: "s", InMap: true}))
		b.step(&StateInput{Op: StateOp{Actor: a, Verb: StateMapClear, Key: key}, View: &View{Applied: b.c.Seq(), Entries: map[string][]byte{k: []byte("1")}, Prefix: string(MapPrefix(prefix, key))}, Waiter: 1})
		b.step(&StoreApplied{Seq: b.c.Seq()})
		b.pass(1100 * time.Millisecond)
	}
	if g := b.c.view.groups[string(prefix)]; g != nil && len(g.maps) > 10 {
		t.Errorf("%d cleared submaps are known", len(g.maps))
	}
}
