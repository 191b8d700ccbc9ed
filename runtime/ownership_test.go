package runtime

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func membersOf(nodes ...string) (ms []Member) {
	for _, n := range nodes {
		ms = append(ms, Member{Node: n})
	}
	return ms
}

// Rendezvous hashing: all are used alike, and a gateway that comes or goes
// moves only its own share.
func TestPreferredMovesOnlyItsShare(t *testing.T) {
	three, four := membersOf("a", "b", "c"), membersOf("a", "b", "c", "d")
	count, moved := map[string]int{}, 0
	const n = 6400
	for p := range n {
		x, y := Preferred(uint16(p), three), Preferred(uint16(p), four)
		count[x]++
		if x != y {
			moved++
			if y != "d" {
				t.Fatalf("partition %d moved from %s to %s", p, x, y)
			}
		}
	}
	for node, c := range count {
		if c < n/3-n/20 || c > n/3+n/20 {
			t.Errorf("%s has %d of %d", node, c, n)
		}
	}
	if moved < n/4-n/20 || moved > n/4+n/20 {
		t.Errorf("%d of %d moved to the fourth", moved, n)
	}
	if got := Preferred(1, []Member{{Node: "a", Leaving: true}}); got != "" {
		t.Errorf("a gateway that leaves is preferred: %s", got)
	}
}

func TestNextOwnershipStep(t *testing.T) {
	const p = 5
	live := membersOf("a", "b", "c")
	best := Preferred(p, live)
	other := "a"
	if best == "a" {
		other = "b"
	}
	leaving := membersOf("a", "b", "c")
	for i := range leaving {
		leaving[i].Leaving = leaving[i].Node == best
	}
	heir := Preferred(p, leaving)
	for _, c := range []struct {
		name string
		v    OwnershipView
		want OwnershipStep
	}{
		{"nobody owns it, and all have spoken", OwnershipView{p, best, live, "", true}, OwnershipClaim},
		{"nobody is known to own it, but not all have spoken", OwnershipView{p, best, live, "", false}, OwnershipKeep},
		{"another should have it", OwnershipView{p, other, live, "", true}, OwnershipKeep},
		{"it has it", OwnershipView{p, best, live, best, true}, OwnershipKeep},
		{"a living one has it", OwnershipView{p, best, live, other, true}, OwnershipAsk},
		{"a dead one had it", OwnershipView{p, best, live, "dead", true}, OwnershipClaim},
		{"a dead one had it, whoever has not spoken", OwnershipView{p, best, live, "dead", false}, OwnershipClaim},
		{"its owner leaves", OwnershipView{p, heir, leaving, best, true}, OwnershipAsk},
		{"it leaves itself", OwnershipView{p, best, leaving, "", true}, OwnershipKeep},
	} {
		if got := NextOwnershipStep(&c.v); got != c.want {
			t.Errorf("%s: %d, not %d", c.name, got, c.want)
		}
	}
	if MayHandOver(p, other, live, 5, 5) || !MayHandOver(p, best, live, 5, 5) {
		t.Error("a partition is handed to another than the preferred one")
	}
	if MayHandOver(p, best, live, 5, 0) || MayHandOver(p, best, live, 5, 4) || MayHandOver(p, best, live, 5, 6) {
		t.Error("a partition is handed to one that reads another log")
	}
}

// Two gateways that see different members do not take a partition from each
// other in turn: one of them has it in the owner's eyes, the other is refused.
func TestOwnersThatDisagreeDoNotFlap(t *testing.T) {
	for p := range uint16(64) {
		a := membersOf("a", "b")      // as a sees it
		b := membersOf("a", "b", "c") // as b sees it
		owner, moves := "a", 0
		for range 10 {
			for _, x := range []struct {
				me   string
				list []Member
			}{{"a", a}, {"b", b}} {
				v := OwnershipView{Partition: p, Me: x.me, Live: x.list, Owner: owner, Complete: true}
				theirs := a
				if owner == "b" {
					theirs = b
				}
				if NextOwnershipStep(&v) == OwnershipAsk && MayHandOver(p, x.me, theirs, 5, 5) {
					owner, moves = x.me, moves+1
				}
			}
		}
		if moves > 1 {
			t.Errorf("partition %d moved %d times", p, moves)
		}
	}
}

func TestClaimEpoch(t *testing.T) {
	c := New(Config{Mesh: "m", Partitions: 1, Node: "n"})
	claim := c.Claim(Now{Wall: 1})
	if e, ok := ClaimEpoch(claim); !ok || e != 1 {
		t.Errorf("%d %v", e, ok)
	}
	if _, err := c.Fold(claim); err != nil {
		t.Fatal(err)
	}
	if !c.Own(Now{Wall: 1, Mono: 1}, 0) {
		t.Fatal("not the owner")
	}
	c.Step(Now{Wall: 2, Mono: 2}, &Prove{})
	records, _ := c.Take()
	if len(records) != 1 {
		t.Fatal(fmt.Sprint(len(records), " records"))
	}
	if _, ok := ClaimEpoch(records[0]); ok {
		t.Error("another record is taken for a claim")
	}
	if _, ok := ClaimEpoch([]byte("rubbish")); ok {
		t.Error("rubbish is taken for a claim")
	}
}

// Somebody else's record in the log, or an empty one, is void: it must not keep
// a partition from being owned. One of the owner that this version does not know
// must.
func TestStrangeRecordsAreVoid(t *testing.T) {
	c := New(Config{Mesh: "m", Partitions: 1, Node: "n"})
	claim := c.Claim(Now{Wall: 1})
	if _, err := c.Fold(claim); err != nil {
		t.Fatal(err)
	}
	unknown := func(epoch, owner, seq uint64) []byte {
		return encode(nil, &envelope{kind: 60, epoch: epoch, owner: owner, seq: seq, message: &alive{}})
	}
	for _, b := range [][]byte{{}, unknown(1, c.me+1, 2), unknown(0, c.me, 2), unknown(1, c.me, 7)} {
		if valid, err := c.Fold(b); valid || err != nil {
			t.Errorf("%x: %v %v", b, valid, err)
		}
	}
	var e *Error
	if _, err := c.Fold(unknown(1, c.me, 2)); !errors.As(err, &e) || e.Code != CodeNewerFormat {
		t.Errorf("the owner's: %v", err)
	}
}

func TestAnswersAtOnce(t *testing.T) {
	for _, x := range []struct {
		what          string
		step          OwnershipStep
		from, claimed uint64
		want          bool
	}{
		{"the first owner", OwnershipClaim, 0, 1, true},
		{"handed over", OwnershipAsk, 4, 5, true},
		{"handed over by one that had another term", OwnershipAsk, 4, 6, false},
		{"claimed from one that does not answer", OwnershipClaim, 4, 5, false},
		{"claimed from one that is not known", OwnershipClaim, 0, 5, false},
	} {
		if got := AnswersAtOnce(x.step, x.from, x.claimed); got != x.want {
			t.Errorf("%s: %v", x.what, got)
		}
	}
}

func TestNextWriteStep(t *testing.T) {
	at := func(change func(*WriteView)) WriteView {
		v := WriteView{Failing: 50, Lease: 10, Heir: true, Heirs: true, Takes: true}
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		v    WriteView
		want WriteStep
	}{
		"an owner, not for long":                         {at(func(v *WriteView) { v.Owner, v.Failing = true, 49 }), WriteOn},
		"a taker, not for long":                          {at(func(v *WriteView) { v.Failing = 29 }), WriteOn},
		"a taker, for less than an owner":                {at(func(v *WriteView) { v.Failing = 30 }), WriteShun},
		"an owner":                                       {at(func(v *WriteView) { v.Owner = true }), WriteShun},
		"an owner, and the others have failed":           {at(func(v *WriteView) { v.Owner, v.Heir = true, false }), WriteOn},
		"alone":                                          {at(func(v *WriteView) { v.Owner, v.Heir, v.Heirs, v.Takes = true, false, false, false }), WriteOn},
		"an owner, and no log takes anything":            {at(func(v *WriteView) { v.Owner, v.Takes = true, false }), WriteUnfit},
		"the same, and others have failed with this one": {at(func(v *WriteView) { v.Owner, v.Takes, v.Heir = true, false, false }), WriteUnfit},
		"a taker that owns others, and no log takes":     {at(func(v *WriteView) { v.Failing, v.Takes = 30, false }), WriteShun},
		"the same, for long":                             {at(func(v *WriteView) { v.Takes = false }), WriteUnfit},
		"a taker that owns nothing, and no log takes":    {at(func(v *WriteView) { v.Failing, v.Takes, v.OwnsNone = 30, false, true }), WriteUnfit},
	} {
		if got := NextWriteStep(&c.v); got != c.want {
			t.Errorf("%s: %d, not %d", name, got, c.want)
		}
	}
	for n := range 10 {
		if a, b := ShunFor(n, 10), ShunFor(n+1, 10); a < 10*ownerTries || b < a || b > 20480 {
			t.Errorf("after %d and %d times: %d and %d", n, n+1, a, b)
		}
	}
}

// TestPreferredMovesOnWhereSomebodyCannotWrite, and comes back when nobody can.
func TestPreferredMovesOnWhereSomebodyCannotWrite(t *testing.T) {
	live := membersOf("a", "b", "c")
	const p = 5
	first := Preferred(p, live)
	var round []string
	for range live {
		best := Preferred(p, live)
		if slices.Contains(round, best) {
			t.Fatalf("%s again, after %v", best, round)
		}
		round = append(round, best)
		for i := range live {
			if live[i].Node == best {
				live[i].Shuns = []uint16{1, p}
			}
		}
	}
	if last := Preferred(p, live); last != first {
		t.Errorf("all have failed, and it is %s, not %s", last, first)
	}
	if Preferred(6, live) != Preferred(6, membersOf("a", "b", "c")) {
		t.Error("another partition moves")
	}
}

// TestVoidRecord means nothing to who folds the log.
func TestVoidRecord(t *testing.T) {
	c := New(Config{Mesh: "m", Partitions: 1, Node: "n"})
	claim := c.Claim(Now{Wall: 1, Mono: 1})
	for _, b := range [][]byte{VoidRecord(), claim, VoidRecord(), VoidRecord()} {
		valid, err := c.Fold(b)
		if err != nil || valid != (string(b) == string(claim)) {
			t.Error(valid, err)
		}
	}
	if !c.Own(Now{Wall: 2, Mono: 2}, 0) || c.Epoch() != 1 {
		t.Error("the claim does not count")
	}
	if n, is := ClaimEpoch(VoidRecord()); is && n > 0 {
		t.Error("it deposes somebody")
	}
}
