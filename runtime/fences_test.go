package runtime

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// asked is the answer to a part of a fence question.
func (b *bench) asked(in *FenceAsk) *FenceAnswered {
	for _, e := range b.step(in) {
		if x, ok := e.Value.(*FenceAnswered); ok {
			return x
		}
	}
	return nil
}

// called submits a call that requests of partition 1 have made, and returns its id.
func (b *bench) called(epoch uint64, parents ...ID) ID {
	b.n++
	a := actorIn(0, 2, "C").target()
	id := NewID(b.now.Wall, 0, "dp", [6]byte{1, byte(b.n >> 16), byte(b.n >> 8), byte(b.n)})
	b.step(&Submit{Request: Request{ID: id, Target: a, Method: "POST"}, Vouched: &Vouched{Flow: parents[0], Parents: parents, Partition: 1, Epoch: epoch}, Waiter: b.n})
	return id
}

func someIDs(n int) (ids []ID) {
	for i := range n {
		ids = append(ids, NewID(1767225600000, 1, "dp", [6]byte{2, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	return ids
}

// However many calls of a partition are open, they are named in parts with a bound,
// each pair in at least one, and calls of others are not looked at. Another owner
// begins anew.
func TestFenceIsAnsweredInParts(t *testing.T) {
	const n, most = 2*fenceChildren + 10, 2 * fenceChildren
	b := newBench(t, Config{Partitions: 2})
	b.c.enrolled = 1 << 40 // much has come and gone that the next owner does not meet
	parents := someIDs(n)
	want := map[PendingChild]bool{}
	for i := range n {
		want[PendingChild{Parent: parents[i], Child: b.called(1, parents[i])}] = true
	}
	for range 3 {
		child := b.called(1, parents[:3000]...)
		for _, p := range parents[:3000] {
			want[PendingChild{Parent: p, Child: child}] = true
		}
	}
	b.called(2, parents[0]) // of the term that asks
	local := b.submit(Request{Target: actorIn(0, 2, "A").target()})
	got := map[PendingChild]bool{}
	parts := 0
	ask := &FenceAsk{From: 1, Epoch: 2, Part: 1}
	hear := func() bool {
		x := b.asked(ask)
		if x == nil || x.Part != ask.Part || len(x.Pending) > most {
			t.Fatalf("part %d is answered by %d pairs", ask.Part, len(x.Pending))
		}
		if parts++; parts > 20 {
			t.Fatal("the answer does not end")
		}
		for _, p := range x.Pending {
			got[p] = true
		}
		ask.Part, ask.Term, ask.After = ask.Part+1, x.Term, x.Next
		return x.Next != 0
	}
	if !hear() || b.c.fences[1] != 2 {
		t.Fatal("all is in one part, or the door is open")
	}
	if e := b.c.entries[b.called(1, parents[0])]; e != nil {
		t.Error("a call of an earlier term is accepted behind the fence")
	}
	b.restart()
	for hear() {
	}
	for p := range want {
		if !got[p] {
			t.Fatalf("%d of %d pairs are named", len(got), len(want))
		}
	}
	if len(got) != len(want) || b.c.entries[local.req.ID] == nil {
		t.Errorf("%d pairs are named, %d are open", len(got), len(want))
	}
	old := b.asked(&FenceAsk{From: 1, Epoch: 2})
	if len(old.Pending) != len(want) || old.Next != 0 {
		t.Errorf("an owner of level 1 hears of %d pairs", len(old.Pending))
	}
	for _, from := range []uint16{0, 2, 65535} {
		if b.asked(&FenceAsk{From: from, Epoch: 9, Part: 1}) != nil || b.c.fences[from] != 0 {
			t.Errorf("partition %d is answered", from)
		}
	}
}

// Who asks hears the parts one after the other, each once; a child is watched once,
// and nothing is retried before the last part has come. Apps are asked about in
// parts, too.
func TestFenceIsAskedInParts(t *testing.T) {
	const apps = 2*fenceApps + 1
	b := newBench(t, Config{Partitions: 2})
	b.host("h1")
	e := b.submit(Request{Target: actorIn(0, 2, "A").target()})
	for i := range apps - 1 {
		b.n++
		app := fmt.Sprint("app", i)
		id := NewID(b.now.Wall, 0, app, [6]byte{3, byte(i >> 8), byte(i)})
		b.step(&Submit{Request: Request{ID: id, Target: Target{App: app, Service: "s"}, Method: "POST"}, Waiter: b.n})
	}
	b.restart()
	b.step(&HostDown{Boot: "h1"})
	b.host("h2")
	e = b.c.entries[e.req.ID]
	var last *FenceAsk
	named, watched := 0, map[ID]int{}
	look := func(effects []Effect) {
		for _, x := range effects {
			if ask, ok := x.Value.(*FenceAsk); ok {
				last = ask
			}
			if x.Kind == WatchChild {
				watched[x.ID]++
				if !slices.Equal(x.Value.([]ID), []ID{e.req.ID}) {
					t.Errorf("%v is watched for %v", x.ID, x.Value)
				}
			}
		}
	}
	again := func() {
		b.now.Mono += 1000 - b.now.Mono%200
		look(b.step(&Tick{}))
		b.now.Mono += 1200
		look(b.step(&HostsBeat{Boots: []string{"h2"}}))
		look(b.step(&Tick{}))
	}
	again()
	children := someIDs(2)
	for part := uint32(1); part <= 3; part++ {
		if last == nil || last.Part != part || len(last.Apps) > fenceApps {
			t.Fatalf("part %d: %+v", part, last)
		}
		named += len(last.Apps)
		ask := *last
		x := &FenceAnswered{From: 1, Epoch: ask.Epoch, Part: part, Term: 7}
		if part == 1 {
			x.Next, x.Pending = 5, []PendingChild{{Parent: e.req.ID, Child: children[0]}, {Parent: someIDs(9)[8], Child: children[0]}, {Parent: e.req.ID, Child: children[1]}}
		} else if part == 2 { // another owner names it anew
			x.Pending = []PendingChild{{Parent: e.req.ID, Child: children[1]}}
		}
		look(b.step(x))
		look(b.step(x))
		if part == 1 && (last.Term != 7 || last.After != 5) || part == 2 && last.After != allChildren {
			t.Errorf("behind part %d: %+v", part, last)
		}
		if part < 3 && (len(b.c.fenceWait) != 1 || e.phase != stopped) {
			t.Errorf("after part %d the request is %v", part, e.phase)
		}
	}
	if named != apps || len(b.c.fenceWait) != 0 || len(watched) != 2 || watched[children[0]] != 1 || watched[children[1]] != 1 {
		t.Errorf("%d apps are named, %d partitions waited for, watched %v", named, len(b.c.fenceWait), watched)
	}
	for _, id := range children {
		look(b.step(&ChildClosed{Parents: []ID{e.req.ID}, Child: id}))
	}
	if e.phase != running || e.attempt != 2 {
		t.Errorf("the request is %v, attempt %d", e.phase, e.attempt)
	}
}

// A call of the term before stands in the answer to the fence, and somebody has asked for
// it again in this term. That its question was answered before the call came there, says
// nothing about the call: the caller's retry waits for it, and it is watched.
func TestFenceNamesACallThatIsAskedForAgain(t *testing.T) {
	for _, askers := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {2, 1}} { // before the answer, and behind it
		s := newSolo(t, Config{Partitions: 2})
		s.host("h1")
		to := actorIn(0, 2, "A").target()
		parent := s.id(to)
		s.do(&Submit{Request: Request{ID: parent, Kind: Tell, Target: to, Method: "POST", Path: "/m"}, Waiter: 1})
		e := s.c.entries[parent]
		running, session := s.c.attemptOf(e), s.c.sessionOf(e)
		s.reown()
		s.do(&HostJoined{Info: HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000}, Join: JoinAnswer{Running: []Attempt{running}}})
		there := actorIn(1, 2, "B").target()
		child := NewID(s.now.Wall, 1, "dp", [6]byte{9})
		ask := func(n int) {
			for range n {
				s.do(&Vouch{Request: Request{ID: child, Target: there, Session: session, Boot: "h1"}, Waiter: 2})
			}
		}
		ask(askers[0])
		watched := 0
		q := s.c.fenceWait[1]
		for _, x := range s.do(&FenceAnswered{From: 1, Epoch: s.c.epoch, Part: q.part, Pending: []PendingChild{{Parent: parent, Child: child, Step: 1}}}) {
			if x.Kind == WatchChild && x.ID == child {
				watched++
			}
		}
		ask(askers[1])
		for range askers[0] + askers[1] {
			s.do(&ChildClosed{Parents: []ID{parent}, Child: child, App: "dp", Asker: s.c.epoch})
		}
		s.do(&HostDown{Boot: "h1", Reason: "exit"})
		s.host("h2")
		attempt := func() uint32 {
			for range 5 {
				s.pass(5 * time.Minute)
				s.do(&HostsBeat{Boots: []string{"h2"}})
				s.do(&Tick{})
			}
			return s.c.entries[parent].attempt
		}
		if n := attempt(); n > 1 || watched != 1 {
			t.Errorf("asked for %v times: the caller makes attempt %d while its call, which %d watch, is open", askers, n, watched)
		}
		s.do(&ChildClosed{Parents: []ID{parent}, Child: child, App: "dp"})
		s.host("h3")
		if n := attempt(); n != 2 {
			t.Errorf("asked for %v times: when its call has ended the caller makes attempt %d", askers, n)
		}
	}
}

// The answer to the fence names what was called in the terms before, of each kind: open
// here, gone on elsewhere, or waiting under a key. What the asker's own term has called
// has its owner to remember it.
func TestFenceNamesCallsOfEarlierTerms(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	s.host("h1")
	there := actorIn(0, 2, "B").target()
	caller := NewID(s.now.Wall, 1, "dp", [6]byte{9})
	call := func(epoch uint64, to Target, key string) ID {
		id := s.id(to)
		v := &Vouched{Flow: caller, Parents: []ID{caller}, Partition: 1, Epoch: epoch}
		s.do(&Submit{Request: Request{ID: id, Target: to, Method: "POST", Path: "/m", Key: key}, Vouched: v, View: &View{}, Waiter: s.ids})
		return id
	}
	gone := func(epoch uint64) ID {
		id := call(epoch, Actor{"dp", "A", actorIn(0, 2, "A").ID}.target(), "")
		s.end(Outcome{Status: 200, Body: tailCallBody(actorIn(1, 2, "B").target(), "/x", false)})
		if s.c.homes[id] == nil {
			t.Fatal("the chain has not gone")
		}
		return id
	}
	s.do(&Submit{Request: Request{ID: s.id(there), Target: there, Method: "POST", Path: "/m", Key: "k", NotBefore: s.now.Wall + 60_000}, View: &View{}, Waiter: 1})
	old := []ID{gone(1), call(1, there, "k")}
	gone(2)
	call(2, there, "k")
	old = append(old, call(1, there, ""))
	call(2, there, "")
	var named []ID
	for _, e := range s.do(&FenceAsk{From: 1, Epoch: 2, Part: 1}) {
		if x, ok := e.Value.(*FenceAnswered); ok {
			for _, p := range x.Pending {
				named = append(named, p.Child)
			}
		}
	}
	sortIDs(old)
	sortIDs(named)
	if !slices.Equal(named, old) {
		t.Errorf("%v are named, of an earlier term are %v", named, old)
	}
}
