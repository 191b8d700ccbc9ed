package engine

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// Events of hundreds of groups stand behind nobody's work, and nothing is left out, or
// taken twice, or out of its order.
func TestEventsStandApart(t *testing.T) {
	var l line
	batch := func() *runtime.DeliverEvents { return &runtime.DeliverEvents{Events: make([]runtime.Event, 100)} }
	var ins []runtime.Input
	for range 600 {
		ins = append(ins, batch())
	}
	l.add(ins)
	seen, rounds := map[runtime.Input]bool{}, 0
	var asked []runtime.Input
	var decided []runtime.Input
	for i := 0; !l.empty(); i++ {
		if i%3 == 0 && i < 60 { // somebody else comes
			x := &runtime.Submit{}
			asked = append(asked, x)
			l.add([]runtime.Input{x})
		}
		waits, events := l.others() > 0, 0
		for _, in := range l.next() {
			if seen[in] {
				t.Fatal("taken twice")
			}
			seen[in] = true
			switch in := in.(type) {
			case *runtime.DeliverEvents:
				events += len(in.Events)
			default:
				decided = append(decided, in)
			}
		}
		if waits && events > eventsBeside || events > eventsAlone {
			t.Fatalf("a round with %d events", events)
		}
		if l.others() > 0 {
			t.Fatal("others are left out of a round that has room")
		}
		rounds++
	}
	if len(seen) != 600+len(asked) || len(decided) != len(asked) {
		t.Fatalf("%d of %d inputs", len(seen), 600+len(asked))
	}
	for i := range asked {
		if asked[i] != decided[i] {
			t.Fatal("out of order")
		}
	}
	large := &runtime.DeliverEvents{Events: make([]runtime.Event, 5*eventsAlone)}
	l.add([]runtime.Input{large, batch()})
	if got := l.next(); len(got) != 1 || got[0] != runtime.Input(large) {
		t.Errorf("a large one: %d inputs", len(got))
	}
	if got := l.rest(); len(got) != 1 || !l.empty() {
		t.Errorf("the rest: %d", len(got))
	}
}
