package runtime

import (
	"fmt"
	"testing"
)

// All subscriptions of an actor are removed in pieces, also when the log is trimmed meanwhile.
func TestUnsubscribeInPiecesOverTrims(t *testing.T) {
	now := Now{Wall: 1767225600000, Mono: 1_000_000}
	c := New(Config{Mesh: "t", Partitions: 1, Lease: 6000, IDWindow: 600_000, ResultRetention: 86_400_000, Node: "n"})
	if _, err := c.Fold(c.Claim(now)); err != nil {
		t.Fatal(err)
	}
	c.Own(now, 0)
	a := Actor{"dp", "A", "1"}
	for i := range 3000 {
		c.Step(now, &Subscribe{Subscription: Subscription{Actor: a, ID: fmt.Sprintf("s%05d", i), Path: "/m", Topic: "t"}})
	}
	c.Take()
	c.Step(now, &Unsubscribe{Actor: a, Waiter: "w"})
	c.Step(now, &Keep{Before: c.seq + 1, Limit: 512}) // one batch of the trimmer
	said := any(nil)
	for range 10 {
		now.Mono, now.Wall = now.Mono+200, now.Wall+200
		c.Step(now, &Tick{})
	}
	_, effects := c.Take()
	for _, e := range effects {
		if e.Kind == Reply && e.Waiter == "w" {
			said = e.Value
		}
	}
	if n := len(c.subs[a]); n > 0 {
		t.Errorf("the answer was %v removed, and %d of 3000 are left", said, n)
	}
}
