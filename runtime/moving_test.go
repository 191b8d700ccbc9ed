package runtime

import (
	"strings"
	"testing"
)

// A subscription that moves to another group makes no record that the log refuses.
func TestMovingSubscriptionIsNotTooLarge(t *testing.T) {
	const limit = 1 << 20
	cfg := Config{Mesh: "t", Partitions: 4, Lease: 6000, IDWindow: 600_000, ResultRetention: 86_400_000, RecordLimit: limit, Node: "n"}
	a := Actor{"dp", "A", "1"}
	cfg.Partition = ActorPartition(a, 4)
	c := New(cfg)
	if _, err := c.Fold(c.Claim(Now{1767225600000, 1000})); err != nil {
		t.Fatal(err)
	}
	c.Own(Now{1767225600000, 1000}, 0)
	c.Take()
	big := (limit-recordMargin)/2 - 400
	made := 0
	for i := 0; made < 2; i++ {
		s := Subscription{Actor: a, ID: "s", Path: "/m", Topic: "t", Group: strings.Repeat("g", big) + string(rune('a'+i))}
		if GroupPartition(&s, 4) == cfg.Partition {
			continue
		}
		made++
		c.Step(Now{1767225600000, 1000}, &Subscribe{Subscription: s, Waiter: "w"})
		records, _ := c.Take()
		for _, r := range records {
			if len(r) > limit {
				t.Errorf("a record of %d bytes, the log takes %d", len(r), limit)
			}
		}
	}
}
