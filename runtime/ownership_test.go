package runtime

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func membersOf(nodes ...string) (ms []Member) {
	for _, n := range nodes {
		ms = append(ms, Member{Node: n})
	}
	return ms
}

// In whatever order the gateways are listed, all agree.
func TestPreferredInAnyOrder(t *testing.T) {
	for p := range uint16(200) {
		want := Preferred(p, membersOf("a", "b", "c"))
		for _, order := range [][]string{{"a", "c", "b"}, {"b", "a", "c"}, {"b", "c", "a"}, {"c", "a", "b"}, {"c", "b", "a"}} {
			if got := Preferred(p, membersOf(order...)); got != want {
				t.Errorf("partition %d is of %s, and in the order %v of %s", p, want, order, got)
			}
		}
	}
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
		{"nobody owns it, and all have spoken", OwnershipView{Partition: p, Me: best, Live: live, Owner: "", Complete: true}, OwnershipClaim},
		{"nobody is known to own it, but not all have spoken", OwnershipView{Partition: p, Me: best, Live: live, Owner: "", Complete: false}, OwnershipKeep},
		{"another should have it", OwnershipView{Partition: p, Me: other, Live: live, Owner: "", Complete: true}, OwnershipKeep},
		{"it has it", OwnershipView{Partition: p, Me: best, Live: live, Owner: best, Complete: true}, OwnershipKeep},
		{"a living one has it", OwnershipView{Partition: p, Me: best, Live: live, Owner: other, Complete: true}, OwnershipAsk},
		{"a dead one had it", OwnershipView{Partition: p, Me: best, Live: live, Owner: "dead", Complete: true}, OwnershipClaim},
		{"a dead one had it, whoever has not spoken", OwnershipView{Partition: p, Me: best, Live: live, Owner: "dead", Complete: false}, OwnershipClaim},
		{"its owner leaves", OwnershipView{Partition: p, Me: heir, Live: leaving, Owner: best, Complete: true}, OwnershipAsk},
		{"it leaves itself", OwnershipView{Partition: p, Me: best, Live: leaving, Owner: "", Complete: true}, OwnershipKeep},
	} {
		if got := NextOwnershipStep(&c.v); got != c.want {
			t.Errorf("%s: %d, not %d", c.name, got, c.want)
		}
	}
	view := OwnershipView{Partition: p, Me: other, Live: live}
	if MayHandOver(&view, other, 5, 5) || !MayHandOver(&view, best, 5, 5) {
		t.Error("a partition is handed to another than the preferred one")
	}
	if MayHandOver(&view, best, 5, 0) || MayHandOver(&view, best, 5, 4) || MayHandOver(&view, best, 5, 6) {
		t.Error("a partition is handed to one that reads another log")
	}
}

// A gateway to whom another one has no way is given nothing by an owner that stays, and of
// what is left behind it takes only what nobody else can.
func TestWhoLacksAStream(t *testing.T) {
	const p = 5
	live := membersOf("a", "b", "c")
	best := Preferred(p, live)
	at := slices.IndexFunc(live, func(m Member) bool { return m.Node == best })
	owner, third := live[(at+1)%3].Node, live[(at+2)%3].Node
	view := func(me, of string, change func([]Member)) *OwnershipView {
		v := &OwnershipView{Partition: p, Me: me, Live: slices.Clone(live), Owner: of, Complete: true}
		change(v.Live)
		return v
	}
	lacks := func(whom string) func([]Member) { return func(m []Member) { m[at].Lacks = []string{whom} } }
	leaves := func(m []Member) {
		lacks(third)(m)
		m[(at+1)%3].Leaving = true
	}
	bothLack := func(m []Member) {
		leaves(m)
		m[(at+2)%3].Lacks = []string{best}
	}
	nobodyReaches := func(m []Member) { // it reaches them
		m[(at+1)%3].Lacks = []string{best}
		m[(at+2)%3].Lacks = []string{best}
	}
	for _, c := range []struct {
		name   string
		change func([]Member)
		to     string // whom a living owner may give it to
		heir   string // who takes it when the owner is dead
	}{
		{"all reach all", func([]Member) {}, best, best},
		{"it does not reach the third", lacks(third), "", ""},
		{"it does not reach one who is gone", lacks("gone"), best, best},
		{"and the owner leaves", leaves, best, best}, // both lack one
		{"none reaches the other", bothLack, best, best},
		{"nobody reaches it", nobodyReaches, "", best},
	} {
		for _, me := range []string{best, third} {
			step := OwnershipKeep
			if me == c.to {
				step = OwnershipAsk
			}
			if got := NextOwnershipStep(view(me, owner, c.change)); got != step {
				t.Errorf("%s: %s does %d, not %d", c.name, me, got, step)
			}
			if may := MayHandOver(view(owner, owner, c.change), me, 5, 5); may != (me == c.to) {
				t.Errorf("%s: it is given to %s: %v", c.name, me, may)
			}
			if c.heir == "" {
				continue
			}
			step = OwnershipKeep
			if me == c.heir {
				step = OwnershipClaim
			}
			gone := view(me, owner, c.change)
			gone.Live = slices.DeleteFunc(gone.Live, func(m Member) bool { return m.Node == owner })
			if got := NextOwnershipStep(gone); got != step {
				t.Errorf("%s, and the owner is dead: %s does %d, not %d", c.name, me, got, step)
			}
		}
	}
	four := view(best, "dead", func([]Member) {})
	four.Live = append(four.Live, membersOf("d")...)
	best = Preferred(p, four.Live)
	at = slices.IndexFunc(four.Live, func(m Member) bool { return m.Node == best })
	four.Live[at].Lacks = []string{four.Live[(at+1)%4].Node}
	if h := four.heir(); h != four.Live[(at+2)%4].Node && h != four.Live[(at+3)%4].Node {
		t.Errorf("%s is the heir, and others lack no stream", h)
	}
	best = Preferred(p, live)
	at = slices.IndexFunc(live, func(m Member) bool { return m.Node == best })
	apart := view(best, owner, lacks(third))
	if apart.Apart = []string{third}; NextOwnershipStep(apart) != OwnershipAsk {
		t.Error("one whom nobody has reached for long is waited for")
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
				if NextOwnershipStep(&v) == OwnershipAsk && MayHandOver(&OwnershipView{Partition: p, Me: owner, Live: theirs}, x.me, 5, 5) {
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

// TestWhoClaimsWhatNobodyOwns plays meshes of whom some have no stream to some, when the
// owner of all partitions has died: who claims something at once, and who if nobody
// did for long.
func TestWhoClaimsWhatNobodyOwns(t *testing.T) {
	const lease = 10
	for _, x := range []struct {
		name  string
		nodes string
		cuts  []string // pairs without a stream
		met   string   // who was reached at some time, or owns something else
		long  bool     // they have been cut for long
		once  string   // who claims at once
		late  string   // and in the end
	}{
		{"all is well", "abc", nil, "abc", true, "abc", "abc"},
		{"the last one", "a", nil, "", true, "a", "a"},
		{"one is reached by nobody", "abx", []string{"ax", "bx"}, "ab", true, "ab", "abx"},
		{"for a moment only", "abx", []string{"ax", "bx"}, "ab", false, "ab", "abx"},
		{"two remain, and one was never reached", "ax", []string{"ax"}, "a", true, "a", "ax"},
		{"two remain that have lost each other", "ab", []string{"ab"}, "ab", true, "ab", "ab"},
		{"two that nobody reaches reach each other", "abcxy", []string{"ax", "bx", "cx", "ay", "by", "cy"}, "abc", true, "abc", "abcxy"},
		{"as many as the others", "abxy", []string{"ax", "bx", "ay", "by"}, "ab", true, "ab", "abxy"},
		{"two cannot meet, the third meets both", "abc", []string{"ab"}, "abc", true, "abc", "abc"},
		{"nobody meets anybody", "abc", []string{"ab", "bc", "ac"}, "abc", true, "", "abc"},
		{"nobody ever met anybody", "ab", []string{"ab"}, "", true, "", "ab"},
	} {
		cut := map[string]bool{}
		for _, c := range x.cuts {
			cut[c], cut[c[1:]+c[:1]] = true, true
		}
		for _, late := range []bool{false, true} {
			got, waits := "", map[uint16]bool{}
			for _, me := range x.nodes {
				claims := false
				for p := range uint16(64) {
					v := OwnershipView{Partition: p, Me: string(me), Owner: "dead", Met: strings.ContainsRune(x.met, me), Lease: lease}
					if late {
						v.Vacant = loneTries * lease
					}
					for _, n := range x.nodes {
						v.Live = append(v.Live, Member{Node: string(n)})
						reached := n == me
						for _, via := range x.nodes {
							reached = reached || !cut[string(me)+string(via)] && !cut[string(via)+string(n)]
						}
						if reached {
							continue
						}
						if v.Cut = append(v.Cut, string(n)); x.long {
							v.Apart = append(v.Apart, string(n))
						}
					}
					if NextOwnershipStep(&v) == OwnershipClaim {
						claims, waits[p] = true, true
					}
				}
				if claims {
					got += string(me)
				}
			}
			if want := map[bool]string{false: x.once, true: x.late}[late]; got != want {
				t.Errorf("%s, late %v: %q claim, not %q", x.name, late, got, want)
			}
			if n := len(waits); n < 64 && (late || x.once != "" && x.long) {
				t.Errorf("%s, late %v: %d of 64 partitions are claimed", x.name, late, n)
			}
		}
	}
}

// TestApartOwners: nobody asks an owner that it does not reach, nobody claims from it,
// and one that cannot write to a log comes behind one that is not reached.
func TestApartOwners(t *testing.T) {
	for p := range uint16(16) {
		live := membersOf("a", "b")
		if got := NextOwnershipStep(&OwnershipView{Partition: p, Me: "a", Live: live, Owner: "b", Complete: true, Cut: []string{"b"}, Apart: []string{"b"}, Vacant: 1000, Lease: 1}); got != OwnershipKeep {
			t.Errorf("partition %d: %d", p, got)
		}
		v := OwnershipView{Partition: p, Me: "a", Live: live[:1], Owner: "b", Complete: true, Cut: []string{"b"}, Apart: []string{"b"}, Stale: true, Vacant: 1000, Lease: 1}
		if got := NextOwnershipStep(&v); got != OwnershipKeep {
			t.Errorf("partition %d, without the list: %d", p, got)
		}
		if v.Met = true; NextOwnershipStep(&v) != OwnershipClaim {
			t.Errorf("partition %d is left alone by one that was reached", p)
		}
		live[0].Shuns = []uint16{p}
		if got := NextOwnershipStep(&OwnershipView{Partition: p, Me: "a", Live: live, Owner: "gone", Complete: true, Cut: []string{"b"}, Apart: []string{"b"}, Vacant: 1000, Lease: 1}); got != OwnershipKeep {
			t.Errorf("partition %d, to which it cannot write: %d", p, got)
		}
	}
}
